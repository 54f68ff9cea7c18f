"""ChartQA: questions about charts, by people and from summaries of charts.

From github.com/vis-nlp/ChartQA "ChartQA Dataset", unpacked into DIR, with
{train,val,test}/{split}_{human,augmented}.json and png/. Splits: train_human,
train_augmented, and the same of val and test.
"""

from scripts.prepare import release

SITE = '"ChartQA Dataset" from github.com/vis-nlp/ChartQA'
SIZES = dict(
  train_human=(7398, "train", "human"),
  train_augmented=(20901, "train", "augmented"),
  val_human=(960, "val", "human"),
  val_augmented=(960, "val", "augmented"),
  test_human=(1250, "test", "human"),
  test_augmented=(1250, "test", "augmented"),
)
FILES = {"{1}/{0}.json": SITE}


def _rows(raw, name, split, kind):
  found = raw.json(f"{split}/{name}.json", want=("imgname", "query", "label"))
  for number, q in enumerate(found):
    yield {
      "image": raw.image(f"{split}/png/{q['imgname']}", SITE),
      "image/filename": q["imgname"],
      "question_id": number,
      "question_type": kind,
      "question": q["query"],
      "answer": q["label"],
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
