"""ScienceQA: multiple choice of school science, the questions with an image.

  python -m scripts.prepare.science_qa --raw DIR --out data/science_qa

From scienceqa.github.io, unpacked into DIR: problems.json, and the images in
train/, val/ and test/. Splits: train, val, test. About half of the questions
have no image and are left out, as in big_vision.
"""

import functools

from scripts.prepare import release

SITE = "from scienceqa.github.io"
SPLITS = (("train", 6218), ("val", 2097), ("test", 2017))
KEYS = (
  "question",
  "choices",
  "answer",
  "task",
  "grade",
  "subject",
  "topic",
  "category",
  "skill",
  "lecture",
  "solution",
)


def splits(raw):
  """Yields the splits of the release."""
  raw.need({"problems.json": SITE})
  problems = functools.cache(lambda: raw.json("problems.json"))
  for split, num in SPLITS:
    rows = functools.partial(_rows, raw, problems, split)
    yield release.Split(split, rows, num, "questions with an image")


def _rows(raw, problems, split):
  for id, q in problems().items():
    if q["split"] != split or not q["image"]:
      continue
    if not 0 <= q["answer"] < len(q["choices"]):
      raise ValueError(
        f"problem {id} of problems.json has {len(q['choices'])} choices, and"
        f" {q['answer']} is the place of the right one"
      )
    yield {
      "image": raw.image(f"{split}/{id}/{q['image']}", f"{split}.zip {SITE}"),
      "question_id": id,
      **{key: q[key] for key in KEYS},
      "hint": q["hint"] or "N/A",
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
