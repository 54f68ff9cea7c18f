"""A source of rows that say their own number, and a pipeline's parts for it."""

import functools
import itertools
import operator

import jax
import numpy as np
import pytest

from pg import pp
from pg.codecs import tokenizer
from pg.data import pipeline, prefix_lm, source, stream


class Numbers:
  """Row i has i in its suffix and its pixels; some rows are bad or missing."""

  def __init__(self, size=10, start=0, bad=(), gone=()):
    self._size, self._start = size, start
    self._bad, self._gone = frozenset(bad), frozenset(gone)

  def __len__(self):
    return self._size

  def __getitem__(self, i):
    if i in self._bad:
      raise ValueError(f"{self.where(i)}: no number")
    if i in self._gone:
      raise OSError("no such place")
    image = np.full((8, 8, 3), self._start + i, np.uint8)
    return {"image": image, "prefix": "say", "suffix": f"{self._start + i}"}

  def where(self, i):
    return f"numbers:{i}"


def keep_even(example):
  """An op that skips odd numbers."""
  if int(example["suffix"]) % 2:
    raise pp.Skip("odd")
  return {}


def draw(example, *, rng):
  """An op that draws a number for the suffix."""
  return {"suffix": str(rng.integers(10**9))}


def register(monkeypatch):
  """Lets configs name what is here."""
  monkeypatch.setitem(source.SOURCES, "numbers", Numbers)
  monkeypatch.setitem(pp.OPS, "keep_even", keep_even)
  monkeypatch.setitem(pp.OPS, "draw", draw)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
  register(monkeypatch)


@pytest.fixture(scope="module")
def form():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  return prefix_lm.Form(tok, res=8, num_images=1, text_len=24)


def items(data, seed=0, *, skip_bad=False, start=0, stop=100):
  """Returns (dataset, row, suffix) at positions of the stream."""
  suffix = operator.itemgetter("suffix")
  opened = stream.Stream(data, suffix, seed, skip_bad=skip_bad)
  return [opened[k][:3] for k in range(start, stop)]


def batches(data, form, batch_size=12, num=3, *, seed=0, watch=int, **more):
  """Returns the first batches of training and their bad rows as plain values.

  What can be compared: bytes of every array, and the Bad rows. Between batches
  `watch` is called.
  """
  found = stream.train_batches(data, form, seed, batch_size, **more)
  plain = []
  for rows, bad in itertools.islice(found, num):
    plain.append(({k: v.tobytes() for k, v in rows.items()}, bad))
    watch()
  found.close()
  return plain


def check(data, form, options=stream.DEFAULT, workdir=""):
  """Returns (rows cut, rows read) of each dataset."""
  make = functools.partial(prefix_lm.train_row, form)
  return pipeline.check(data, make, options, workdir)


def hosts(num_hosts, function):
  """Returns what a function returns on each of several hosts."""
  results = []
  for host in range(num_hosts):
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(jax, "process_count", lambda: num_hosts)
      patch.setattr(jax, "process_index", functools.partial(int, host))
      results.append(function())
  return results


def datasets(spec, pp="decode"):
  return pipeline.datasets(spec, pp)
