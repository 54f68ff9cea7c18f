"""ChartQA: questions about charts, by people and from summaries of charts.

  python -m scripts.prepare.chartqa --raw DIR --out data/chartqa

From github.com/vis-nlp/ChartQA "ChartQA Dataset", unpacked into DIR, with
{train,val,test}/{split}_{human,augmented}.json and png/. Splits: train_human,
train_augmented, and the same of val and test.
"""

import functools

from scripts.prepare import release

SITE = '"ChartQA Dataset" from github.com/vis-nlp/ChartQA'
SPLITS = (
  ("train", "human", 7398),
  ("train", "augmented", 20901),
  ("val", "human", 960),
  ("val", "augmented", 960),
  ("test", "human", 1250),
  ("test", "augmented", 1250),
)


def splits(raw):
  """Yields the splits of the release."""
  raw.need({_file(split, kind): SITE for split, kind, _ in SPLITS})
  for split, kind, num in SPLITS:
    rows = functools.partial(_rows, raw, split, kind)
    yield release.Split(f"{split}_{kind}", rows, num, "questions")


def _file(split, kind):
  return f"{split}/{split}_{kind}.json"


def _rows(raw, split, kind):
  found = raw.json(_file(split, kind), want=("imgname", "query", "label"))
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
