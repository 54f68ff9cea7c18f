"""How much of everything a request may take."""

from typing import NamedTuple

from pg import limits


class Bounds(NamedTuple):
  """What a request may take."""

  max_bytes: int = 20 << 20  # of a request, all of it
  max_pixels: int = 25_000_000  # of an image
  body_seconds: float = 30.0  # until a request is there
  request_seconds: float = 120.0  # until its answer is
  per_client: int = 32  # requests of an address at a time; 0 is any number
  urls: bool = False  # whether images may be at URLs
  regex: bool = False  # whether answers may be limited by an expression

  def of_rows(self):
    """Returns the limits.Limits that images are read in."""
    return limits.Limits(self.max_bytes, self.max_pixels)
