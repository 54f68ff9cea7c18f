"""Handwritten digits: the 1797 scans that scikit-learn has in its package.

Real images without a download: 8 x 8 pixels of 17 grey levels, from the UCI
"Optical Recognition of Handwritten Digits" data (E. Alpaydin and C. Kaynak,
1998), as `sklearn.datasets.load_digits` returns them.
"""

import functools
import operator

import numpy as np
from PIL import Image

from pg import config

PROMPT = "answer en which digit is this?"
# Of ten digits of a class in the order of the file, those that are for testing:
# 537 of 1797 rows, every class alike.
TESTING = (2, 5, 8)
SPLITS = {"train": False, "test": True}  # whether a row for testing is in it


class Digits:
  """Reads the digits of one split, a random-access source."""

  def __init__(self, split="train", res=48):
    """Reads the scans and finds the rows of a split.

    Args:
      split: str, "train" or "test".
      res: int, height and width in pixels of the enlarged images.

    Raises:
      ValueError: an unknown split, or a resolution out of reach.
    """
    if not 1 <= res <= 8192:
      raise ValueError(f"res={res}: wanted 1 to 8192 pixels")
    self.split, self.res = split, res
    self._rows = _rows(config.lookup(SPLITS, split, "split"))

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    """Returns row i, white ink on black.

    Returns:
      dict of image u8[res, res, 3], prefix, suffix ("0".."9"), answers (list of
      that), task and kind ("digits").

    Raises:
      IndexError: not one of the rows.
    """
    i = operator.index(i)
    if not 0 <= i < len(self):
      raise IndexError(f"row {i} of {len(self)}")
    row = self._rows[i]
    pixels, labels = _load()
    image = Image.fromarray(pixels[row]).resize(
      (self.res, self.res), Image.Resampling.BILINEAR
    )
    answer = str(labels[row])
    return dict(
      image=np.repeat(np.asarray(image)[:, :, None], 3, axis=-1),
      prefix=PROMPT,
      suffix=answer,
      answers=[answer],
      task="digits",
      kind="digits",
    )

  def where(self, i):
    """Returns the name of row i, for error messages."""
    return f"digits:{self.split}[{i}] (load_digits row {self._rows[i]})"


@functools.cache
def _load():
  """Returns the scans u8[1797, 8, 8] in 0..255 and the digits i64[1797]."""
  # Only here: importing scikit-learn takes a second.
  from sklearn import datasets

  data = datasets.load_digits()
  return np.round(data.images * (255 / 16)).astype(np.uint8), data.target


def _rows(testing):
  """Returns the rows of load_digits that are for testing, or all others."""
  _, labels = _load()
  rank = np.zeros(len(labels), int)
  for digit in range(10):
    rank[labels == digit] = np.arange((labels == digit).sum())
  return np.flatnonzero(np.isin(rank % 10, TESTING) == testing).tolist()
