"""Lengths of texts: a batch is no longer than its longest text needs.

A row comes with text_len + 1 positions. Those that are padding in all rows of a
batch are cut off, down to one of a few lengths, for each is a program of its
own: text_len, its half, its quarter... Neither loss nor gradients change, but
for other draws of dropout. The processes of a job have the same length, which
the longest row of all needs. Evaluators, which read few batches, pad to
text_len: each length would be one more program of each of them.

Where texts are of many lengths, nearly every batch has a long one. Then the
rows of a window of batches can be sorted by length first: most of its batches
become short. The row at a position is still a function of the position alone,
and after each window datasets have had their exact shares.
"""

import contextlib
import itertools
import math

import jax
import numpy as np

from pg import progress, store
from pg.data import mixture

LEAST = 32  # text positions
SAVES = 0.05  # of a step's operations, at least, by each further program
# Parts of a batch, at most, whose rows are sorted among themselves; so many
# processes can share it without sending each other rows.
PARTS = 64
TEXT = "tokens", "mask_input", "mask_ar", "mask_loss"
_streams = itertools.count()


def worthwhile(text_len, cost):
  """Returns the text positions that a batch may have, the most first.

  Args:
    text_len: int.
    cost: function from text positions to the operations of a step.
  """
  found = [text_len]
  while (half := found[-1] // 2) >= LEAST:
    if cost(half) > (1 - SAVES) * cost(found[-1]):
      break
    found.append(half)
  return tuple(found)


def fitted(batches, lengths, first):
  """Yields batches without the text positions that they do not need.

  A batch that is cut ends in padding in each row.

  Args:
    batches: a generator of (rows, ...) of training, this process' share.
    lengths: ints, from `worthwhile`.
    first: int, which batch of the run the first one is.
  """
  name, seen = f"length/{next(_streams)}", set()
  with contextlib.closing(batches):
    for number, (rows, *rest) in enumerate(batches, first):
      need = int(rows["mask_input"].any(axis=0).sum())
      need = store.largest(need, name, number)
      size = min((n for n in lengths if n >= need), default=lengths[0])
      if seen and size not in seen:
        progress.say(
          f"step {number + 1} is the first with {size} text positions: its"
          " program is compiled, or read if it was before"
        )
      seen.add(size)
      yield rows | {k: rows[k][:, : size + 1] for k in TEXT}, *rest


def parts(batch_size, window):
  """Returns into how many parts a batch falls whose rows are sorted by length.

  Args:
    batch_size, window: int, as of `sorted_by_length`.

  Raises:
    ValueError: the processes of the job cannot share them.
  """
  number, hosts = math.gcd(batch_size, PARTS), jax.process_count()
  if window > 1 and number % hosts:
    raise ValueError(
      f"length_window = {window} sorts rows within {number} parts of a batch of"
      f" {batch_size}, which {hosts} processes cannot share; take"
      " length_window = 1, or a number of processes that divides"
      f" {PARTS} and a batch_size that is a multiple of it"
    )
  return number


def sorted_by_length(batches, window, batch_size, seed, first):
  """Yields the rows of each window of batches so that short ones are together.

  Args:
    batches: a generator of (rows, bad), this process' share, from the beginning
      of a window to the end of one.
    window: int, batches.
    batch_size: int, of all processes.
    seed: int, of the order of a window's batches.
    first: int, which window of the run the first one is.
  """
  own = parts(batch_size, window) // jax.process_count()
  with contextlib.closing(batches):
    for number in itertools.count(first):
      read = list(itertools.islice(batches, window))
      if not read:
        return
      need = np.stack([rows["mask_input"].sum(axis=1) for rows, _ in read])
      size = need.shape[1] // own
      need = need.reshape(window, own, size).swapaxes(0, 1).reshape(own, -1)
      order = need.argsort(axis=1, kind="stable").reshape(own, window, size)
      for place, (_, bad) in enumerate(read):
        rank = mixture.shuffled(place, window, seed, number)
        batch, row = np.divmod(order[:, rank], size)
        row += size * np.arange(own)[:, None]
        picked = [(read[i][0], j) for i, j in zip(batch.flat, row.flat)]
        yield _stack(picked), bad


def _stack(picked):
  """Makes a batch of rows j of other batches, (batch, j) each."""
  return {k: np.stack([rows[k][j] for rows, j in picked]) for k in picked[0][0]}
