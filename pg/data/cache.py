"""Keeps rows in memory while there is room.

Training visits every row once an epoch in a new order, so that no row is more
likely than another to be wanted next: the first ones that fit stay, and
nothing is ever thrown out.
"""

import sys
import threading

import numpy as np


class Budget:
  """Bytes that a process may keep, shared by the caches of all its datasets.

  In another process, after pickling, it is whole again.
  """

  def __init__(self, num_bytes):
    self.num_bytes = self.left = num_bytes
    self.lock = threading.Lock()

  def __reduce__(self):
    return Budget, (self.num_bytes,)


class Cached:
  """A source that remembers what it has read.

  What it returns is shared between calls: no op modifies its input.
  """

  def __init__(self, source, budget, read):
    """Starts empty.

    Args:
      source: the source, for its length and its rows' names.
      budget: Budget.
      read: function of a row's number; its dict is what is kept.
    """
    self._source, self._budget, self._read = source, budget, read
    self._rows = {}

  def __len__(self):
    return len(self._source)

  def __getitem__(self, i):
    row = self._rows.get(i)
    if row is None:
      row = self._read(i)
      self._keep(i, row)
    return dict(row)

  def where(self, i):
    return self._source.where(i)

  def __reduce__(self):
    return Cached, (self._source, self._budget, self._read)

  def _keep(self, i, row):
    size = size_of(row)
    with self._budget.lock:
      # Another thread may have read the same row.
      if i not in self._rows and size <= self._budget.left:
        self._budget.left -= size
        self._rows[i] = row


def size_of(value):
  """Returns the bytes that a nested value of a row takes in memory."""
  size = sys.getsizeof(value)
  if isinstance(value, np.ndarray):
    # An array that is a view of another one does not count its data.
    return max(size, value.nbytes + sys.getsizeof(value[:0]))
  if isinstance(value, dict):
    return size + sum(size_of(k) + size_of(v) for k, v in value.items())
  if isinstance(value, list | tuple):
    return size + sum(map(size_of, value))
  return size
