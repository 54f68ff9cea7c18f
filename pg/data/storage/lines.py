"""Finds the lines of a text file, without loading it."""

import array

import numpy as np

_CHUNK = 4 << 20  # bytes that are looked at together


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
