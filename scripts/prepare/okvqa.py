"""OK-VQA: questions about photos of COCO that need knowledge, ten answers each.

  python -m scripts.prepare.okvqa --raw DIR --out data/okvqa

From okvqa.allenai.org, unpacked into DIR:
OpenEnded_mscoco_{train2014,val2014}_questions.json.zip and
mscoco_{train2014,val2014}_annotations.json.zip; from cocodataset.org
train2014.zip and val2014.zip. Splits: train and val, which papers call test.
"""

import functools

from scripts.prepare import release

QUESTIONS = "OpenEnded_mscoco_{}_questions.json"
ANSWERS = "mscoco_{}_annotations.json"
SPLITS = (("train", "train2014", 9009), ("val", "val2014", 5046))


def splits(raw):
  """Yields the splits of the release."""
  names = [f.format(y) for _, y, _ in SPLITS for f in (QUESTIONS, ANSWERS)]
  raw.need({name: f"{name}.zip from okvqa.allenai.org" for name in names})
  for split, year, num in SPLITS:
    rows = functools.partial(_rows, raw, year)
    yield release.Split(split, rows, num, "questions")


def _rows(raw, year):
  questions, answers = QUESTIONS.format(year), ANSWERS.format(year)
  made = raw.json(answers, want=("annotations",))["annotations"]
  said = {a["question_id"]: a for a in made}
  for q in raw.json(questions, want=("questions",))["questions"]:
    id, image_id = q["question_id"], q["image_id"]
    if id not in said:
      raise ValueError(
        f"question {id} of {questions} has no answers in {answers}; are both of"
        " the same version?"
      )
    found = said[id]["answers"]
    yield {
      "image": raw.image(
        f"{year}/COCO_{year}_{image_id:012d}.jpg",
        f"{year}.zip from cocodataset.org",
      ),
      "image_id": image_id,
      "question_id": id,
      "question_type": said[id]["question_type"],
      "answer_type": said[id]["answer_type"],
      "question": q["question"],
      "answers": [a["answer"] for a in found],
      "answers_raw": [a["raw_answer"] for a in found],
      "answers_confidence": [a["answer_confidence"] == "yes" for a in found],
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
