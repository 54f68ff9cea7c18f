"""Examples that count together: NLVR2 and MMVP."""

import numpy as np

from pg.evals.metrics import exact, statistics


def nlvr2(predictions, examples):
  """Makes the Table of NLVR2, without regard to case.

  Args:
    predictions: list of str.
    examples: list of dicts with one accepted answer and a `pair`, any value
      that the examples of one sentence have in common: the identifier
      "test1-0-1-0" without its third part.

  Returns:
    Table of acc and consistency, the share of sentences whose examples are all
    right. Its rows are sentences.
  """
  return _table(predictions, examples, "consistency")


def mmvp(predictions, examples):
  """Makes the Table of MMVP: acc and acc/pairs, that of both questions right.

  Args:
    predictions: list of str, compared without regard to case and outer space.
    examples: as for `nlvr2`; questions 1 and 2, 3 and 4... are a `pair`.

  Raises:
    ValueError: a pair that is not two examples.
  """
  return _table(predictions, examples, "acc/pairs", size=2)


def _table(predictions, examples, together, size=None):
  values = exact.each(exact.per_example_lower, predictions, examples)
  groups = {}
  for value, pair in zip(values, statistics.required(examples, "pair")):
    groups.setdefault(pair, []).append(value)
  for pair, group in groups.items():
    if size and len(group) != size:
      raise ValueError(
        f"the pair {pair!r} has {len(group)} examples; wanted {size}"
      )
  rows = [[sum(g), len(g), min(g), 1.0] for g in groups.values()]

  def finish(sums):
    return {
      "acc": sums[..., 0] / sums[..., 1],
      together: sums[..., 2] / sums[..., 3],
    }

  num = {"acc": len(examples), together: len(groups)}
  return statistics.Table(np.array(rows, np.float64), finish, num)
