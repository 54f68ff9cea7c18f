"""RSVQA-LR: questions about satellite images of 10 m a pixel.

From zenodo.org record 6344334, in DIR: LR_split_{train,val,test}_questions.json
and _answers.json, and the folder Images_LR. Splits: train, val, test, without
questions for a number as in the published recipe; --numbers keeps them, with
counts in ranges.
"""

from scripts.prepare import release, rsvqa

SPLITS = {
  "train": ("LR_split_train", 57223, 39441),
  "val": ("LR_split_val", 10005, 6782),
  "test": ("LR_split_test", 10004, 6782),
}
SITE = "zenodo.org record 6344334"


def splits(raw, numbers=False):
  """Yields the splits of the release."""
  bins = {"count": lambda answer: rsvqa.in_range(int(answer))}
  return rsvqa.splits(raw, SPLITS, "Images_LR/{}.tif", SITE, bins, numbers)


if __name__ == "__main__":
  release.main(splits, __doc__, numbers=rsvqa.NUMBERS)
