"""xGQA: the balanced testdev questions of GQA in eight languages.

From github.com/e-bug/iglue the files of datasets/xGQA/annotations/zero_shot;
from the GQA page of Stanford images.zip. Splits: test_zs_bn, test_zs_de, ... of
bn, de, en, id, ko, pt, ru, zh. Answers are English in all of them.
"""

from scripts.prepare import gqa, release

LANGUAGES = ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
SIZES = {f"test_zs_{language}": (12578, language) for language in LANGUAGES}
FILE = "testdev_balanced_questions_{1}.json"
FILES = {FILE: "datasets/xGQA/annotations/zero_shot of github.com/e-bug/iglue"}


def _rows(raw, split, language):
  made = raw.json(FILE.format(split, language), hook=gqa.slim)
  for id, q in made.items():
    yield {**gqa.question(raw, id, q), "language": language}


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
