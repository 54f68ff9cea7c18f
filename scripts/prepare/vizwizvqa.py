"""VizWiz-VQA: questions that blind people asked about photos they took.

From vizwiz.org, unpacked into DIR: train.zip, val.zip, test.zip and
Annotations.zip. Splits: train, val, test (without answers). A few answers of
train are empty; they are left out here, as in big_vision.
"""

import re

from scripts.prepare import release

SIZES = dict(train=20523, val=4319, test=8000)
NAME = re.compile(r"VizWiz_\w+_(\d+)\.jpg")
FILES = {"annotations/{}.json": "Annotations.zip from vizwiz.org"}


def _rows(raw, split):
  file, answered = f"annotations/{split}.json", split != "test"
  more = ("answers", "answerable") * answered
  for q in raw.json(file, want=("image", "question", *more)):
    match = NAME.fullmatch(q["image"])
    if not match:
      raise ValueError(
        f"{file}: the image {q['image']!r} is not called like"
        f" VizWiz_{split}_00000007.jpg"
      )
    found = [a for a in q["answers"] if a["answer"]] if answered else []
    yield {
      "image": raw.image(
        f"{split}/{q['image']}", f"{split}.zip from vizwiz.org"
      ),
      "image/filename": q["image"],
      "question_id": int(match[1]),
      "question": q["question"],
      "answers": [a["answer"] for a in found],
      "answer_confidences": [a["answer_confidence"] for a in found],
      "answerable": q["answerable"] if answered else -1,
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
