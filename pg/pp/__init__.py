"""Preprocessing ops on one example: numpy in, numpy out, no jax.

An op is a function `op(example, ...) -> updates`: it reads what it needs from
the example (a dict), takes its other arguments from the pipeline string (see
parse.py), and returns the keys that change. It never modifies its input.
Annotated parameters (`size: int`) are checked when the string is parsed.

Two parameters are never written in the string: `rng`, a `np.random.Generator`
of this row, epoch and op alone, and `turn`, a `Turn` with the row and the
epoch, for what goes on from one epoch to the next. An op that finds
that a row does not belong to the task raises `Skip`; an op that cannot work
with what the row has raises ValueError. A key goes away with the value `DROP`.

To add one, write it in a file of this folder and give it one worked example as
its test:

  @pp.op
  def upper(example, key: str):
    return {key: pp.text_of(example, key).upper()}

One that changes images belongs in a file of such ops, as image.py is: from
there, and only there, it is also applied where a model is asked about an image.
"""

from typing import NamedTuple

import numpy as np

from pg import config


class Turn(NamedTuple):
  """Seed, row and epoch: all that an op's randomness depends on."""

  seed: tuple = (0,)  # ints >= 0: of the run, and the dataset's number in it
  row: int = 0  # of the dataset
  epoch: int = 0  # of the dataset

  def rng(self, *more, epoch=None):
    """Returns a `np.random.Generator` of this row and epoch.

    Args:
      *more: ints >= 0 that tell apart streams of the same row and epoch.
      epoch: int, instead of its own: the same stream in several epochs.
    """
    epoch = self.epoch if epoch is None else epoch
    return np.random.default_rng((*self.seed, self.row, epoch, *more))


class Skip(Exception):  # noqa: N818, it is no error
  """The row does not belong to the task; the dataset's next one is taken."""


OPS = {}  # name in a pipeline string -> function
DROP = object()  # the value of a key to remove


def op(function):
  """Registers `function` in OPS under its name and returns it unchanged."""
  if function.__name__ in OPS:
    raise ValueError(f"there are two ops with the name {function.__name__!r}")
  OPS[function.__name__] = function
  return function


def get(example, key):
  """Returns `example[key]`, or raises ValueError naming the nearest key."""
  return config.lookup(example, key, "key of the example")


def text_of(example, key):
  """Returns the text `example[key]`.

  Raises:
    ValueError: no such key, or not a str.
  """
  value = get(example, key)
  if not isinstance(value, str):
    raise ValueError(f"{key!r} should be text, but is {type(value).__name__}")
  return value


def list_of(example, key):
  """Returns the list `example[key]`: a list, tuple or array of any length.

  Raises:
    ValueError: no such key, or not a list.
  """
  value = get(example, key)
  if isinstance(value, np.ndarray) and value.ndim:
    return value
  if not isinstance(value, list | tuple):
    raise ValueError(f"{key!r} should be a list, but is {type(value).__name__}")
  return value


def texts_of(example, key):
  """Returns the list of str `example[key]`.

  Raises:
    ValueError: no such key, not a list, or a list with something else.
  """
  texts = list(list_of(example, key))
  for i, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
        f"{key!r} should be a list of texts, but its item {i} is"
        f" {type(text).__name__}"
      )
  return texts


def names(keys):
  """Returns one key, or a list of keys, as a list.

  Raises:
    ValueError: something else than str in it.
  """
  names = [keys] if isinstance(keys, str) else list(keys)
  for name in names:
    if not isinstance(name, str):
      raise ValueError(f"a key should be text, got {name!r} in {keys!r}")
  return names


def texts_in(example, texts):
  """Returns texts that are given as a list, or as the key of one.

  Raises:
    ValueError: no such key, or something else than str in the list.
  """
  if isinstance(texts, str):
    return texts_of(example, texts)
  return texts_of({"names": texts}, "names")
