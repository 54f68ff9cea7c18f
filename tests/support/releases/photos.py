"""Questions about photos, a handful a split."""

import io
import json

from PIL import Image

from tests.support.releases import pictures

ASKED = ("What color is the kite?", "Who can fly it?", "Where is the kite?")
SAID = ("red", "a child", "in the air")
COCO = "COCO_{0}_{1:012d}.jpg"


def okvqa(raw):
  """Writes questions, annotations and photos of train and val."""
  for number, year in enumerate(("train2014", "val2014")):
    questions, annotations = [], []
    for i in range(6):
      image_id = photo(raw, year, 100 * number + i // 3 + 1, COCO)
      id = 10 * image_id + i
      questions.append(
        dict(image_id=image_id, question=ASKED[i % 3], question_id=id)
      )
      annotations.append(_okvqa_answers(image_id, id, SAID[i % 3]))
    shared = dict(info={}, license={}, data_subtype=year, data_type="mscoco")
    write(
      raw / f"OpenEnded_mscoco_{year}_questions.json",
      dict(shared, task_type="Open-Ended", questions=questions),
    )
    write(
      raw / f"mscoco_{year}_annotations.json",
      dict(shared, annotations=annotations),
    )


def _okvqa_answers(image_id, id, said):
  answers = [
    dict(
      answer_id=n,
      raw_answer=f"{said}s",
      answer_confidence="no" if n == 10 else "yes",
      answer=said if n < 8 else "kite",
    )
    for n in range(1, 11)
  ]
  return dict(
    image_id=image_id,
    answer_type="other",
    question_type="four",
    question_id=id,
    answers=answers,
    confidence=3,
  )


def aokvqa(raw):
  """Writes questions with choices and photos of all three sets."""
  for number, split in enumerate(("train", "val", "test")):
    rows = []
    for i in range(4):
      image_id = photo(raw, f"{split}2017", 100 * number + i + 1)
      row = dict(
        split=split,
        image_id=image_id,
        question_id=f"{split}{i}dE5gH7jK9mN1pQ3sT5u"[:22],
        question=ASKED[i % 3],
        choices=["rope", "wind", f"engine {i}", "bird"],
        difficult_direct_answer=i == 3,
      )
      if split != "test":
        row |= dict(
          correct_choice_idx=i,
          direct_answers=["wind"] * 7 + ["air"] * 3,
          rationales=["It flies.", "It is light.", "It is up."],
        )
      rows.append(row)
    write(raw / f"aokvqa_v1p0_{split}.json", rows)


def gqa(raw):
  """Writes the balanced questions of train, val and testdev."""
  for number, split in enumerate(("train", "val", "testdev")):
    made = _gqa_questions(raw, 100 * number, "Is kite {} red?")
    write(raw / f"{split}_balanced_questions.json", made)


def xgqa(raw):
  """Writes the same questions in eight languages."""
  asked = dict(
    bn="ঘুড়ি {} কি লাল?",
    de="Ist Drachen {} rot?",
    en="Is kite {} red?",
    id="Apakah layang-layang {} merah?",
    ko="연 {}은 빨간색입니까?",
    pt="A pipa {} é vermelha?",
    ru="Змей {} красный?",
    zh="风筝{}是红色的吗？",
  )
  for language, text in asked.items():
    name = f"testdev_balanced_questions_{language}.json"
    write(raw / name, _gqa_questions(raw, 200, text))


def _gqa_questions(raw, first, text):
  made = {}
  for i in range(first, first + 3):
    name, id = f"n{i}" if i % 2 else str(i), f"0{712345 + i}"
    pictures.write(raw / f"images/{name}.jpg", (40 + i % 7, 32), i)
    answer = ("yes", "no")[i % 2]
    select = dict(operation="select", dependencies=[], argument="kite (0)")
    made[id] = dict(
      semantic=[select],
      entailed=[],
      equivalent=[id],
      question=text.format(i),
      imageId=name,
      isBalanced=True,
      groups={"global": None, "local": "06-kite_red"},
      answer=answer,
      semanticStr="select: kite (0)",
      annotations=dict(answer={}, question={"1": "0"}, fullAnswer={}),
      types=dict(detailed="verifyAttr", semantic="attr", structural="verify"),
      fullAnswer=f"{answer.title()}, it is.",
    )
  return made


def tallyqa(raw):
  """Writes counting questions about photos of three archives."""
  folders = ("VG_100K", "VG_100K_2", "val2014")
  for number, split in enumerate(("train", "test")):
    rows = []
    for i in range((12, 6)[number]):  # 5 % of train are one
      image_id = 100 * number + i + 1
      named = COCO if i % 3 == 2 else "{1}.jpg"
      photo(raw, folders[i % 3], image_id, named)
      row = dict(
        answer=i,
        data_source="amt" if i else "imported_genome",
        image=f"{folders[i % 3]}/{named.format(folders[i % 3], image_id)}",
        image_id=92100000 + image_id,
        question=f"How many kites are near kite {image_id}?",
        question_id=30000000 + image_id,
      )
      rows.append(row | dict(issimple=i % 2 == 0) if number else row)
    write(raw / f"{split}.json", rows)


def countbenchqa(raw):
  """Writes four questions; one has no image, that of another is gray."""
  import pyarrow as pa
  import pyarrow.parquet as pq

  rows = []
  for i, mode in enumerate(("RGB", None, "L", "RGB")):
    image = mode and dict(bytes=_png(mode, (40 + i, 32)), path=None)
    rows.append(
      dict(
        image=image,
        text=f"{i + 2} kites",
        image_url=f"https://photos.example/{i}.jpg",
        number=i + 2,
      )
    )
  name = "train-00000-of-00001-cf54c241ba947306.parquet"
  pq.write_table(pa.Table.from_pylist(rows), raw / name)
  asked = [
    dict(question=f"How many kites are there in sky {i}?") for i in range(4)
  ]
  write(raw / "countbench_paired_questions.json", asked)


def _png(mode, size):
  made = io.BytesIO()
  Image.new(mode, size, 128).save(made, "PNG")
  return made.getvalue()


def vizwizvqa(raw):
  """Writes questions of all three sets; one has empty answers only."""
  (raw / "annotations").mkdir()
  for number, split in enumerate(("train", "val", "test")):
    rows = []
    for i in range(4):
      name = f"VizWiz_{split}_{i + 7:08d}.jpg"
      pictures.write(raw / split / name, (40 + i, 32), 10 * number + i)
      row = dict(image=name, question=f"What is this {ASKED[i % 3]}")
      if split != "test":
        said = "" if (split, i) == ("train", 3) else "soup can"
        row |= dict(
          answers=[
            dict(answer=said if n else "", answer_confidence="yes")
            for n in range(10)
          ],
          answer_type="other",
          answerable=1,
        )
      rows.append(row)
    write(raw / f"annotations/{split}.json", rows)


def photo(raw, folder, image_id, named="{1:012d}.jpg"):
  """Writes a photo, and returns its number."""
  path = raw / folder / named.format(folder, image_id)
  pictures.write(path, (48, 32 + image_id % 7), image_id)
  return image_id


def write(path, made):
  path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")


def write_lines(path, rows):
  lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
  path.write_text("".join(lines), encoding="utf-8")


ROWS = dict(
  okvqa=okvqa,
  aokvqa_mc=aokvqa,
  aokvqa_da=aokvqa,
  gqa=gqa,
  xgqa=xgqa,
  tallyqa=tallyqa,
  countbenchqa=countbenchqa,
  vizwizvqa=vizwizvqa,
)
PREPARES = dict(
  aokvqa_mc=["aokvqa"],
  aokvqa_da=["aokvqa"],
  gqa=["gqa", "xgqa"],
  tallyqa=["tallyqa", "countbenchqa"],
)
