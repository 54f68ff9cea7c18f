"""Files of this machine, read as a whole."""

import os
import stat

from pg import limits


def read(path):
  """Returns the bytes of a file.

  Raises:
    ValueError: it is none (a device or a pipe, which may never end), or has
      more bytes than a row may ask for.
    OSError: it cannot be read.
  """
  with open(path, "rb", opener=_at_once) as f:
    status = os.fstat(f.fileno())
    if not stat.S_ISREG(status.st_mode):
      raise ValueError(f"{path} is no file but a device or a pipe")
    limits.check_bytes(status.st_size, path)
    return f.read()


def _at_once(path, flags):
  """Opens a file; a pipe into which nobody writes does not wait."""
  return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
