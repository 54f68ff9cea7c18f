"""From rows of sources to batches: order, randomness, hosts, padding.

Training is an endless stream of examples in which everything is a function of
the seed and the position: per dataset shuffle -> repeat -> random map, then
mix -> [start:] -> [host::hosts] -> batch. To resume is to slice; no iterator
state is kept. Evaluation visits each row once, in order, and fills the last
batch with padding examples (index -1).
"""

import functools
import json
from collections.abc import Callable
from typing import NamedTuple

import grain
import jax
import numpy as np

from pg import config, pp
from pg.data import prefix_lm
from pg.data import source as source_lib
from pg.pp import parse

# Threads that read rows, and rows or batches that they are ahead.
READ = grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
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


def example(dataset, i, turn):
  """Returns example i after its ops.

  Args:
    dataset: Dataset.
    i: int, the row.
    turn: pp.Turn, which visit of the row this is.

  Raises:
    ValueError: what the source or an op objects to, with the row's name.
  """
  try:
    return dataset.pp(dataset.source[i], turn)
  except ValueError as e:
    where = dataset.source.where(i)
    text = str(e) if where in str(e) else f"{where}: {e}"
    raise ValueError(text) from e


def row(form, done, number, index):
  """Makes the row of the batch contract from an example after its ops.

  Args:
    form: Form.
    done: dict with image, prefix and suffix.
    number: int, the dataset's place in the mixture.
    index: int, the row's in the dataset; -1 for padding.
  """
  for key in ("image", "prefix", "suffix"):
    if key not in done:
      raise ValueError(
        f'the pp left no "{key}" in the example, only {", ".join(sorted(done))}'
      )
  suffix = done["suffix"] if form.form == "train" else ""
  text = prefix_lm.make(
    done["prefix"], suffix, form.tok, form.text_len, form.form
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


def train_stream(data, finish, seed, *, start=0):
  """Returns the endless stream over all hosts, as a Grain MapDataset.

  Args:
    data: tuple of Dataset.
    finish: function (example after its ops, dataset's number, index) -> row.
    seed: int.
    start: int, the global number of the first example: where to resume.
  """
  streams = [_dataset_stream(d, finish, seed, i) for i, d in enumerate(data)]
  total = sum(d.weight for d in data)
  shares = [d.weight / total for d in data]
  return grain.MapDataset.mix(streams, shares)[start:]


def train_batches(data, form, seed, batch_size, *, start=0):
  """Iterates over this host's share of the batches of `train_stream`.

  Args:
    batch_size: int, examples per step over all hosts.
  """
  host, hosts = jax.process_index(), jax.process_count()
  finish = functools.partial(row, form)
  stream = train_stream(data, finish, seed, start=start)[host::hosts]
  stream = stream.batch(
    batch_size // hosts, drop_remainder=True, batch_fn=stack
  )
  return iter(stream.to_iter_dataset(READ))


def train_texts(data, seed):
  """Iterates over (prefix, suffix) of training, in the mixture's proportion."""
  text = lambda done, *_: (done["prefix"], done["suffix"])
  stream = train_stream(data, text, seed)
  return iter(stream.to_iter_dataset(READ))


def _dataset_stream(dataset, finish, seed, number):
  n = len(dataset.source)

  def visit(position, i):
    turn = pp.Turn((seed, number), i, position // n)
    return finish(example(dataset, i, turn), number, i)

  indices = grain.MapDataset.range(n)
  indices = indices.seed(seed + 1_000_003 * number).shuffle().repeat()
  return indices.map_with_index(visit)


def eval_batches(dataset, form, batch_size, num_examples=None):
  """Iterates over this host's share of a dataset, every row once, in order.

  Args:
    dataset: Dataset.
    form: Form.
    batch_size: int, rows per batch over all hosts; all get as many batches.
    num_examples: int, only the first ones; None is all.

  Yields:
    A batch, and the examples in it (padding left out) without their images.
  """
  host, hosts = jax.process_index(), jax.process_count()
  n = len(dataset.source)
  n = n if num_examples is None else min(n, num_examples)

  def visit(i):
    done = example(dataset, i % n, pp.Turn(row=i % n))
    text = {k: v for k, v in done.items() if k != "image"}
    return row(form, done, 0, i if i < n else -1), text if i < n else None

  padded = -(-n // batch_size) * batch_size
  stream = grain.MapDataset.range(padded)[host::hosts].map(visit)
  stream = stream.batch(batch_size // hosts, batch_fn=list)
  for pairs in iter(stream.to_iter_dataset(READ)):
    yield stack([r for r, _ in pairs]), [t for _, t in pairs if t is not None]


def fingerprint(data, seed, batch_size):
  """Describes what the order of examples depends on, for the checkpoint."""
  return {
    "seed": seed,
    "batch_size": batch_size,
    "datasets": {d.name: [len(d.source), d.spec] for d in data},
  }


def check(data, form, limit=200):
  """Reads a few examples of every dataset before training wastes time.

  Args:
    data: tuple of Dataset.
    form: Form.
    limit: int, examples per dataset.

  Returns:
    dict from dataset name to (rows that are cut, rows read).

  Raises:
    ValueError: the first broken row, named.
  """
  cut = {}
  for d in data:
    if hasattr(d.source, "check"):
      d.source.check(limit=1000)
    n = min(limit, len(d.source))
    at = np.linspace(0, len(d.source) - 1, n).astype(int)
    rows = [
      row(form, example(d, int(i), pp.Turn(row=int(i))), 0, i) for i in at
    ]
    cut[d.name] = (int(prefix_lm.is_cut(stack(rows)).sum()), n)
  return cut
