"""Random access to the lines of a text file, without loading it."""

import array

import numpy as np

from pg.data.storage import index

_CHUNK = 4 << 20  # bytes that are looked at together


class Lines:
  """The lines of a file that are not blank; cheap to pickle and to share."""

  def __init__(self, path, max_bytes):
    """Finds the lines, or what an earlier process found.

    Args:
      path: str, a local file.
      max_bytes: int, longer lines are not read.

    Raises:
      OSError: it cannot be read.
    """
    self._path, self._max_bytes = path, max_bytes
    self._index = index.Index(write, path)

  def __len__(self):
    return int(self._index.data[-8:].view(np.int64)[0])

  def parts(self):
    """Returns what the lines are made of: the path, and where they start."""
    return self._path, self._index.data

  def __getitem__(self, i):
    """Returns the bytes of line i of those that are not blank.

    Raises:
      ValueError: it is too long.
      OSError: it cannot be read.
    """
    with open(self._path, "rb") as f:
      f.seek(int(self._numbers(0, len(self))[i]))
      line = f.readline(self._max_bytes + 1)
    if len(line) > self._max_bytes:
      raise ValueError(
        f"the line has more than max_line_bytes = {self._max_bytes} bytes"
      )
    return line

  def number(self, i):
    """Returns the number of line i in the file, from 1."""
    blanks = self._numbers(len(self), -1)
    return i + 1 + int(np.searchsorted(blanks, i, side="right"))

  def _numbers(self, start, stop):
    return self._index.data.view(np.int64)[start:stop]


def write(path, sink):
  """Writes where the lines are, as i64.

  That is where each line starts that is not blank; for each blank line how many
  of the others are before it; and how many others there are. Takes no memory
  but 8 bytes per blank line.
  """
  blanks, num, start, blank = array.array("q"), 0, 0, True
  with open(path, "rb") as f:
    base = 0
    while data := f.read(_CHUNK):
      ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
      if len(ends):
        # The first line began in an earlier chunk, perhaps.
        local = np.concatenate([[0], ends[:-1]])
        empty = _blank(data, local, ends)
        empty[0] &= blank
        starts = local + base
        starts[0] = start
        sink.write(starts[~empty].tobytes())
        before = num + np.cumsum(~empty)
        blanks.frombytes(before[empty].tobytes())
        num = int(before[-1])
        start, blank = base + int(ends[-1]), True
      tail = data[start - base :] if start > base else data
      blank &= not tail or tail.isspace()
      base += len(data)
  if not blank:
    sink.write(np.int64(start).tobytes())
    num += 1
  sink.write(blanks.tobytes() + np.int64(num).tobytes())


def _blank(data, starts, ends):
  """Returns which lines are blank, bool[lines]."""
  empty = np.frombuffer(data, np.uint8)[starts] <= ord(" ")
  for i in np.flatnonzero(empty).tolist():
    empty[i] = data[starts[i] : ends[i]].isspace()
  return empty
