"""The datasets of a config, opened and checked before a run starts."""

import json
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from pg import config, pp
from pg import limits as limits_lib
from pg.data import bad as bad_lib
from pg.data import prefix_lm, stream
from pg.data import source as source_lib
from pg.pp import parse

# Keys of a data spec that are not arguments of its source.
_NOT_SOURCE = ("source", "weight", "pp")


class Dataset(NamedTuple):
  """One source with its preprocessing."""

  name: str
  source: object  # len(), [i], where(i)
  pp: Callable  # (example, pp.Turn) -> example
  weight: float  # share of the mixture, any unit
  spec: str  # how it was described, JSON
  limits: limits_lib.Limits = limits_lib.DEFAULT  # of what a row may ask for


def datasets(data, pp, limits=limits_lib.DEFAULT):
  """Opens the datasets of a config's `data`.

  Args:
    data: a spec `dict(source=..., ...)`, or a mapping from names to specs, each
      with an optional `weight` (1) and `pp`.
    pp: str, the pipeline string of specs that have none of their own.
    limits: limits.Limits, of what their rows may ask for.

  Returns:
    tuple of Dataset.

  Raises:
    ValueError: an unknown source or op, or arguments that do not fit.
  """
  data = json.loads(json.dumps(_plain(data)))
  mixture = {"": data} if isinstance(data.get("source"), str) else data
  with limits_lib.within(limits):
    opened = [_open(name, spec, pp) for name, spec in mixture.items()]
  return tuple(d._replace(limits=limits) for d in opened)


def _plain(node):
  return (
    {k: _plain(v) for k, v in node.items()} if hasattr(node, "items") else node
  )


def _open(name, spec, pp):
  if "source" not in spec:
    raise ValueError(f'dataset "{name}" has no source: {spec}')
  make = config.lookup(source_lib.SOURCES, spec["source"], "source")
  spec = {"pp": pp, "weight": 1.0, **spec}
  try:
    source = make(**{k: v for k, v in spec.items() if k not in _NOT_SOURCE})
    size = len(source)
  except TypeError as e:
    raise ValueError(f'source "{spec["source"]}": {e}') from e
  if size == 0:
    raise ValueError(f"dataset {name or spec['source']} is empty: {spec}")
  if not hasattr(source, "where"):
    source = source_lib.Numbered(source, spec["source"])
  text = json.dumps(spec, sort_keys=True)
  name = name or spec["source"]
  return Dataset(name, source, parse.build(spec["pp"]), spec["weight"], text)


def num_examples(data):
  """Returns how many examples one epoch of the mixture has.

  The epoch of a mixture ends when each of its datasets was seen at least once
  as often as its weight asks for: the number is the sum of the lengths.
  """
  return sum(len(d.source) for d in data)


def bad_record(data, options, workdir, num_examples=None):
  """Returns the bad.Record of datasets that are read, for this host."""
  host = jax.process_index()
  name = bad_lib.FILE.replace(".", f"-host{host}.") if host else bad_lib.FILE
  most = sys.maxsize if num_examples is None else num_examples
  sizes = {d.name: min(len(d.source), most) for d in data}
  return bad_lib.Record(sizes, options.bad, os.path.join(workdir, name))


def check(data, make, options, workdir, limit=200, *, targets=False):
  """Reads a few examples of every dataset before training wastes time.

  Args:
    data: tuple of Dataset.
    make: function from an example after its ops to its row of the batch.
    options: Options; under the policy `skip` bad rows are written down.
    workdir: str, where to.
    limit: int, examples per dataset.
    targets: bool, whether a dataset needs a row with a target.

  Returns:
    dict from dataset name to (rows that are cut, rows that could be used).

  Raises:
    ValueError: the first broken row, named, or more of them than are allowed.
  """
  record = bad_record(data, options, workdir)
  cut = {}
  for number, d in enumerate(data):
    if hasattr(d.source, "check") and not options.bad.skips:
      with limits_lib.within(d.limits):
        d.source.check(limit=1000)
    n = min(limit, len(d.source))
    places = np.linspace(0, len(d.source) - 1, n).astype(int).tolist()
    visits = [[(i, pp.Turn(row=i))] for i in places]
    found = [
      stream.first_usable(d, visit, make, options.bad.skips) for visit in visits
    ]
    rows = [row for _, row, _ in found if row is not None]
    bad = sum((bad for *_, bad in found), [])
    if bad:
      ids = np.full(len(rows), number), np.zeros(len(rows), int)
      record.add(dict(zip(("source", "index"), ids)), bad)
    if not rows:
      raise ValueError(
        f"dataset {d.name}: none of the {n} rows tried could be used; its pp"
        " skips all of them"
      )
    if targets and not any(row["mask_loss"].any() for row in rows):
      raise ValueError(
        f"dataset {d.name}: none of the {len(rows)} rows tried has a target"
        " left: their prompts fill all of text_len; raise it"
      )
    cut[d.name] = sum(map(int, map(prefix_lm.is_cut, rows))), len(rows)
  return cut
