"""What was computed last, kept by its content within a number of bytes."""

import collections

import jax


class Cache:
  """Trees of arrays by key; the longest unused goes first."""

  def __init__(self, max_bytes):
    """Takes how many bytes it may hold; 0 keeps nothing."""
    self.max_bytes, self.num_bytes = max_bytes, 0
    self.hits = self.misses = 0
    self._found = collections.OrderedDict()

  def __len__(self):
    return len(self._found)

  def __contains__(self, key):
    return key in self._found

  def get(self, key):
    """Returns what has a key, or None."""
    if key not in self._found:
      self.misses += 1
      return None
    self.hits += 1
    self._found.move_to_end(key)
    return self._found[key][0]

  def put(self, key, tree):
    """Keeps a tree of arrays, unless it is too large alone."""
    size = sum(x.nbytes for x in jax.tree.leaves(tree))
    if size > self.max_bytes or key in self._found:
      return
    self._found[key] = tree, size
    self.num_bytes += size
    while self.num_bytes > self.max_bytes:
      _, (_, size) = self._found.popitem(last=False)
      self.num_bytes -= size
