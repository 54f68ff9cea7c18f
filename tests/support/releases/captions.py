"""Photos, figures and screens with captions: two or three a split."""

import csv
import json

from tests.support.releases import pictures
from transfers import coco35l as transfer

SAID = ("A red kite over a flat green field.", "two boats near the shore \n")
COCO = (
  ("train", "train2014", (1, 2, 3)),
  ("restval", "val2014", (101,)),
  ("val", "val2014", (102, 103)),
  ("test", "val2014", (104, 105)),
)


def cococap(raw):
  """Writes Karpathy's list, and captions and photos of both sets."""
  photos, captions = [], {"train2014": [], "val2014": []}
  for split, folder, ids in COCO:
    for id in ids:
      photos.append(karpathy(raw, split, folder, id))
      captions[folder] += [
        dict(image_id=id, id=10 * id + n, caption=f"{id} {said}")
        for n, said in enumerate(SAID)
      ]
  write(raw / "dataset_coco.json", dict(images=photos, dataset="coco"))
  for folder, annotations in captions.items():
    write(
      raw / f"annotations/captions_{folder}.json",
      dict(info={}, licenses=[], images=[], annotations=annotations),
    )


def karpathy(raw, split, folder, id):
  """Writes a photo and returns what dataset_coco.json says of it."""
  name = f"COCO_{folder}_{id:012d}.jpg"
  pictures.write(raw / folder / name, (40, 32 + id % 7), id)
  said = dict(tokens=["a", "red", "kite"], raw=SAID[0], imgid=id, sentid=id)
  return dict(
    filepath=folder,
    filename=name,
    cocoid=id,
    imgid=id,
    split=split,
    sentids=[id],
    sentences=[said],
  )


def nocaps(raw):
  """Writes captions of val, and photos of val and test."""
  for split, folder, file in (
    ("val", "validation", "nocaps_val_4500_captions.json"),
    ("test", "test", "nocaps_test_image_info.json"),
  ):
    photos, annotations = [], []
    for id in (0, 1):
      name = f"00ab12cd34ef56{id:02d}.jpg"
      pictures.write(raw / folder / name, (36 + id, 30), id)
      photos.append(
        dict(
          id=id,
          file_name=name,
          coco_url=f"https://example.org/{name}",
          open_images_id=name[:-4],
          domain="in-domain",
          width=36 + id,
          height=30,
        )
      )
      annotations += [
        dict(image_id=id, id=id, caption=f"{s} {id}") for s in SAID
      ]
    more = dict(annotations=annotations) if split == "val" else {}
    write(raw / file, dict(info={}, licenses=[], images=photos, **more))


def coco35l(raw):
  """Writes two photos a part, with captions in all languages."""
  photos = []
  for part, split, ids in (
    ("train", "train", (1, 2)),
    ("dev", "val", (102, 103)),
  ):
    rows = []
    for id in ids:
      folder = "train2014" if part == "train" else "val2014"
      photos.append(karpathy(raw, split, folder, id))
      rows += [
        dict(
          image_id=f"{id}_{n}",
          src_lang="en",
          trg_lang=language,
          caption_tokenized=f"{id} red kite .",
          translation_tokenized=f"{language} {id} kite {n} .",
          backtranslation_tokenized="A kite .",
        )
        for n in (0, 1)
        for language in transfer.LANGUAGES
        if language != "en"
      ]
    lines(raw / f"coco_mt_{part}.jsonl", rows)
  write(raw / "dataset_coco.json", dict(images=photos, dataset="coco"))


def xm3600(raw):
  """Writes two photos with captions in all languages."""
  rows = []
  for i in (0, 1):
    key = f"00ab12cd34ef56{i:02d}"
    pictures.write(raw / f"images/{key}.jpg", (33, 40 + i), i)
    row = {"image/key": key, "image/locale": "de"}
    for language in transfer.XM3600:
      row[language] = {
        "caption": [f"{language} boat {i}.", f"Two boats {i}."],
        "caption/tokenized": [f"{language} boat {i} .", f"Two boats {i} ."],
        "caption/tokenized/lowercase": [f"{language} boat {i} ."],
      }
    rows.append(row)
  lines(raw / "captions.jsonl", rows)


def textcaps(raw):
  """Writes two photos a split; those of val are with those of train."""
  for number, split in enumerate(("train", "val", "test")):
    folder = "test_images" if split == "test" else "train_images"
    rows = []
    for i in range(4):
      name = f"00ab12cd34ef5{number}{i // 2:02d}"
      pictures.write(raw / folder / f"{name}.jpg", (44, 31 + i // 2), i // 2)
      row = dict(
        image_id=name,
        image_classes=["Book"],
        image_width=44,
        image_height=31,
        set_name=split,
        image_name=name,
        image_path=f"{split}/{name}.jpg",
      )
      if split != "test":
        row["caption_id"] = 100000000 * (number + 1) + i
        row["caption_str"] = f"A green book titled Maps {i}."
        row["caption_tokens"] = ["<s>", "a", "green", "book"]
        row["reference_strs"] = [row["caption_str"]] * 5
        row["reference_tokens"] = [row["caption_tokens"]] * 5
      rows.append(row)
    made = dict(
      dataset_type=split, dataset_name="textcaps", dataset_version=0.1
    )
    write(raw / f"TextCaps_0.1_{split}.json", dict(made, data=rows))


def scicap(raw):
  """Writes two figures a split, in folders as the archive spells them."""
  raw = raw / "scicap_data"
  for number, split in enumerate(("train", "val", "test")):
    names = []
    for i in (1, 2):
      figure = f"200{number}.00001v1-Figure{i}-1"
      names.append(f"{figure}.png")
      folder = raw / f"SciCap-No-Subfig-Img/{split}"
      pictures.write(folder / names[-1], (50, 30 + i), i)
      said = dict(caption=f"loss against steps {i} .", sentence=[], token=[])
      numbers, equations = (
        {**said, "caption": f"loss against {word} ."}
        for word in ("NUM", "EQUATION")
      )
      write(
        raw / f"SciCap-Caption-All/{split}/{figure}.json",
        {
          "contains-subfigure": False,
          "Img-text": ["x"],
          "paper-ID": f"200{number}.00001v1",
          "figure-ID": names[-1],
          "figure-type": "Graph Plot",
          "0-originally-extracted": f"Figure {i}: Loss against steps {i}.",
          "1-lowercase-and-token-and-remove-figure-index": said,
          "2-normalized": {
            "2-1-basic-num": numbers,
            "2-2-advanced-euqation-bracket": equations,
          },
        },
      )
    lists = raw / "List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig"
    write(lists / split / "file_idx.json", names)


SCREENS = dict(train=(50001, 50002), dev=(50003, 50004), test=(50005, 50006))


def screen2words(raw):
  """Writes two screens a split."""
  rows = [("screenId", "summary")]
  for split, ids in SCREENS.items():
    for id in ids:
      pictures.write(raw / f"combined/{id}.jpg", (27, 48), id)
      rows += [
        (id, f"settings page, with sounds {id}"),
        (id, f"list of sounds {id}"),
      ]
    split_file(raw / f"split/{split}_screens.txt", ids)
  table(raw / "screen_summaries.csv", rows)


def widgetcap(raw):
  """Writes two widgets of two screens a split, and one that isn't public."""
  rows = [("datasetId", "screenId", "nodeId", "captions")]
  for split, ids in SCREENS.items():
    for id in ids:
      pictures.write(raw / f"combined/{id}.jpg", (54, 96), id)
      inner = dict(bounds=[0, 84, 1440, 280], children=[])
      outer = dict(bounds=[0, 0, 1440, 1280], children=[inner])
      root = dict(bounds=[0, 0, 1440, 2560], children=[outer])
      write(raw / f"combined/{id}.json", dict(activity=dict(root=root)))
      rows.append(("rico", id, "0.0.0", "open the menu|menu button"))
      rows.append(("rico", id, "0.0", f"half of screen {id}"))
    split_file(raw / f"split/{split}.txt", ids)
  rows.append(("nr", 50001, "0.7", "not public"))
  table(raw / "widget_captions.csv", rows)


def docci(raw):
  """Writes two photos a split, and one of another set."""
  rows = []
  for name, split in (
    ("train", "train"),
    ("test", "test"),
    ("qual_dev", "qual_dev"),
    ("qual_test", "qual_test"),
    ("aar_train", "train"),
  ):
    for i in (1, 2):
      id = f"{name}_{i:05}"
      if name != "aar_train":
        pictures.write(raw / f"images/{id}.jpg", (40 + i, 30), i)
      rows.append(
        dict(
          split=split,
          example_id=id,
          image_file=f"{id}.jpg",
          description=f"A close view of {id}. It is red.",
        )
      )
  lines(raw / "docci_descriptions.jsonlines", rows)


def write(path, made):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(made), encoding="utf-8")


def lines(path, rows):
  with open(path, "w", encoding="utf-8") as f:
    f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(path, rows):
  with open(path, "w", encoding="utf-8", newline="") as f:
    csv.writer(f).writerows(rows)


def split_file(path, ids):
  path.parent.mkdir(exist_ok=True)
  path.write_text("".join(f"{id}\n" for id in ids), encoding="utf-8")


ROWS = dict(
  cococap=cococap,
  nocaps=nocaps,
  coco35l=coco35l,
  xm3600=xm3600,
  textcaps=textcaps,
  scicap=scicap,
  screen2words=screen2words,
  widgetcap=widgetcap,
  docci=docci,
)
PREPARES = dict(cococap=["cococap", "nocaps"], coco35l=["coco35l", "xm3600"])
