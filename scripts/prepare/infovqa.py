"""InfographicVQA: questions about posters that explain something with images.

From challenge 17, task 3, of rrc.cvc.uab.es (registration), unpacked into DIR:
infographicsVQA_train_v1.0.json, infographicsVQA_val_v1.0_withQT.json and
infographicsVQA_test_v1.0.json (older: infographicVQA_{split}_v1.0.json), and
the posters in images/ or infographicsvqa_images/. Splits: train, val, test
(without answers). As in the published recipe, an answer of val that has several
parts is there in every order of them.
"""

import itertools

from scripts.prepare import release, rrc

FILES = {
  "train": "infographicsVQA_train_v1.0.json",
  "val": "infographicsVQA_val_v1.0_withQT.json",
  "test": "infographicsVQA_test_v1.0.json",
}
OLDER = "infographicVQA_{}_v1.0.json"
FOLDERS = ("images", "infographicsvqa_images")
OLDER_FOLDER = "infographicVQA_{}_v1.0_images"
SIZES = dict(train=23946, val=2801, test=3288)


def splits(raw):
  """Yields the splits of the release."""
  files = {split: (FILES[split], OLDER.format(split)) for split in SIZES}
  return rrc.splits(raw, _rows, SIZES, files)


def _rows(raw, split, name):
  folder = rrc.first(raw, (*FOLDERS, OLDER_FOLDER.format(split)))
  for q in raw.json(name, want=("data",))["data"]:
    filename = q["image_local_name"]
    row = {
      "image": raw.image(f"{folder}/{filename}", f"posters {rrc.SITE}"),
      "filename": filename,
      "question_id": q["questionId"],
      "question": q["question"],
    }
    if split != "test":
      row["answers"] = rrc.answers(q, name)
    if split == "val":
      row["answers"] = list(_orders(row["answers"]))
    yield row


def _orders(answers):
  """Yields answers, those of parts "a, b" in every order of the parts."""
  for answer in answers:
    for parts in itertools.permutations(answer.split(", ")):
      yield ", ".join(parts)


if __name__ == "__main__":
  release.main(splits, __doc__)
