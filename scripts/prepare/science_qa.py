"""ScienceQA: multiple choice of school science, the questions with an image.

From scienceqa.github.io, unpacked into DIR: problems.json, and the images in
train/, val/ and test/. Splits: train, val, test. About half of the questions
have no image and are left out, as in big_vision.
"""

from scripts.prepare import release

SITE = "from scienceqa.github.io"
SIZES = dict(train=6218, val=2097, test=2017)
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
FILES = {"problems.json": SITE}


def _rows(raw, split):
  for id, q in raw.json("problems.json").items():
    if q["split"] != split or not q["image"]:
      continue
    release.choice(q["choices"], q["answer"], f"problem {id} of problems.json")
    yield {
      "image": raw.image(f"{split}/{id}/{q['image']}", f"{split}.zip {SITE}"),
      "question_id": id,
      **release.pick(q, *KEYS),
      "hint": q["hint"] or "N/A",
    }


splits = release.table(_rows, SIZES, "questions with an image", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
