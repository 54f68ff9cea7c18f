"""How rows are read: the config's `input` and `bad`."""

from typing import NamedTuple

from pg import config
from pg import limits as limits_lib
from pg.data import bad as bad_lib

CACHES = ("", "raw", "examples")


class Options(NamedTuple):
  """How rows are read; none of it changes which ones, or their order."""

  num_workers: int = 0  # processes; 0: threads of this one
  num_threads: int = 4  # in each process
  prefetch: int = 8  # batches that are ready before they are wanted
  cache: str = ""  # of training rows: "raw" or "examples", those after the pp
  cache_gb: float = 1.0  # in each process; as much again for evaluators' rows
  bad: bad_lib.Policy = bad_lib.Policy()
  limits: limits_lib.Limits = limits_lib.DEFAULT


def from_config(c):
  """Returns the Options of a config, from `c.input` and `c.bad`.

  Raises:
    ValueError: a value that is not allowed.
  """
  given = dict(c.input)
  known = {k: given.pop(k) for k in limits_lib.Limits._fields if k in given}
  limits = limits_lib.Limits(**known)
  found = Options(**given, bad=bad_lib.policy(**c.bad), limits=limits)
  if found.cache not in CACHES:
    raise ValueError(config.unknown(found.cache, CACHES, "input.cache"))
  for name, least in dict(
    num_workers=0,
    num_threads=1,
    prefetch=1,
    cache_gb=0,
    max_bytes=1,
    max_pixels=1,
  ).items():
    value = c.input.get(name, least)
    if value < least:
      raise ValueError(f"input.{name} is {value}; it is at least {least}")
  return found
