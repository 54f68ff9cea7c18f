"""What every example adds to the scores of a metric.

A score is a function of sums over examples: a mean has the sum of values and
their number, F1 the four kinds of right and wrong, BLEU counts of n-grams.
Keeping the summands gives the score, the number of examples behind it and, by
drawing examples again, an interval around it (pg/evals/interval.py).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
  """The summands of a metric and how scores come out of the sums."""

  sums: np.ndarray  # f64[N, K]; N examples, or pairs where those are drawn
  finish: Callable  # sums f64[..., K] -> dict of f64[...]
  num: dict  # score -> number of examples it is about


class Drawn(NamedTuple):
  """A metric that is no function of sums, such as mean average precision."""

  size: int  # N, examples
  finish: Callable  # i64[N], how often each is there -> dict of float in 0..1
  num: dict  # as in Table


def scores(made):
  """Returns the scores, dict of float, of a Table or Drawn."""
  if isinstance(made, Drawn):
    totals = made.finish(np.ones(made.size, np.int64))
  else:
    totals = made.finish(made.sums.sum(axis=0))
  return {name: float(value) for name, value in totals.items()}


def means(columns, more=None):
  """Makes the Table of one or several means.

    means({"acc": [1.0, 0.0, 1.0], "acc/yesno": [None, 0.0, 1.0]})

  has the scores {"acc": 2/3, "acc/yesno": 1/2}.

  Args:
    columns: dict of lists with the value of each example, None where an example
      does not belong to this mean.
    more: function of the dict of means to a dict of further scores; it may
      take means out that are only there for it.

  Raises:
    ValueError: a value is not a finite number.
  """
  for name, column in columns.items():
    for i, value in enumerate(column):
      if value is not None and not math.isfinite(value):
        raise ValueError(
          f'the score "{name}" of example {i} is {value}; wanted a number'
        )
  values = [[0.0 if v is None else v for v in c] for c in columns.values()]
  counted = [[v is not None for v in c] for c in columns.values()]
  names = list(columns)

  def finish(sums):
    total, count = np.split(sums, 2, axis=-1)
    with np.errstate(invalid="ignore"):  # the mean of nothing is nan
      mean = total / count
    scores = {name: mean[..., i] for i, name in enumerate(names)}
    derived = more(scores) if more else {}
    return scores | derived

  sums = np.array(values + counted, np.float64).T
  num = {name: sum(c) for name, c in zip(names, counted)}
  scores = finish(sums.sum(axis=0))
  num = {name: num.get(name, len(sums)) for name in scores}
  return Table(sums, finish, num)


def by(name, values, groups):
  """Returns `values` and a column for each group, ready for `means`.

    by("acc", [1.0, 0.0], ["yes/no", "other"]) == {
      "acc": [1.0, 0.0], "acc/yesno": [1.0, None], "acc/other": [None, 0.0]}

  Groups come in the order of their first example and without slashes of their
  own. `groups` None gives only the column of all.
  """
  columns = {name: list(values)}
  for group in dict.fromkeys(groups or ()):
    columns[f"{name}/{str(group).replace('/', '')}"] = [
      v if g == group else None for v, g in zip(values, groups)
    ]
  return columns


def mean_of(name, groups, leave_out=(), to="mean"):
  """Returns a `more` for `means`: the mean over the groups that `by` made.

  Each group counts alike, however many examples it has; those in `leave_out`
  do not count. Without groups there is no such score.
  """
  plain = [str(g).replace("/", "") for g in dict.fromkeys(groups or ())]
  kept = [f"{name}/{group}" for group in plain if group not in leave_out]

  def more(scores):
    if not kept:
      return {}
    return {f"{name}/{to}": np.mean([scores[key] for key in kept], axis=0)}

  return more


def field(examples, key):
  """Returns a field of all examples; None where no example has it.

  Raises:
    ValueError: some examples have it and others do not.
  """
  lacking = [i for i, e in enumerate(examples) if e.get(key) is None]
  if len(lacking) == len(examples):
    return None
  if lacking:
    raise ValueError(
      f'{len(lacking)} of {len(examples)} examples have no "{key}", the first'
      f" is example {lacking[0]}; give all of them one, or none"
    )
  return [_plain(e[key]) for e in examples]


def required(examples, key):
  """Returns a field that a metric cannot do without, as `field`."""
  found = field(examples, key)
  if found is None:
    raise ValueError(
      f'wanted examples with "{key}", got only {sorted(examples[0])}'
    )
  return found


def _plain(value):
  """Turns numbers and bytes of a file format into what prints as expected."""
  value = value.item() if isinstance(value, np.generic) else value
  return value.decode() if isinstance(value, bytes) else value
