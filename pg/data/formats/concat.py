"""Concatenated sequences: finds which of them has row i."""

import bisect
import itertools
import operator


class Concatenation:
  """Finds rows in a concatenation of sequences of known sizes."""

  def __init__(self, sizes):
    self._ends = list(itertools.accumulate(sizes))

  def __len__(self):
    return self._ends[-1] if self._ends else 0

  def locate(self, i):
    """Returns the number of the sequence with row i, and its row there.

    Raises:
      IndexError: no such row; negative numbers do not count from the end.
    """
    i = operator.index(i)
    if not 0 <= i < len(self):
      raise IndexError(f"row {i} of {len(self)}")
    number = bisect.bisect_right(self._ends, i)
    return number, i - (self._ends[number - 1] if number else 0)
