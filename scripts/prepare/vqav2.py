"""VQAv2: questions about photos of COCO, ten answers each.

  python -m scripts.prepare.vqav2 --raw DIR --out data/vqav2

From visualqa.org, unpacked into DIR: v2_Questions_{Train,Val,Test}_mscoco.zip
and v2_Annotations_{Train,Val}_mscoco.zip; from cocodataset.org train2014.zip,
val2014.zip and test2015.zip. Splits: train, val, test (without answers; all of
test2015, of which test-dev is a part).
"""

import functools

from scripts.prepare import release

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWERS = "v2_mscoco_{}_annotations.json"
SITE = "from visualqa.org"
SPLITS = (
  ("train", "train2014", 443757),
  ("val", "val2014", 214354),
  ("test", "test2015", 447793),
)


def splits(raw):
  """Yields the splits of the release."""
  files = {}
  for split, year, _ in SPLITS:
    zipped = f"_{split.title()}_mscoco.zip {SITE}"
    files[QUESTIONS.format(year)] = f"v2_Questions{zipped}"
    if split != "test":
      files[ANSWERS.format(year)] = f"v2_Annotations{zipped}"
  raw.need(files)
  for split, year, num in SPLITS:
    rows = functools.partial(_rows, raw, year, answered=split != "test")
    yield release.Split(split, rows, num, "questions")


def _rows(raw, year, answered):
  name = QUESTIONS.format(year)
  questions = raw.json(name, want=("questions",))["questions"]
  answers = _answers(raw, year) if answered else None
  for q in questions:
    id, image_id = q["question_id"], q["image_id"]
    row = {
      "image": raw.image(
        f"{year}/COCO_{year}_{image_id:012d}.jpg",
        f"{year}.zip from cocodataset.org",
      ),
      "image_id": image_id,
      "question_id": id,
      "question_text": q["question"],
    }
    if answered and id not in answers:
      raise ValueError(
        f"question {id} of {name} has no answers in {ANSWERS.format(year)}; are"
        " both of the same version?"
      )
    yield row | answers[id] if answered else row


def _answers(raw, year):
  """Returns {question id: what people said, and of what type it is}."""
  found = raw.json(ANSWERS.format(year), want=("annotations",))["annotations"]
  return {
    a["question_id"]: {
      "answers": [x["answer"] for x in a["answers"]],
      "answer_type": a["answer_type"],
      "question_type": a["question_type"],
    }
    for a in found
  }


if __name__ == "__main__":
  release.main(splits, __doc__)
