"""Paired comparison of two models on the same examples."""

from typing import NamedTuple

import numpy as np

from pg import table as table_lib
from pg.evals import interval
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import statistics

# Numbers that are held at a time, of a block of draws.
_BLOCK = 1 << 22


class Row(NamedTuple):
  """A score of both, and whether they differ by more than chance."""

  evaluator: str
  score: str
  before: float
  after: float
  difference: interval.Difference  # of the second from the first


def compare(before, after, metrics=None):
  """Tests, evaluator by evaluator, whether the second model is better.

  Where each record has a score, their mean is compared. Scores of a whole set,
  such as CIDEr, are computed again from the answers (`paired`).

  Args:
    before, after: {evaluator: list of dict}, records of two models.
    metrics: {evaluator: name in METRICS}, for records without scores.

  Returns:
    list of Row, and list of str: evaluators that cannot be compared, and why.

  Raises:
    ValueError: no evaluator in common, or an evaluator with other examples.
  """
  both = [name for name in before if name in after]
  if not both:
    raise ValueError(
      f"the first has predictions of {', '.join(before)} and the second of"
      f" {', '.join(after)}; wanted an evaluator in common"
    )
  rows, notes = [], []
  for name in both:
    pair = _aligned(name, before[name], after[name])
    found, why = _differences(*pair, (metrics or {}).get(name))
    if why:
      notes.append(f"{name}: {why}")
    rows += [Row(name, score, *values) for score, values in found.items()]
  for name in [*before, *after]:
    if name not in both:
      notes.append(f"{name}: only one of the two has predictions of it")
  return rows, notes


def _differences(before, after, metric):
  """Returns {score: what `paired` returns}, and why there are none."""
  if all("score" in record for record in before + after):
    a, b = ([r["score"] for r in records] for records in (before, after))
    means = float(np.mean(a)), float(np.mean(b))
    return {"mean score": (*means, interval.paired(a, b))}, ""
  if metric == "none":
    return {}, "it has predictions alone, without a metric"
  if metric not in metrics_lib.METRICS:
    return {}, "no scores by example, and no config that names its metric"
  both = [_scores(metric, records) for records in (before, after)]
  if not all(isinstance(scores, statistics.Sums) for scores in both):
    return {}, f"{metric} is not made of sums over examples, there is no test"
  return paired(*both), ""


def paired(before, after, *, resamples=1000, level=0.95, seed=0):
  """Compares the scores of two models on the same examples.

  The interval is the paired bootstrap's: examples are drawn with replacement,
  the same ones for both. p is that of approximate randomization: were both as
  good, each example's answers could as well have been exchanged.

  Args:
    before, after: statistics.Sums, row by row of the same examples.
    resamples, level, seed: as in interval.paired.

  Returns:
    {score: (value before, value after, interval.Difference)}.
  """
  sums = before.sums, after.sums
  change = sums[1] - sums[0]
  n, totals = len(change), [x.sum(axis=0) for x in sums]
  rng = np.random.default_rng(seed)
  drawn, exchanged = [], []
  for i in range(0, resamples, max(1, _BLOCK // n)):
    size = min(max(1, _BLOCK // n), resamples - i)
    times = rng.multinomial(n, np.full(n, 1 / n), size=size)
    drawn.append([times @ x for x in sums])
    moved = rng.integers(2, size=(size, n)) @ change
    exchanged.append([totals[0] + moved, totals[1] - moved])
  finish = lambda a, b: (before.finish(a), after.finish(b))
  drawn, exchanged = (
    finish(*map(np.concatenate, zip(*blocks))) for blocks in (drawn, exchanged)
  )
  found = {}
  for name, a in before.items():
    b = after[name]
    spread = drawn[1][name] - drawn[0][name]
    spread = spread[np.isfinite(spread)]
    if np.isfinite(a) and np.isfinite(b) and spread.size:
      low, high = np.quantile(spread, [0.5 - level / 2, 0.5 + level / 2])
      far = np.abs(exchanged[1][name] - exchanged[0][name])
      # Sums in another order differ by rounding: those count as equal.
      as_large = np.sum(far >= abs(b - a) * (1 - 1e-9))
      values = b - a, low, high, (1 + as_large) / (1 + resamples)
      difference = interval.Difference(*map(float, values), after.num[name])
      found[name] = float(a), float(b), difference
  return found


def _scores(metric, records):
  texts = [record["prediction"] for record in records]
  return metrics_lib.score(metric, texts, list(map(_example, records)))


def _example(record):
  """Returns what a metric sees of a record's example."""
  keys = ("answers", "task", "kind", "image_ref")
  kept = {key: record[key] for key in keys if key in record}
  return record["id"] | kept | {"suffix": record["truth"]}


def _aligned(name, before, after):
  """Returns both lists of records in one order.

  Raises:
    ValueError: examples that only one of them has, or that differ.
  """
  a, b = ({r["index"]: r for r in records} for records in (before, after))
  for one, other, which in ((a, b, "first"), (b, a, "second")):
    lacking = [r["where"] for i, r in one.items() if i not in other]
    if lacking:
      raise ValueError(
        f"{name}: {len(lacking)} of {len(one)} examples are only in the {which}"
        f" predictions ({', '.join(lacking[:3])}); evaluate both on the same"
        " ones"
      )
  for i, record in a.items():
    if _truth(record) != _truth(b[i]):
      raise ValueError(
        f"{name}: the answer to {record['where']} is {_truth(record)!r} in the"
        f" first predictions and {_truth(b[i])!r} in the second; these are not"
        " the same examples"
      )
  return list(a.values()), [b[i] for i in a]


def _truth(record):
  return record.get("answers", record["truth"])


def table(rows):
  """Returns rows as text."""
  head = ("evaluator", "score", "A", "B", "B - A", "95% interval", "p", "n")
  lines = [head]
  for row in rows:
    d = row.difference
    lines.append((
      row.evaluator,
      row.score,
      f"{row.before:.3f}",
      f"{row.after:.3f}",
      f"{d.mean:+.3f}",
      f"{d.low:+.3f} {d.high:+.3f}",
      f"{d.p:.2g}",
      str(d.num),
    ))  # fmt: skip
  return "\n".join(table_lib.lines(lines))
