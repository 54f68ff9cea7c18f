"""The datasets of a config: rows of sources, through ops, to batches."""

import functools
import glob
import json
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pg import config, pp
from pg.data import bad as bad_lib
from pg.data import cache as cache_lib
from pg.data import prefix_lm
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
  spec: str  # how it was described, for the fingerprint


class Form(NamedTuple):
  """What a row looks like; the same for all datasets of a run."""

  tok: object  # tokenizer
  res: int  # pixels per side
  num_images: int  # F
  text_len: int
  form: str = "train"  # or "decode"
  blind: bool = False  # hide all images


def datasets(data, pp):
  """Opens the datasets of a config's `data`.

  Args:
    data: a spec `dict(source=..., ...)`, or a mapping from names to specs, each
      with an optional `weight` (1) and `pp`.
    pp: str, the pipeline string of specs that have none of their own.

  Returns:
    tuple of Dataset.

  Raises:
    ValueError: an unknown source or op, or arguments that do not fit.
  """
  data = json.loads(json.dumps(_plain(data)))
  mixture = {"": data} if isinstance(data.get("source"), str) else data
  return tuple(_open(name, spec, pp) for name, spec in mixture.items())


def _plain(node):
  return (
    {k: _plain(v) for k, v in node.items()} if hasattr(node, "items") else node
  )


def _open(name, spec, pp):
  if "source" not in spec:
    raise ValueError(f'dataset "{name}" has no source: {spec}')
  make = config.lookup(source_lib.SOURCES, spec["source"], "source")
  spec = {"pp": pp, "weight": 1.0, **spec}
  if not isinstance(spec["weight"], int | float) or spec["weight"] <= 0:
    raise ValueError(
      f'dataset "{name}" has weight {spec["weight"]!r}; give it a number above'
      " 0, or leave the dataset out"
    )
  try:
    source = make(**{k: v for k, v in spec.items() if k not in _NOT_SOURCE})
  except TypeError as e:
    raise ValueError(f'source "{spec["source"]}": {e}') from e
  if len(source) == 0:
    raise ValueError(f"dataset {name or spec['source']} is empty: {spec}")
  text = json.dumps(spec, sort_keys=True)
  name = name or spec["source"]
  return Dataset(name, source, parse.build(spec["pp"]), spec["weight"], text)


def num_examples(data):
  """Returns how many examples one epoch of the mixture has.

  The epoch of a mixture ends when each of its datasets was seen at least once
  as often as its weight asks for: the number is the sum of the lengths.
  """
  return sum(len(d.source) for d in data)


def num_rows(dataset, num_examples=None):
  """Returns how many rows an evaluation of the first ones visits."""
  n = len(dataset.source)
  return n if num_examples is None else min(n, num_examples)


def example(dataset, i, turn):
  """Returns example i after its ops.

  Args:
    dataset: Dataset.
    i: int, the row.
    turn: pp.Turn, which visit of the row this is.

  Raises:
    ValueError: what the source or an op objects to, with the row's name.
    pp.Skip: the row does not belong to the task.
  """
  try:
    return dataset.pp(dataset.source[i], turn)
  except (ValueError, OSError) as e:
    raise ValueError(_named(dataset, i, e)) from e


def _named(dataset, i, error):
  where = dataset.source.where(i)
  return str(error) if where in str(error) else f"{where}: {error}"


def use(dataset, i, turn, finish, bad):
  """Returns what `finish` makes of a row, None if the row cannot be used.

  Args:
    bad: list that takes a bad row; None raises its ValueError instead.
  """
  try:
    done = example(dataset, i, turn)
    return finish(done)
  except pp.Skip:
    return None
  except ValueError as e:
    text = _named(dataset, i, e)
    if bad is None:
      raise ValueError(text) from e
    bad.append(bad_lib.Bad(dataset.name, i, dataset.source.where(i), text))
    return None


def row(form, done, number, index):
  """Makes the row of the batch contract from an example after its ops.

  Args:
    form: Form.
    done: dict with image and prefix; in form "train" also suffix, and perhaps
      no_loss (see `prefix_lm.make`).
    number: int, the dataset's place in the mixture.
    index: int, the row's in the dataset; -1 for padding.
  """
  train = form.form == "train"
  for key in ("image", "prefix", *["suffix"] * train):
    if key not in done:
      raise ValueError(
        f'the pp left no "{key}" in the example, only {", ".join(sorted(done))}'
      )
  suffix = done["suffix"] if train else ""
  no_loss = done.get("no_loss", ()) if train else ()
  text = prefix_lm.make(
    done["prefix"], suffix, form.tok, form.text_len, form.form, no_loss
  )
  image, mask = _images(done["image"], form)
  ids = {"source": np.int32(number), "index": np.int32(index)}
  return {"image": image, "mask_image": mask, **text, **ids}


def _images(images, form):
  """Returns u8[F, R, R, 3] and bool[F] of one image or a list of them."""
  images = images if isinstance(images, (list, tuple)) else [images]
  if len(images) > form.num_images:
    raise ValueError(
      f"the example has {len(images)} images and the config num_images ="
      f" {form.num_images}"
    )
  shape = (form.res, form.res, 3)
  out = np.zeros((form.num_images, *shape), np.uint8)
  for i, image in enumerate(images):
    if image.shape != shape:
      raise ValueError(
        f"the image is {image.shape} after the pp and the model takes {shape};"
        f" add resize({form.res}) to the pp"
      )
    out[i] = image
  shown = np.arange(form.num_images) < (0 if form.blind else len(images))
  return out * shown[:, None, None, None], shown


def stack(rows):
  """Stacks rows to a batch."""
  return {k: np.stack([r[k] for r in rows]) for k in rows[0]}


def cached(data, options):
  """Yields the datasets with the cache that is asked for."""
  budget = cache_lib.Budget(int(options.cache_gb * 2**30))
  for d in data:
    if options.cache == "raw":
      d = d._replace(
        source=cache_lib.Cached(d.source, budget, d.source.__getitem__)
      )
    elif options.cache == "examples":
      (steps,) = d.pp.args
      random = [step.source for step in steps if step.wants]
      if random:
        raise ValueError(
          f'input.cache = "examples" keeps rows as they are after the pp, but'
          f" {random[0]} of {d.name} makes another one each time; take"
          ' input.cache = "raw"'
        )
      read = functools.partial(_done, d)
      source = cache_lib.Cached(d.source, budget, read)
      d = d._replace(source=source, pp=_unchanged)
    yield d


def _done(dataset, i):
  return example(dataset, i, pp.Turn(row=i))


def _unchanged(example, turn):
  return example


def fingerprint(data, seed, batch_size):
  """Describes what the order of examples depends on, for the checkpoint."""
  return {
    "seed": seed,
    "batch_size": batch_size,
    "datasets": {
      d.name: {**json.loads(d.spec), "len": len(d.source), "bytes": _sizes(d)}
      for d in data
    },
  }


def _sizes(dataset):
  """Returns {file: bytes} of the files that a dataset's spec names."""
  spec = {k: v for k, v in json.loads(dataset.spec).items() if k != "pp"}
  files = {f for text in _texts(spec) for f in glob.glob(text)}
  return {f: os.path.getsize(f) for f in sorted(files) if os.path.isfile(f)}


def _texts(node):
  """Yields the strings in a nested value."""
  if isinstance(node, str):
    yield node
  elif isinstance(node, dict | list):
    for child in node.values() if isinstance(node, dict) else node:
      yield from _texts(child)


def check(data, form, limit=200, record=None):
  """Reads a few examples of every dataset before training wastes time.

  Args:
    data: tuple of Dataset.
    form: Form.
    limit: int, examples per dataset.
    record: bad.Record; under its policy `skip`, bad rows go there.

  Returns:
    dict from dataset name to (rows that are cut, rows that could be used).

  Raises:
    ValueError: the first broken row, named, or more of them than are allowed.
  """
  skips = record is not None and record.policy.skips
  cut = {}
  for number, d in enumerate(data):
    if hasattr(d.source, "check") and not skips:
      d.source.check(limit=1000)
    n, rows, bad = min(limit, len(d.source)), [], []
    for i in np.linspace(0, len(d.source) - 1, n).astype(int).tolist():
      finish = lambda done: row(form, done, number, i)  # noqa: B023
      rows.append(use(d, i, pp.Turn(row=i), finish, bad if skips else None))
    rows = [r for r in rows if r is not None]
    if skips and bad:
      ids = {
        k: np.array([r[k] for r in rows], int) for k in ("source", "index")
      }
      record.add(ids, bad)
    if not rows:
      raise ValueError(
        f"dataset {d.name}: none of the {n} rows tried could be used; its pp"
        " skips all of them"
      )
    cut[d.name] = (int(prefix_lm.is_cut(stack(rows)).sum()), len(rows))
  return cut
