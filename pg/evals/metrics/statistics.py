"""Per-example sufficient statistics of scores.

A score is a function of sums over examples: a mean has the sum of values and
their number, F1 true and false positives and negatives, BLEU counts of n-grams.
The summands of each example give the score, the number of examples that it is
about and, by drawing examples again, a confidence interval
(pg/evals/interval.py).
"""

import math

import numpy as np


class Sums(dict):
  """Scores {name: float} that are functions of sums over examples.

  Attributes:
    sums: f64[examples, columns], the summands; of examples, or pairs where
      those are drawn.
    finish: function from sums f64[..., columns] to a dict of f64[...], the
      scores.
    num: {score: number of examples that it is about}.
    each: the score of each example, a list of float; None: it has none.
  """

  def __init__(self, sums, finish, num, each=None):
    super().__init__(_floats(finish(sums.sum(axis=0))))
    self.sums, self.finish, self.num, self.each = sums, finish, num, each


class Resampled(dict):
  """Scores that are no functions of sums, such as mean average precision.

  Attributes:
    size: N, the number of examples.
    finish: function from how often each example is there, i64[examples], to a
      dict of float in 0..1, the scores.
    num: as in Sums.
    support: {score: examples with something to find, of the mean class} of
      those scores that are means over classes.
    tied: bool, whether no detection is likelier than another.
  """

  each = None

  def __init__(self, size, finish, num, support=None, *, tied=False):
    super().__init__(_floats(finish(np.ones(size, np.int64))))
    self.size, self.finish, self.num = size, finish, num
    self.support, self.tied = support or {}, tied


def _floats(scores):
  return {name: float(value) for name, value in scores.items()}


def means(columns, more=None, *, each=True):
  """Returns the Sums of one or several means.

    means({"acc": [1.0, 0.0, 1.0], "acc/yesno": [None, 0.0, 1.0]}) == {
      "acc": 2/3, "acc/yesno": 1/2}

  Args:
    columns: dict of lists with the value of each example, None where an example
      does not belong to this mean.
    more: function of the dict of means to a dict of further scores; it may
      take means out that are only there for it.
    each: whether the first column is the scores of the examples.

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
    derived = more(scores) if more else {}  # may take some out
    return scores | derived

  sums = np.array(values + counted, np.float64).T
  num = dict(zip(names, map(sum, counted)))
  num = {n: num.get(n, len(sums)) for n in finish(sums.sum(axis=0))}
  return Sums(sums, finish, num, list(map(float, values[0])) if each else None)


def by(name, values, groups):
  """Returns `values` and a column for each group, for `means`.

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


def mean_of(name, leave_out=(), to="mean"):
  """Returns a `more` for `means`: the mean over the groups that `by` made.

  Each group counts alike, however many examples it has; those in `leave_out`
  do not count. Without groups there is no such score.
  """

  def more(scores):
    groups = [key for key in scores if key.startswith(f"{name}/")]
    left = [f"{name}/{group}" for group in leave_out]
    kept = [scores[key] for key in groups if key not in left]
    return {f"{name}/{to}": np.mean(kept, axis=0)} if kept else {}

  return more


def quotient(a, b):
  """Returns a / b, 0 where b is 0."""
  return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


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
