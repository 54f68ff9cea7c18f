"""The stream of batches: order, randomness, hosts, reading ahead.

Training is an endless stream of examples. Which row of which dataset stands at
a position, and what is drawn for it, is a function of the seed and the position
alone: neither threads, worker processes nor hosts change it, and to resume is
to start at another position. Batch j is the positions from j * B on, of which
each host reads a block. Evaluation visits each row once, in order, and fills up
with padding examples (index -1).

A row that an op skips, or a bad one under the policy `skip`, is replaced by
another row of the same dataset, so that the mixture's weights stay exact.
"""

import functools
import os
import sys
from concurrent import futures

import grain
import jax

from pg import pp, sharding
from pg.data import bad as bad_lib
from pg.data import mixture, pipeline
from pg.data import options as options_lib
from pg.pp import parse

# Rows of one dataset that are tried for one position of the stream.
MAX_TRIES = 10_000
DEFAULT = options_lib.Options()


class Stream:
  """The endless stream of training over all hosts: position -> example."""

  def __init__(self, data, finish, seed, *, skip_bad=False):
    """Opens the stream; this takes no time, however long the datasets are.

    Args:
      data: tuple of Dataset.
      finish: function (example after its ops, dataset's number, row) -> item.
      seed: int.
      skip_bad: bool, whether bad rows are replaced.
    """
    self._data, self._finish, self._seed = data, finish, seed
    self._skip_bad = skip_bad
    self._mixture = mixture.Mixture([d.weight for d in data])
    self._strides = [mixture.stride(len(d.source)) for d in data]

  def __getitem__(self, position):
    """Returns the item at a position, and the Bad rows met on the way to it.

    Raises:
      ValueError: a bad row, or a dataset without a usable one.
    """
    number, nth = self._mixture[position]
    dataset, bad = self._data[number], []
    for i, epoch in self._tries(number, nth):
      turn = pp.Turn((self._seed, number), i, epoch)
      finish = lambda done: self._finish(done, number, i)  # noqa: B023
      item = pipeline.use(
        dataset, i, turn, finish, bad if self._skip_bad else None
      )
      if item is not None:
        return item, bad
    last = f"; the last bad one: {bad[-1].message}" if bad else ""
    raise ValueError(
      f"dataset {dataset.name}: none of {min(MAX_TRIES, len(dataset.source))}"
      f" rows in turn could be used; they are skipped by its pp or bad{last}"
    )

  def _tries(self, number, nth):
    """Yields rows and their epoch: the nth of a dataset, then replacements."""
    n = len(self._data[number].source)
    epoch, place = divmod(nth, n)
    for _ in range(min(n, MAX_TRIES)):
      yield mixture.shuffled(place, n, self._seed, number, epoch), epoch
      place = (place + self._strides[number]) % n


def train_batches(
  data, form, seed, batch_size, *, start=0, stop=None, options=DEFAULT
):
  """Iterates over this host's rows of the batches of training.

  Args:
    data: tuple of Dataset.
    form: Form.
    seed: int.
    batch_size: int, examples per step over all hosts.
    start: int, the position of the first example: where to resume.
    stop: int, the position behind the last one; None never ends.
    options: Options.

  Returns:
    A generator of (rows, bad): a batch, and the list of Bad rows that others in
    it replace.
  """
  first, size = _share(batch_size)
  stop = sys.maxsize if stop is None else stop
  data = tuple(pipeline.cached(data, options))
  finish = functools.partial(pipeline.row, form)
  stream = Stream(data, finish, seed, skip_bad=options.bad.skips)

  def make(j):
    at = start + j * batch_size + first
    rows, bad = zip(*(stream[at + r] for r in range(size)))
    return pipeline.stack(rows), _Aside(sum(bad, []))

  return _read((stop - start) // batch_size, make, options)


def train_texts(data, seed, options=DEFAULT):
  """Iterates over (prefix, suffix) of training, in the mixture's proportion.

  Images are not decoded for that; so boxes are those before a random crop.
  """
  data = tuple(
    d._replace(pp=functools.partial(parse.run_texts, *d.pp.args)) for d in data
  )
  text = lambda done, *_: (done["prefix"], done["suffix"])
  stream = Stream(data, text, seed, skip_bad=options.bad.skips)
  make = lambda k: (_Aside(*stream[k][0]),)
  return _read(sys.maxsize, make, options._replace(num_workers=0))


def eval_batches(dataset, form, batch_size, num_examples=None, options=DEFAULT):
  """Iterates over this host's rows of a dataset, every row once, in order.

  Skipped and bad rows become padding: where they stand depends on nothing but
  the data, so that all hosts get as many batches.

  Args:
    dataset: Dataset.
    form: Form.
    batch_size: int, rows per batch over all hosts.
    num_examples: int, only the first rows; None is all.
    options: Options.

  Returns:
    A generator of (rows, bad, examples): a batch, a list of the Bad rows left
    out of it, and the examples in it (padding left out) without their images.
  """
  first, size = _share(batch_size)
  n = pipeline.num_rows(dataset, num_examples)
  blank = {"image": [], "prefix": "", "suffix": ""}

  def visit(i, bad):
    def finish(done):
      text = {k: v for k, v in done.items() if k != "image"}
      return pipeline.row(form, done, 0, i), text

    item = None
    if i < n:
      kept = bad if options.bad.skips else None
      item = pipeline.use(dataset, i, pp.Turn(row=i), finish, kept)
    return item or (pipeline.row(form, blank, 0, -1), None)

  def make(j):
    bad, at = [], j * batch_size + first
    rows, texts = zip(*(visit(at + r, bad) for r in range(size)))
    texts = [t for t in texts if t is not None]
    return pipeline.stack(rows), _Aside(bad, texts)

  return _read(-(-n // batch_size), make, options)


class _Aside:
  """What goes along with a batch as it is; Grain opens other containers."""

  def __init__(self, *values):
    self.values = values


def _share(batch_size):
  """Returns where this host's block of a batch begins, and its size."""
  host, hosts = jax.process_index(), jax.process_count()
  if batch_size % hosts:
    raise ValueError(
      f"batch_size {batch_size} is not divisible by the {hosts} hosts; try"
      f" {max(1, batch_size // hosts) * hosts}"
    )
  size = batch_size // hosts
  return host * size, size


def _read(num_items, make, options):
  """Iterates over make(0), make(1)... in order, read ahead by the options.

  Each is a tuple that ends with an _Aside, which is opened.
  """
  workers = options.num_workers
  ahead = -(-options.prefetch // max(1, workers))
  read = grain.ReadOptions(min(options.num_threads, ahead), ahead)
  dataset = grain.MapDataset.range(num_items).map(make).to_iter_dataset(read)
  if workers:
    # Grain asks for one of absl's flags, and this program parses none.
    sys.modules["absl.flags"].FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers))
  items = iter(dataset)
  try:
    for *item, aside in items:
      yield *item, *aside.values
  finally:
    items.close()


def on_devices(batches, mesh):
  """Yields what `batches` does and the rows on the devices, one batch ahead.

  The next batch is read and sent while the caller works with this one. What
  goes wrong with it is raised when it is asked for.

  Args:
    batches: a generator of tuples that begin with rows.
    mesh: the mesh.
  """

  def fetch():
    item = next(batches, None)
    return item and (*item, sharding.put(item[0], mesh))

  with futures.ThreadPoolExecutor(1) as pool:
    try:
      ahead = pool.submit(fetch)
      while (item := ahead.result()) is not None:
        ahead = pool.submit(fetch)
        yield item
    finally:
      futures.wait([ahead])
      batches.close()


def record(data, options, workdir, num_examples=None):
  """Returns the bad.Record of a stream of datasets, for this host."""
  host = jax.process_index()
  name, end = os.path.splitext(bad_lib.FILE)
  path = os.path.join(
    workdir, f"{name}-host{host}{end}" if host else name + end
  )
  sizes = {d.name: pipeline.num_rows(d, num_examples) for d in data}
  return bad_lib.Record(sizes, options.bad, path)
