"""xGQA: the balanced testdev questions of GQA in eight languages.

  python -m scripts.prepare.xgqa --raw DIR --out data/xgqa

From github.com/e-bug/iglue the files of datasets/xGQA/annotations/zero_shot;
from the GQA page of Stanford images.zip. Splits: test_zs_bn, test_zs_de, ... of
bn, de, en, id, ko, pt, ru, zh. Answers are English in all of them.
"""

from scripts.prepare import gqa, release

LANGUAGES = ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
FILE = "testdev_balanced_questions_{}.json"


def splits(raw):
  """Yields the splits of the release."""
  site = "datasets/xGQA/annotations/zero_shot of github.com/e-bug/iglue"
  raw.need(dict.fromkeys(map(FILE.format, LANGUAGES), site))
  sizes = {f"test_zs_{language}": (12578, language) for language in LANGUAGES}
  return release.splits(raw, _rows, sizes, "questions")


def _rows(raw, _, language):
  made = raw.json(FILE.format(language), hook=gqa.slim)
  for id, q in made.items():
    yield {**gqa.question(raw, id, q), "language": language}


if __name__ == "__main__":
  release.main(splits, __doc__)
