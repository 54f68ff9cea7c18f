"""ChartQA: questions about charts, by people and from summaries of charts.

  python -m scripts.prepare.chartqa --raw DIR --out data/chartqa

From github.com/vis-nlp/ChartQA "ChartQA Dataset", unpacked into DIR, with
{train,val,test}/{split}_{human,augmented}.json and png/. Splits: train_human,
train_augmented, and the same of val and test.
"""

from scripts.prepare import release

SITE = '"ChartQA Dataset" from github.com/vis-nlp/ChartQA'
SIZES = dict(
  train_human=7398,
  train_augmented=20901,
  val_human=960,
  val_augmented=960,
  test_human=1250,
  test_augmented=1250,
)


def splits(raw):
  """Yields the splits of the release."""
  raw.need({_file(name): SITE for name in SIZES})
  return release.splits(raw, _rows, SIZES, "questions")


def _file(name):
  return f"{name.split('_')[0]}/{name}.json"


def _rows(raw, name):
  split, kind = name.split("_")
  found = raw.json(_file(name), want=("imgname", "query", "label"))
  for number, q in enumerate(found):
    yield {
      "image": raw.image(f"{split}/png/{q['imgname']}", SITE),
      "image/filename": q["imgname"],
      "question_id": number,
      "question_type": kind,
      "question": q["query"],
      "answer": q["label"],
    }


if __name__ == "__main__":
  release.main(splits, __doc__)
