"""POPE: is there such a thing in the photo? Yes or no, about val2014 of COCO.

From github.com/RUCAIBox/POPE, output/coco: coco_pope_random.json and those of
popular and adversarial; from cocodataset.org val2014.zip. Splits: random,
popular, adversarial.
"""

from scripts.prepare import release

SIZES = dict(random=3000, popular=3000, adversarial=3000)
WANT = ("question_id", "image", "text", "label")
FILES = {"coco_pope_{}.json": "output/coco of github.com/RUCAIBox/POPE"}


def _rows(raw, split):
  for where, q in raw.lines(f"coco_pope_{split}.json", WANT):
    if q["label"] not in ("yes", "no"):
      raise ValueError(f'{where}: wanted "yes" or "no", got {q["label"]!r}')
    yield {
      "image": raw.coco("val2014", q["image"]),
      "question_id": q["question_id"],
      "question_type": split,
      **release.pick(q, question="text", answer="label"),
    }


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
