"""Paired comparison of two models on the same examples."""

from typing import NamedTuple

import numpy as np

from pg import table as table_lib
from pg.evals import interval
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import statistics


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
  such as CIDEr, are computed again from the answers.

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
  """Returns {score: the rest of a Row}, and why there are none."""
  if all("score" in record for record in before + after):
    both = [
      statistics.means({"mean score": [r["score"] for r in records]})
      for records in (before, after)
    ]
    return _paired(*both, resamples=10_000), ""
  if metric == "none":
    return {}, "it has predictions alone, without a metric"
  if metric not in metrics_lib.METRICS:
    return {}, "no scores by example, and no config that names its metric"
  both = [_scores(metric, records) for records in (before, after)]
  if not all(isinstance(scores, statistics.Sums) for scores in both):
    return {}, f"{metric} is not made of sums over examples, there is no test"
  return _paired(*both), ""


def _paired(a, b, **options):
  found = interval.paired(a, b, **options)
  return {name: (a[name], b[name], one) for name, one in found.items()}


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


def agreement(before, after, logits):
  """Returns, as a table, how far two models agree, whatever is right.

  Args:
    before, after: {evaluator: list of dict}, records of two models.
    logits: pair of {evaluator: f32[n, V]}, of the same tokens.
  """
  lines = [("evaluator", "logit error", "same answers", "n")]
  for name in before:
    pair = _aligned(name, before[name], after[name])
    same = [a["prediction"] == b["prediction"] for a, b in zip(*pair)]
    error = logit_error(*(x[name] for x in logits))
    share = sum(same) / len(same)
    lines.append((name, f"{error:.2%}", f"{share:.2%}", str(len(same))))
  return "\n".join(table_lib.lines(lines))


def logit_error(before, after):
  """Returns the root mean square of a difference as a share of the logits'.

  Args:
    before, after: f32[n, V]; the mean of a row, on which no probability
      depends, is taken off.
  """
  a, b = (x - x.mean(axis=-1, keepdims=True) for x in (before, after))
  return float(np.sqrt(np.square(b - a).mean() / np.square(a).mean()))


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
