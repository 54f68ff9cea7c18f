"""ST-VQA: questions about text in photos of streets and things.

From challenge 11, task 3, of rrc.cvc.uab.es (registration), unpacked into DIR:
train_task_3.json, test_task_3.json, and the photos in train_images/ and
test_task3_images/; from cocodataset.org train2014.zip, whose photos replace
small copies. Splits: train, val, test (without answers). The release has no
val: ours is a tenth of the photos of train by a hash of their names, as the
list of the published one is not public; train + val is the same.
"""

import hashlib

from scripts.prepare import release, rrc

SITE = "from challenge 11 of rrc.cvc.uab.es"
NUM_TRAIN = 26074
SIZES = dict(
  train=(None, "train", "train_images"),
  val=(None, "train", "train_images"),
  test=(4070, "test", "test_task3_images"),
)
FILES = {"{1}_task_3.json": "{1}_task_3.json " + SITE}


def _rows(raw, split, part, folder):
  name = f"{part}_task_3.json"
  found = raw.json(name, want=("data",))["data"]
  for q in found:
    filename = q["file_path"]
    if part == "train" and split != split_of(filename):
      continue
    row = {
      "image": _photo(raw, folder, filename),
      "filename": filename,
      **release.pick(q, "question_id", "question"),
    }
    if part == "train":
      row["answers"] = rrc.answers(q, name, "question_id")
    yield row
  if part == "train" and len(found) != NUM_TRAIN and not raw.lenient:
    raise release.Missing(
      f"{name} has {len(found):,} questions and {NUM_TRAIN:,} were published;"
      " is it another version, or not all of it?"
    )


def split_of(filename):
  """Returns "val" for a tenth of the photos of train, else "train"."""
  number = int(hashlib.sha256(filename.encode()).hexdigest(), 16)
  return "train" if number % 10 else "val"


def _photo(raw, folder, filename):
  source, name = filename.split("/", 1)
  if source == "coco-text":
    return raw.coco("train2014", name)
  return raw.image(f"{folder}/{filename}", f"{folder} {SITE}")


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
