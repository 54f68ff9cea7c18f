"""Public sets for pre-training: two or three photos of each."""

import gzip
import io
import json
import pathlib
import tarfile
import tempfile

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from tests.support.releases import boxes, pictures


def jpg(seed):
  """Returns the bytes of a JPEG of 50 x 40 pixels."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "0.jpg")
    pictures.write(path, (50, 40), seed)
    return path.read_bytes()


def cc3m(raw):
  """Writes tar files; those of validation have no JSON, as the real ones."""
  for shard, split in enumerate(("train", "train", "validation")):
    path = raw / f"cc3m-{split}-{shard % 2:04d}.tar"
    with tarfile.open(path, "w") as tar:
      for i in range(2):
        key = f"{100 * shard + i:09d}"
        text = f"a kite over field {100 * shard + i}\n"
        parts = dict(jpg=jpg(i), json=b"{}", txt=text.encode())
        if split == "validation":
          del parts["json"]
        for kind, data in parts.items():
          info = tarfile.TarInfo(f"{key}.{kind}")
          info.size = len(data)
          tar.addfile(info, io.BytesIO(data))


def wit(raw):
  """Writes a shard of three images, the last without a caption beside it."""

  def features(**columns):
    return dict(page_title=["…"] * len(columns["language"]), **columns)

  rows = [
    dict(
      image=dict(bytes=jpg(i), path=None),
      image_url=f"https://upload.example.org/{i}.jpg",
      embedding=[0.0],
      mime_type="image/jpeg",
      caption_attribution_description=None,
      wit_features=features(
        language=["de", "fr", "en"],
        caption_reference_description=texts,
        attribution_passes_lang_id=[True, None, False],
      ),
    )
    for i, texts in enumerate(
      (
        ["Ein  Drache\nüber Feldern", "Un cerf-volant", "A kite"],
        [None, " ", "Ein Drache"],
        ["Ein roter Drache", None, None],
      )
    )
  ]
  path = raw / "train-00000-of-00330.parquet"
  parquet.write_table(pa.Table.from_pylist(rows), path)


def hiertext(raw):
  """Writes photos with three lines, one of which cannot be read."""

  def line(text, x, y, width, *, legible=True):
    corners = [[x, y], [x + width, y], [x + width, y + 8], [x, y + 8]]
    word = dict(vertices=corners, text=text, legible=legible)
    word |= dict(handwritten=False, vertical=False)
    return dict(word, words=[word])

  def photo(id):
    lines = [line("Open daily", 4, 20, 60), line("?", 4, 2, 9, legible=False)]
    upper = [line("KITES", 10, 4, 30)]
    paragraphs = [
      dict(vertices=[[0, 0], [50, 0], [50, 40]], legible=True, lines=found)
      for found in (lines, upper)
    ]
    size = dict(image_width=50, image_height=40)
    return dict(image_id=id, **size, paragraphs=paragraphs)

  for split in ("train", "validation"):
    ids = [f"{split[0]}{i:015x}" for i in range(2)]
    info = dict(date="2022", version="v1.0")
    made = dict(info=info, annotations=[photo(id) for id in ids])
    (raw / "gt").mkdir(exist_ok=True)
    path = raw / f"gt/{split}.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(made).encode()))
    for id in ids:
      pictures.write(raw / f"{split}/{id}.jpg", (50, 40))


def vq2a(raw):
  """Writes two questions about a photo, in the format of MAVERICS."""
  pairs = [
    dict(question_id=f"0_{i}", raw_question=q, question=q, answers=answers)
    for i, (q, answers) in enumerate(
      (("what is red?", ["kite"] * 9 + ["a kite"]), ("where?", ["field"] * 10))
    )
  ]
  made = dict(dataset="vq2a_cc3m", split="train")
  made["annotations"] = [
    dict(image_id="000000007", caption="a red kite", qa_pairs=pairs)
  ]
  boxes.write(raw / "vq2a_cc3m_train.json", made)
  pictures.write(raw / "images/000000007.jpg", (50, 40))


def visual_genome(raw):
  """Writes two photos with regions and questions, the second with none."""
  place = "https://cs.stanford.edu/people/rak248"
  photos = [(1, "VG_100K"), (2, "VG_100K_2")]
  size = dict(width=50, height=40)
  boxes.write(
    raw / "image_data.json",
    [
      dict(image_id=i, url=f"{place}/{f}/{i}.jpg", **size, coco_id=None)
      for i, f in photos
    ],
  )
  region = lambda id, phrase, x, y, w, h: dict(
    region_id=id, image_id=1, phrase=phrase, x=x, y=y, width=w, height=h
  )
  regions = [
    region(10, "a red kite ", 10, 8, 20, 16),
    region(11, "beyond the edge", 50, 8, 20, 16),
  ]
  asked = dict(qa_id=5, image_id=1, question="What is red?", answer="A kite.")
  asked |= dict(a_objects=[], q_objects=[])
  for name, key, found in (
    ("region_descriptions", "regions", regions),
    ("question_answers", "qas", [asked]),
  ):
    made = [{"id": 1, key: found}, {"id": 2, key: []}]
    boxes.write(raw / f"{name}.json", made)
  for i, folder in photos:
    pictures.write(raw / f"{folder}/{i}.jpg", (50, 40), i)


OPEN_IMAGES = ("train", "validation", "test")


def _classes(raw):
  called = {"/m/kite": "Kite", "/m/01g317": "Person", "/m/cow": "Cow"}
  table(
    raw / "oidv7-class-descriptions-boxable.csv",
    ("LabelName", "DisplayName"),
    *called.items(),
  )


def openimages(raw):
  """Writes a photo with two kites and a person, and one with a crowd."""
  _classes(raw)
  corners = ("XMin", "XMax", "YMin", "YMax")
  marks = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
  head = ("ImageID", "Source", "LabelName", "Confidence")
  for split in OPEN_IMAGES:
    name = f"{'oidv6-' * (split == 'train')}{split}-annotations-bbox.csv"
    a, b = (f"{split[0]}{i:015x}" for i in range(2))
    kite, person = "/m/kite", "/m/01g317"
    box = lambda id, label, *at, group=0: (
      *(id, "xclick", label, 1, *at),
      *(0, 0, group, 0, 0),
    )
    table(
      raw / name,
      (*head, *corners, *marks),
      box(a, kite, 0.2, 0.6, 0.25, 0.5),
      box(a, kite, 0.7, 0.9, 0.25, 0.5),
      box(a, person, 0.1, 0.3, 0.5, 0.95),
      box(b, person, 0.1, 0.9, 0.5, 0.95, group=1),
    )
    table(
      raw / f"{split}-annotations-human-imagelabels-boxable.csv",
      head,
      (a, "verification", kite, 1),
      (a, "verification", "/m/cow", 0),
    )
    for i, id in enumerate((a, b)):
      pictures.write(raw / f"{split}/{id}.jpg", (50, 40), i)


def openimages_seg(raw):
  """Writes the masks of a kite and a person, half as large as the photo."""
  _classes(raw)
  corners = ("BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
  head = ("MaskPath", "ImageID", "LabelName", "BoxID", *corners)
  for split in OPEN_IMAGES:
    id, rows = f"{split[0]}{0:015x}", []
    for label, at in (
      ("/m/kite", (0.2, 0.6, 0.25, 0.5)),
      ("/m/01g317", (0.4, 0.8, 0.5, 1.0)),
    ):
      name = f"{id}_{label[1:].replace('/', '')}_9a041d52.png"
      rows.append((name, id, label, "9a041d52", *at, 0.87, "0.3 0.3 1"))
      x1, x2, y1, y2 = (round(20 * v) for v in at)
      mask = np.zeros((20, 20), np.uint8)
      mask[y1:y2, x1:x2] = 255
      path = raw / f"{split}-masks/{name}"
      path.parent.mkdir(exist_ok=True)
      Image.fromarray(mask).convert("1").save(path)
    head_all = (*head, "PredictedIoU", "Clicks")
    file = f"{split}-annotations-object-segmentation.csv"
    table(raw / file, head_all, *rows)
    pictures.write(raw / f"{split}/{id}.jpg", (50, 40))


def table(path, *rows):
  path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")


ROWS = dict(
  cc3m=cc3m,
  wit=wit,
  hiertext=hiertext,
  vq2a=vq2a,
  visual_genome=visual_genome,
  openimages=openimages,
  openimages_seg=openimages_seg,
)
