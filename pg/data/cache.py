"""A cache of rows in memory, within a budget of bytes.

Training visits every row once an epoch in a new order, so that no row is more
likely than another to be wanted next: the first ones that fit stay, and
nothing is ever thrown out.
"""

import functools
import sys
import threading

import numpy as np

from pg import pp


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


def cached(data, options):
  """Returns the datasets with the cache that options ask for.

  Args:
    data: tuple of pipeline.Dataset.
    options: options.Options.

  Raises:
    ValueError: examples are to be kept that an op makes anew each time.
  """
  budget = Budget(int(options.cache_gb * 2**30))
  return tuple(_cached(d, budget, options.cache) for d in data)


def _cached(dataset, budget, kind):
  if kind == "raw":
    source = Cached(dataset.source, budget, dataset.source.__getitem__)
    return dataset._replace(source=source)
  (steps,) = dataset.pp.args
  random = [step.source for step in steps if step.wants]
  if random:
    raise ValueError(
      f'input.cache = "examples" keeps rows as they are after the pp, but'
      f" {random[0]} of {dataset.name} makes another one each time; take"
      ' input.cache = "raw"'
    )
  read = functools.partial(_example, dataset)
  source = Cached(dataset.source, budget, read)
  return dataset._replace(source=source, pp=_unchanged)


def _example(dataset, i):
  return dataset.pp(dataset.source[i], pp.Turn(row=i))


def _unchanged(example, turn):
  return example


class Replay:
  """Batches that are read once and then come from memory, if all of them fit.

  Evaluators look at the same rows each time; where rows are made or decoded by
  the processors that also compute, that is a good part of their time.
  """

  def __init__(self, budget):
    self._budget, self._key, self._kept = budget, None, None

  def batches(self, key, read):
    """Yields batches, each a tuple, which nobody may change.

    Args:
      key: what they depend on; where it is another one, they are read again.
      read: function () -> generator of batches.
    """
    if self._kept is None or key != self._key:
      yield from self._record(key, read())
    else:
      yield from self._kept

  def _record(self, key, batches):
    self._give_back()
    kept, size = [], 0
    try:
      for batch in batches:
        size += size_of(batch)
        if kept is not None:
          kept.append(batch)
          kept = kept if size <= self._budget.left else None
        yield batch
    finally:
      batches.close()
    with self._budget.lock:
      if kept is not None and size <= self._budget.left:
        self._budget.left -= size
        self._key, self._kept, self._size = key, kept, size

  def _give_back(self):
    if self._kept is not None:
      with self._budget.lock:
        self._budget.left += self._size
      self._kept = None


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
