"""VQAv2: questions about photos of COCO, ten answers each.

From visualqa.org, unpacked into DIR: v2_Questions_{Train,Val,Test}_mscoco.zip
and v2_Annotations_{Train,Val}_mscoco.zip; from cocodataset.org train2014.zip,
val2014.zip and test2015.zip. Splits: train, val, test (without answers; all of
test2015, of which test-dev is a part).
"""

from scripts.prepare import release

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANSWERS = "v2_mscoco_{}_annotations.json"
SITE = "from visualqa.org"
SIZES = dict(
  train=(443757, "train2014"),
  val=(214354, "val2014"),
  test=(447793, "test2015"),
)


def splits(raw):
  """Yields the splits of the release."""
  files = {}
  for split, (_, year) in SIZES.items():
    zipped = f"_{split.title()}_mscoco.zip {SITE}"
    files[QUESTIONS.format(year)] = f"v2_Questions{zipped}"
    if split != "test":
      files[ANSWERS.format(year)] = f"v2_Annotations{zipped}"
  raw.need(files)
  return release.splits(raw, _rows, SIZES, "questions")


def _rows(raw, split, year):
  name, given = QUESTIONS.format(year), ANSWERS.format(year)
  questions = raw.json(name, want=("questions",))["questions"]
  if split != "test":
    answers = raw.json(given, want=("annotations",))["annotations"]
    answers = {a["question_id"]: a for a in answers}
  for q in questions:
    id = q["question_id"]
    row = {
      "image": raw.coco(year, q["image_id"]),
      **release.pick(q, "image_id", "question_id", question_text="question"),
    }
    if split != "test":
      lacks = f"question {id} of {name} has no answers"
      about = release.match(answers, id, lacks, given)
      row["answers"] = [a["answer"] for a in about["answers"]]
      row |= release.pick(about, "answer_type", "question_type")
    yield row


if __name__ == "__main__":
  release.main(splits, __doc__)
