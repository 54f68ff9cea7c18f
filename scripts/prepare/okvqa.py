"""OK-VQA: questions about photos of COCO that need knowledge, ten answers each.

From okvqa.allenai.org, unpacked into DIR:
OpenEnded_mscoco_{train2014,val2014}_questions.json.zip and
mscoco_{train2014,val2014}_annotations.json.zip; from cocodataset.org
train2014.zip and val2014.zip. Splits: train and val, which papers call test.
"""

from scripts.prepare import release

SIZES = dict(train=(9009, "train2014"), val=(5046, "val2014"))
QUESTIONS = "OpenEnded_mscoco_{1}_questions.json"
ANSWERS = "mscoco_{1}_annotations.json"
FILES = {x: f"{x}.zip from okvqa.allenai.org" for x in (QUESTIONS, ANSWERS)}


def _rows(raw, split, year):
  questions, answers = (x.format(split, year) for x in FILES)
  made = raw.json(answers, want=("annotations",))["annotations"]
  said = {a["question_id"]: a for a in made}
  for q in raw.json(questions, want=("questions",))["questions"]:
    id = q["question_id"]
    lacks = f"question {id} of {questions} has no answers"
    about = release.match(said, id, lacks, answers)
    found = about["answers"]
    yield {
      "image": raw.coco(year, q["image_id"]),
      **release.pick(q, "image_id", "question_id"),
      **release.pick(about, "question_type", "answer_type"),
      "question": q["question"],
      "answers": [a["answer"] for a in found],
      "answers_raw": [a["raw_answer"] for a in found],
      "answers_confidence": [a["answer_confidence"] == "yes" for a in found],
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
