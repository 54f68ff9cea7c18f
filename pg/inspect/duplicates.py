"""Finds rows that share an image, a question or an answer, by their hashes.

What is compared is 8 bytes of a hash: 40 bytes a row, whatever its size. Two
different things among n have the same hash with probability n**2 / 2**65: one
in 41,000 for thirty million.
"""

import array
import hashlib

import numpy as np


def digest(*parts):
  """Hashes bytes, texts, arrays and ints below 2**64 to one such int."""
  whole = hashlib.blake2b(digest_size=8)
  for part in parts:
    if isinstance(part, int):
      part = part.to_bytes(8, "little")
    elif isinstance(part, str):
      part = part.encode("utf-8", "surrogatepass")
    elif isinstance(part, np.ndarray):
      whole.update(str(part.shape).encode())
      part = np.ascontiguousarray(part)
    whole.update(part)
  return int.from_bytes(whole.digest(), "little")


class RowIndex:
  """Hashes of the images, questions and answers of all rows."""

  def __init__(self):
    columns = lambda n: tuple(array.array("Q") for _ in range(n))
    # A row is dataset << 40 | index.
    self._rows, self._questions, self._answers = columns(3)
    self._image_rows, self._images = columns(2)

  def add(self, dataset, index, images, prompt, answer):
    """Adds the hashes of a row.

    Args:
      dataset: int, its number.
      index: int, the row's in the dataset.
      images: list of digests.
      prompt, answer: str.
    """
    row = dataset << 40 | index
    for image in images:
      self._image_rows.append(row)
      self._images.append(image)
    self._rows.append(row)
    self._questions.append(digest(*images, prompt))
    self._answers.append(digest(answer))

  def compare(self, training):
    """Yields what is shared, as (kind, dataset, index, match, count).

    `match` is the (dataset, index) of a row with the same image, question or
    suffix, or None; `count` is how many rows there are like this one.

    Args:
      training: set of the numbers of the datasets to train on; all others are
        for evaluation.
    """
    rows, questions, answers, image_rows, images = (
      np.frombuffer(column, np.uint64) if column else np.zeros(0, np.uint64)
      for column in (
        self._rows,
        self._questions,
        self._answers,
        self._image_rows,
        self._images,
      )
    )
    trains = np.isin(rows >> np.uint64(40), list(training))
    image_trains = np.isin(image_rows >> np.uint64(40), list(training))
    same = list(_shared(questions, rows, trains))
    for row, match in same:
      yield "shared_question", *_place(row), _place(match), 1
    known = {row for row, _ in same}
    for row, match in _shared(images, image_rows, image_trains):
      if row not in known:  # a row of several images counts once
        known.add(row)
        yield "shared_image", *_place(row), _place(match), 1
    rows, questions, answers = (x[trains] for x in (rows, questions, answers))
    yield from _repeated_questions(rows, questions, answers)
    yield from _repeated_answers(rows, answers)


def _place(row):
  return int(row) >> 40, int(row) & (1 << 40) - 1


def _shared(keys, rows, trains):
  """Yields (evaluation row, training row) of the same key, in order."""
  order = np.argsort(keys[trains], kind="stable")
  known, owners = keys[trains][order], rows[trains][order]
  if not len(known):
    return
  eval_keys, eval_rows = keys[~trains], rows[~trains]
  at = np.minimum(np.searchsorted(known, eval_keys), len(known) - 1)
  for i in np.flatnonzero(known[at] == eval_keys):
    yield int(eval_rows[i]), int(owners[at[i]])


def _repeated_questions(rows, questions, answers):
  """Yields rows that repeat an earlier question, with its answer or another."""
  if not len(rows):
    return
  order = np.lexsort((answers, questions))
  same = questions[order][1:] == questions[order][:-1]
  repeats = same & (answers[order][1:] == answers[order][:-1])
  yield from _pairs("duplicate", rows, order[1:][repeats], order[:-1][repeats])
  starts = np.flatnonzero(np.r_[True, ~same])
  sizes = np.diff(np.r_[starts, len(rows)])
  first = np.repeat(np.minimum.reduceat(order, starts), sizes)
  differ = answers[order] != answers[first]
  yield from _pairs("contradiction", rows, order[differ], first[differ])


def _pairs(kind, rows, later, earlier):
  for k in np.argsort(later):
    row, match = rows[later[k]], rows[earlier[k]]
    yield kind, *_place(row), _place(match), 1


def _repeated_answers(rows, answers):
  """Yields each suffix of several rows of a dataset, the commonest first."""
  keys = answers ^ (rows >> np.uint64(40)) * np.uint64(0x9E3779B97F4A7C15)
  _, first, counts = np.unique(keys, return_index=True, return_counts=True)
  for i in np.argsort(-counts, kind="stable"):
    if counts[i] > 1:
      yield "repeated_suffix", *_place(rows[first[i]]), None, int(counts[i])
