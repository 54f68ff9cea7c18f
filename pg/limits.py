"""What a row may ask for; the config's `input` can change it.

Rows come from strangers: without limits one of them could fill the memory, or
have this machine call its neighbours. Who reads a row does so `within` the
limits of its dataset; what reads a file or decodes an image asks for them.
"""

import contextlib
import contextvars
import os
import stat
from typing import NamedTuple


class Exceeded(ValueError):
  """Something is more than the limits allow."""


class Limits(NamedTuple):
  """What reading one row may take."""

  # Of an image file, wherever it is, a record, or a text of annotations.
  max_bytes: int = 1 << 28
  max_pixels: int = 89_478_485  # of an image or frame, as Pillow warns from
  # Rows may name URLs of hosts in this network, and of this machine.
  private_hosts: bool = False


DEFAULT = Limits()
_current = contextvars.ContextVar("limits")


def current():
  """Returns the Limits of what this thread reads."""
  return _current.get(DEFAULT)


@contextlib.contextmanager
def within(limits):
  """Makes limits the `current` ones of this thread, for a while."""
  token = _current.set(limits)
  try:
    yield
  finally:
    _current.reset(token)


def check_bytes(size, what):
  """Raises Exceeded where something has more bytes than it may."""
  most = current().max_bytes
  if size > most:
    raise Exceeded(
      f"{what} has more than input.max_bytes = {most:,} bytes; raise that"
      " if it is meant to"
    )


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
    check_bytes(status.st_size, path)
    return f.read()


def _at_once(path, flags):
  """Opens a file; a pipe into which nobody writes does not wait."""
  return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
