"""How rows are read: the config's `input` and `bad`."""

from typing import NamedTuple

from pg import limits as limits_lib
from pg.data import bad as bad_lib


class Options(NamedTuple):
  """How rows are read; none of it changes which ones, or their order."""

  num_workers: int = 0  # processes; 0: threads of this one
  num_threads: int = 4  # in each process
  prefetch: int = 8  # batches that are ready before they are wanted
  cache: str = ""  # of training rows: "raw" or "examples", those after the pp
  cache_gb: float = 1.0  # in each process; as much again for evaluators' rows
  cache_images: str = ""  # features of a frozen tower: "memory", or a folder
  bad: bad_lib.Policy = bad_lib.Policy()
  limits: limits_lib.Limits = limits_lib.DEFAULT


def from_config(c):
  """Returns the Options of a valid config, from `c.input` and `c.bad`."""
  given = dict(c.input)
  known = {k: given.pop(k) for k in limits_lib.Limits._fields if k in given}
  limits = limits_lib.Limits(**known)
  return Options(**given, bad=bad_lib.policy(**c.bad), limits=limits)
