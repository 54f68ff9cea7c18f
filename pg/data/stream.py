"""The stream of batches: order, randomness, hosts, workers, reading ahead.

Training is an endless stream of examples. Which row of which dataset stands at
a position, and what is drawn for it, is a function of the seed and the position
alone: neither threads, worker processes nor hosts change it, and to resume is
to start at another position. Batch j is the positions from j * B on, of which
each host reads a block. Evaluation (evaluation.py) reads each row once.

To read a row gives it as the batch has it, or raises `pp.Skip` (it does not
belong to the task) or `bad.BadRow`. Training takes the next row of the same
dataset for a skipped one, and under the policy `skip` for a bad one, so that
the mixture's weights stay exact; evaluation leaves it out.
"""

import contextlib
import functools
import itertools
import sys
from concurrent import futures

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from pg import limits, pp, sharding, stop
from pg.data import bad as bad_lib
from pg.data import cache, lengths, mixture, prefix_lm
from pg.data import options as options_lib
from pg.data import source as source_lib
from pg.pp import image

# Rows of one dataset that are tried for one position of the stream.
MAX_TRIES = 10_000
DEFAULT = options_lib.Options()


def read(dataset, i, turn, make):
  """Reads one row.

  Args:
    dataset: pipeline.Dataset.
    i: int, the row.
    turn: pp.Turn, which visit of the row this is.
    make: function from the example after its ops to what is wanted of it.

  Raises:
    pp.Skip: the row does not belong to the task.
    bad.BadRow: what the source, an op or `make` objects to.
  """
  try:
    with limits.within(dataset.limits):
      return make(dataset.pp(dataset.source[i], turn))
  except (ValueError, OSError) as e:
    where, text = dataset.source.where(i), str(e)
    if isinstance(e.__cause__, image.Undecodable):  # an op's
      text = f"{source_lib.images(dataset.source, i)}{text}"
    text = text if where in text else f"{where}: {text}"
    raise bad_lib.BadRow(dataset.name, i, where, text) from e


def first_usable(dataset, visits, make, skip_bad):
  """Reads the first of some rows that can be used.

  Args:
    dataset, make: as for `read`.
    visits: iterable of (row, pp.Turn), those to try.
    skip_bad: bool, whether bad rows are passed over, or raised.

  Returns:
    The row's number and what `make` made of it, None and None where no row can
    be used; and a list of bad.Bad, the bad rows before it.
  """
  bad = []
  for i, turn in visits:
    try:
      return i, read(dataset, i, turn, make), bad
    except pp.Skip:
      pass
    except bad_lib.BadRow as error:
      if not skip_bad:
        raise
      bad.append(error.bad)
  return None, None, bad


class Stream:
  """The endless stream of training over all hosts: position -> item."""

  def __init__(self, data, make, seed, *, skip_bad=False):
    """Opens the stream; this takes no time, however long the datasets are.

    Args:
      data: tuple of pipeline.Dataset.
      make: as for `read`.
      seed: int.
      skip_bad: bool, whether bad rows are replaced.
    """
    self._data, self._make, self._seed = data, make, seed
    self._skip_bad = skip_bad
    self._mixture = mixture.Mixture([d.weight for d in data])
    self._strides = [mixture.stride(len(d.source)) for d in data]

  def __getitem__(self, position):
    """Reads the item at a position.

    Returns:
      The dataset's number, the row in it, what `make` made of the row, and a
      list of bad.Bad, the rows that it replaces.

    Raises:
      bad.BadRow, ValueError: a bad row, or a dataset without a usable one.
    """
    number, visits = self.visits(position)
    dataset = self._data[number]
    i, item, bad = first_usable(dataset, visits, self._make, self._skip_bad)
    if i is None:
      last = f"; the last bad one: {bad[-1].message}" if bad else ""
      raise ValueError(
        f"dataset {dataset.name}: none of {min(MAX_TRIES, len(dataset.source))}"
        f" rows in turn could be used; they are skipped by its pp or bad{last}"
      )
    return number, i, item, bad

  def visits(self, position):
    """Returns the number of a position's dataset, and which rows of it to try.

    These are pairs of a row and its Turn: the row there, then replacements.
    """
    number, nth = self._mixture[position]
    return number, self._visits(number, nth)

  def _visits(self, number, nth):
    n = len(self._data[number].source)
    epoch, place = divmod(nth, n)
    for _ in range(min(n, MAX_TRIES)):
      i = mixture.shuffled(place, n, self._seed, number, epoch)
      yield i, pp.Turn((self._seed, number), i, epoch)
      place = (place + self._strides[number]) % n


def train_batches(
  data,
  form,
  seed,
  batch_size,
  *,
  start=0,
  stop=None,
  options=DEFAULT,
  text_lens=(),
  window=1,
):
  """Iterates over this host's rows of the batches of training.

  Args:
    data: tuple of pipeline.Dataset.
    form: prefix_lm.Form.
    seed: int.
    batch_size: int, examples per step over all hosts.
    start: int, the position of the first example: where to resume.
    stop: int, the position after the last one; None never ends.
    options: Options.
    text_lens: ints, the text positions that a batch may have, see lengths.py;
      with fewer than two of them it has all.
    window: int, batches whose rows are sorted by length.

  Returns:
    A generator of (rows, bad): a batch, and the list of Bad rows that others in
    it, or in its window, replace.
  """
  first, size = share(batch_size)
  stop = sys.maxsize if stop is None else stop
  number, num = start // batch_size, (stop - start) // batch_size
  before = number % window  # batches of its window, which are read again
  start -= before * batch_size
  if options.cache:
    data = cache.cached(data, options)
  make = functools.partial(prefix_lm.train_row, form)
  stream = Stream(data, make, seed, skip_bad=options.bad.skips)

  def batch(j):
    at = start + j * batch_size + first
    numbers, indices, rows, bad = zip(*(stream[at + k] for k in range(size)))
    return stack(rows, numbers, indices), Aside(sum(bad, []))

  if window == 1:
    batches = iterate(num, batch, options)
  else:
    # While one window is trained on, the next is read.
    options = options._replace(prefetch=max(options.prefetch, window))
    num_windows = -(-(before + num) // window)
    batches = iterate(num_windows * window, batch, options)
    batches = lengths.sorted_by_length(
      batches, window, batch_size, seed, number // window
    )
    batches = _part(batches, before, before + num)
  if len(text_lens) > 1:
    batches = lengths.fitted(batches, text_lens, number)
  return batches


def _part(batches, start, stop):
  with contextlib.closing(batches):
    yield from itertools.islice(batches, start, stop)


def stack(rows, sources, indices):
  """Stacks rows to a batch and adds where they come from.

  Args:
    rows: list of dict of numpy arrays.
    sources: list of int, the datasets' numbers in the mixture.
    indices: list of int, the rows' numbers in them; -1 is a padding example.
  """
  batch = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
  ids = {"source": sources, "index": indices}
  return batch | {k: np.array(v, np.int32) for k, v in ids.items()}


class Aside:
  """What goes along with a batch as it is; Grain opens other containers."""

  def __init__(self, *values):
    self.values = values


def share(batch_size):
  """Returns where this host's block of a batch begins, and its size."""
  host, hosts = jax.process_index(), jax.process_count()
  if batch_size % hosts:
    raise ValueError(
      f"batch_size {batch_size} is not divisible by the {hosts} hosts; try"
      f" {max(1, batch_size // hosts) * hosts}"
    )
  size = batch_size // hosts
  return host * size, size


def iterate(num_items, make, options):
  """Iterates over make(0), make(1)... in order, read ahead by the options.

  Each is a tuple that ends with an Aside, which is opened.
  """
  workers = options.num_workers
  ahead = -(-options.prefetch // max(1, workers))
  read = grain.ReadOptions(min(options.num_threads, ahead), ahead)
  dataset = grain.MapDataset.range(num_items).map(make).to_iter_dataset(read)
  if workers:
    # Grain asks for one of absl's flags, and this program parses none.
    sys.modules["absl.flags"].FLAGS.mark_as_parsed()
    stop.ignore()
    how = grain.MultiprocessingOptions(workers)
    dataset = dataset.mp_prefetch(how, stop.end_with_parent)
  items = iter(dataset)
  try:
    for *item, aside in items:
      yield *item, *aside.values
  finally:
    items.close()


def put(rows, mesh):
  """Makes global arrays, split along the batch, of this process' rows.

  Args:
    rows: dict of np [b, ...], the rows of this process only.
    mesh: the mesh.

  Returns:
    dict of jax arrays [B, ...].
  """
  split = NamedSharding(mesh, PartitionSpec(sharding.BATCH))
  array = jax.make_array_from_process_local_data
  return {k: array(split, np.asarray(v)) for k, v in rows.items()}


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
    if item is None:
      return None
    return *item, put(item[0], mesh)

  with futures.ThreadPoolExecutor(1) as pool:
    try:
      ahead = pool.submit(fetch)
      while (item := ahead.result()) is not None:
        ahead = pool.submit(fetch)
        yield item
    finally:
      futures.wait([ahead])
      batches.close()
