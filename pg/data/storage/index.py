"""Indices of files: computed once, cached in a folder, memory-mapped.

To know where the lines of a file start takes reading all of it. That is done
once: the result is a file in `~/.cache/pg/index`, or in `$PG_CACHE/index`. All
processes share the memory of that file, and it can be deleted at any time.
"""

import hashlib
import io
import os
import pathlib

import numpy as np

from pg import atomic

# Files that are read again in no time need no index on a disk.
SMALL = 1 << 20


def folder():
  """Returns the folder of all that can be had again, a pathlib.Path.

  Raises:
    ValueError: PG_CACHE is none of this machine.
  """
  place = os.environ.get("PG_CACHE") or "~/.cache/pg"
  if atomic.is_url(place):
    raise ValueError(f"PG_CACHE is {place}: wanted a folder on this machine")
  return pathlib.Path(place).expanduser()


class Index:
  """Bytes that a function makes of files, as an array.

  They are made again if a file has another size or time of change. Where the
  folder cannot be written they are made in memory, by each process.

  Attributes:
    data: u8[bytes], mapped from the file where there is one.
    paths: tuple of str, of the files.
  """

  def __init__(self, write, *paths):
    """Maps the bytes, and makes them first if need be.

    Args:
      write: function of a module; gets the paths and a binary file to write to.
        Its name stands for what it writes: give it another one with the format.
      paths: str, of local files.

    Raises:
      OSError: the files cannot be read.
      ValueError: what `write` raises.
    """
    self._write, self.paths = write, paths
    status = [os.stat(path) for path in paths]
    if sum(s.st_size for s in status) < SMALL:
      self.data = self._in_memory()
      return
    key = [write.__module__, write.__qualname__]
    for path, s in zip(paths, status):
      key += [os.path.abspath(path), s.st_size, s.st_mtime_ns]
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    self.data = self._mapped(folder() / "index" / name)

  def __reduce__(self):
    return Index, (self._write, *self.paths)

  def _mapped(self, target):
    try:
      return _open(target)
    except (OSError, ValueError):
      pass  # there is none, or it is broken
    try:
      with atomic.replacing(target, sync=False) as part, open(part, "wb") as f:
        self._write(*self.paths, f)
        # A crash leaves files of zeros: the end says how many bytes there are.
        f.write(np.int64(f.tell()).tobytes())
      return _open(target)
    except OSError:  # a full disk, or one that is read-only
      return self._in_memory()

  def _in_memory(self):
    sink = io.BytesIO()
    self._write(*self.paths, sink)
    return np.frombuffer(sink.getbuffer(), np.uint8)


def _open(target):
  data = np.memmap(target, np.uint8, "r")
  if data[-8:].view(np.int64) != len(data) - 8:
    raise ValueError(f"{target} is not whole")
  return data[:-8]
