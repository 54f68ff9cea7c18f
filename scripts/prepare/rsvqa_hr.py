"""RSVQA-HR: questions about aerial images of 15 cm a pixel.

From zenodo.org record 6344367, in DIR: USGS_split_{train,val,test,test_phili}_
questions.json and _answers.json, and the folder Data. Splits: train,
val, test, test_2 (another city), without questions for a number as in the
published recipe; --numbers keeps them, with areas in ranges. About 60 questions
share an image: array_record would hold it that often.
"""

from scripts.prepare import release, rsvqa

SPLITS = {
  "train": ("USGS_split_train", 625340, 371834),
  "val": ("USGS_split_val", 102843, 60405),
  "test": ("USGS_split_test", 222684, 131468),
  "test_2": ("USGS_split_test_phili", 105647, 62554),
}
SITE = "zenodo.org record 6344367"


def splits(raw, numbers=False):
  """Yields the splits of the release."""
  square_metres = lambda answer: int(answer.removesuffix("m2"))
  bins = {
    "area": lambda answer: rsvqa.in_range(square_metres(answer), " m2"),
    "count": str,
  }
  return rsvqa.splits(raw, SPLITS, "Data/{}.png", SITE, bins, numbers)


if __name__ == "__main__":
  release.main(splits, __doc__, numbers=rsvqa.NUMBERS)
