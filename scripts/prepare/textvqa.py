"""TextVQA: questions about text in photos, ten answers each.

From textvqa.org, in DIR: TextVQA_0.5.1_{train,val,test}.json; unpacked
train_val_images.zip (train_images) and test_images.zip; from the Open Images
page of 2018 train-images-boxable-with-rotation.csv and
test-images-with-rotation.csv. Photos that lie on a side are turned upright and
written anew into the splits: train, val, test (without answers).
"""

import io

from PIL import Image

from scripts.prepare import release

VERSION = "0.5.1"
FILE = f"TextVQA_{VERSION}_{{}}.json"
TURNS = {
  "train_images": "train-images-boxable-with-rotation.csv",
  "test_images": "test-images-with-rotation.csv",
}
PHOTOS = {
  "train_images": "train_val_images.zip from textvqa.org",
  "test_images": "test_images.zip from textvqa.org",
}
OPEN_IMAGES = "the Open Images page, 2018_04"
SIZES = dict(
  train=(34602, "train_images"),
  val=(5000, "train_images"),
  test=(5734, "test_images"),
)
FILES = {
  FILE: f"{FILE} from textvqa.org",
  **{name: f"{name} from {OPEN_IMAGES}" for name in TURNS.values()},
}


def _rows(raw, split, folder):
  name = FILE.format(split)
  found = raw.json(name, want=("dataset_version", "data"))
  if str(found["dataset_version"]) != VERSION:
    raise ValueError(
      f"{name} says version {found['dataset_version']}; wanted {VERSION}"
    )
  ids = {q["image_id"] for q in found["data"]}
  turns = _turns(raw, TURNS[folder], ids)
  for q in found["data"]:
    path = raw.image(f"{folder}/{q['image_id']}.jpg", PHOTOS[folder])
    turn = turns[q["image_id"]]
    row = {
      "image": _turned(path, turn) if turn and path not in raw.absent else path,
      **release.pick(q, "image_id", "question_id", "question"),
    }
    yield row if split == "test" else row | {"answers": q["answers"]}


def _turns(raw, name, ids):
  """Returns {photo: degrees to turn it counter-clockwise}."""
  turns = {
    row["ImageID"]: round(float(row["Rotation"] or 0))
    for row in raw.csv(name, want=("ImageID", "Rotation"))
    if row["ImageID"] in ids
  }
  gone = sorted(ids - turns.keys())
  if gone:
    raise ValueError(
      f"{name} does not have {len(gone)} of the photos, such as {gone[0]}; is"
      " it all of the file?"
    )
  return turns


def _turned(path, degrees):
  """Returns a photo, turned by quarters, as JPEG."""
  out = io.BytesIO()
  with Image.open(path) as photo:
    turned = photo.convert("RGB").rotate(degrees, expand=True)
  turned.save(out, "JPEG", quality=100)
  return out.getvalue()


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
