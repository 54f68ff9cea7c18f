"""Relaxed accuracy: numbers may be 5 % off (ChartQA, PlotQA)."""

from pg.evals.metrics import exact, statistics


def relaxed(predictions, examples):
  """Makes the Table of ChartQA, without regard to case.

  Args:
    predictions: list of str.
    examples: list of dicts with one accepted answer (`answers` or `suffix`)
      and perhaps a `question_type`: human or augmented.

  Returns:
    Table of exact and relaxed; with types also relaxed/<type> and
    relaxed/mean, the published number: the mean over types.
  """
  values = exact.each(per_example, predictions, examples)
  same = exact.each(_same, predictions, examples)
  types = statistics.field(examples, "question_type")
  columns = statistics.by("relaxed", values, types) | {"exact": same}
  return statistics.means(columns, statistics.mean_of("relaxed", types))


def per_example(prediction, example):
  """Returns 1.0 where a prediction matches an accepted answer, else 0.0."""
  prediction = prediction.lower()
  answers = exact.answers(example)
  return float(any(matches(a.lower(), prediction) for a in answers))


def matches(target, prediction):
  """Returns whether a prediction is within 5 % of a target.

  Each side ending in "%" is a hundredth of its number: "96%" and "0.96" both
  match "100%". Text that Python's float() does not read ("1,000"), and any
  target of 0, must be the same text; "nan" and "inf" as a target match nothing
  that it reads.
  """
  a, b = _number(target), _number(prediction)
  if a and b is not None:
    return abs(b - a) / abs(a) <= 0.05
  return target == prediction


def _same(prediction, example):
  return prediction.lower() in [a.lower() for a in exact.answers(example)]


def _number(text):
  try:
    return float(text.rstrip("%")) / 100 if text[-1:] == "%" else float(text)
  except ValueError:
    return None
