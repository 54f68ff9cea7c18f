"""A-OKVQA: questions about photos of COCO that need knowledge, asked twice.

From github.com/allenai/aokvqa aokvqa_v1p0.tar.gz, from cocodataset.org
train2017.zip, val2017.zip and test2017.zip, unpacked into DIR. Splits: train,
val, test (without answers). A row has four choices and ten direct answers.
"""

from scripts.prepare import release

FILE = "aokvqa_v1p0_{}.json"
SIZES = dict(train=17056, val=1145, test=6702)
WANT = (
  "image_id",
  "question_id",
  "question",
  "choices",
  "difficult_direct_answer",
)
ANSWERS = ("correct_choice_idx", "direct_answers", "rationales")
FILES = {FILE: "aokvqa_v1p0.tar.gz from github.com/allenai/aokvqa"}


def _rows(raw, split):
  """Yields questions; those of test have the place -1 and no answers."""
  name, answered = FILE.format(split), split != "test"
  for q in raw.json(name, want=WANT + ANSWERS * answered):
    place = q["correct_choice_idx"] if answered else -1
    if answered:
      what = f"{name}: question {q['question_id']}"
      release.choice(q["choices"], place, what)
    yield {
      "image": raw.coco(f"{split}2017", q["image_id"]),
      **release.pick(q, "image_id", "question_id", "question"),
      "multiple_choice_possible_answers": q["choices"],
      "multiple_choice_correct_idx": place,
      "direct_answers": q["direct_answers"] if answered else [],
      "direct_answer_is_difficult": q["difficult_direct_answer"],
      "answer_rationales": q["rationales"] if answered else [],
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
