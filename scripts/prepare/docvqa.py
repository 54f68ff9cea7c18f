"""DocVQA: questions about pages of scanned documents.

From challenge 17, task 1, of rrc.cvc.uab.es (registration), unpacked into DIR:
{train,val}_v1.0_withQT.json and test_v1.0.json (older: {split}_v1.0.json of
each), and the pages, in {split}/documents/ or spdocvqa_images/. Splits: train,
val, test (without answers).
"""

import os

from scripts.prepare import release, rrc

FILES = {
  "train": ("train_v1.0_withQT.json", "train_v1.0.json"),
  "val": ("val_v1.0_withQT.json", "val_v1.0.json"),
  "test": ("test_v1.0.json",),
}
SIZES = dict(train=39463, val=5349, test=5188)


def splits(raw):
  """Yields the splits of the release."""
  return rrc.splits(raw, _rows, SIZES, FILES)


def _rows(raw, split, name):
  flat = raw.find("spdocvqa_images")
  for q in raw.json(name, want=("data",))["data"]:
    page = f"{split}/{q['image']}"
    if flat:
      page = f"spdocvqa_images/{os.path.basename(page)}"
    row = {
      "image": raw.image(page, f"the pages of {split} {rrc.SITE}"),
      "image/filename": q["image"],
      "question_id": q["questionId"],
      "question": q["question"],
    }
    yield row if split == "test" else row | {"answers": rrc.answers(q, name)}


if __name__ == "__main__":
  release.main(splits, __doc__)
