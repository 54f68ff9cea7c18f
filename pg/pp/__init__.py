"""Preprocessing ops on one example: numpy in, numpy out, no jax.

An op is a function `op(example, ...) -> updates`: it reads what it needs from
the example (a dict), takes its other arguments from the pipeline string (see
parse.py), and returns the keys that change. It never modifies its input.
Annotated parameters (`size: int`) are checked when the string is parsed.

Two parameters are never written in the string: `rng`, a `np.random.Generator`
of this row, epoch and op alone, and `turn`, a `Turn` with the row and the
epoch, for what goes on from one epoch to the next. An op that finds
that a row does not belong to the task raises `Skip`; an op that cannot work
with what the row has raises ValueError: a key is missing or of another type, an
image is not decoded, a number makes no sense. Docstrings say what else can be
wrong. A key goes away with the value `DROP`.

To add one, write it in a file of this folder and give it one worked example as
its test:

  @pp.op
  def upper(example, key: str):
    return {key: fields.text_of(example, key).upper()}

One that changes images belongs in a file of such ops, as image.py is: from
there, and only there, it is also applied where a model is asked about an image.
"""

from collections.abc import Callable
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
  if key in example:
    return example[key]
  return config.lookup(example, key, "key of the example")


class Step(NamedTuple):
  """One op of a pipeline."""

  source: str  # as written: 'resize(48)'
  function: Callable
  args: list
  kwargs: dict
  wants: tuple  # of "rng" and "turn"


def run(steps, example, turn):
  """Applies the steps of a pipeline to one example, each to the last result.

  Args:
    steps: list of Step.
    example: dict.
    turn: Turn, for the ops that want it or an rng.
  """
  for number, step in enumerate(steps):
    given = {"turn": turn} if "turn" in step.wants else {}
    if "rng" in step.wants:
      given["rng"] = turn.rng(number)
    try:
      updates = step.function(example, *step.args, **step.kwargs, **given)
    except ValueError as e:
      raise ValueError(f"{step.source}: {e}") from e
    example = {**example, **updates}
    for key, value in updates.items():
      if value is DROP:
        del example[key]
  return example
