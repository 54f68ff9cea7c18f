"""Answers that are numbers: counts (TallyQA), and ChartQA within 5 %."""

import re

from pg.evals.metrics import exact, statistics

_WORDS = """zero one two three four five six seven eight nine ten eleven twelve
thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()
_DIGITS = {word: str(i) for i, word in enumerate(_WORDS)} | {"none": "0"}
# "3", "-1", "2.5"; not "three", "1e3", "nan" or "3 cats".
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def count(predictions, examples):
  """Compares predictions with true numbers.

  The numbers 3 and 5 and a "many" for true ones of 3, 4 and 2 have an accuracy
  of 1/3, a mean absolute error of 0.5, and 1/3 is unparsable. Of several
  answers the nearest number counts.

  Returns:
    Sums of
    accuracy: share of predictions that are a right number, in 0..1.
    mae: mean absolute error of the predictions that are numbers; nan where
      none is.
    unparsable: share of predictions that are not a number, in 0..1.

  Raises:
    ValueError: a true answer that is not a number.
  """
  errors = exact.each(_error, predictions, examples)
  return statistics.means(
    {
      "accuracy": [float(error == 0) for error in errors],
      "mae": errors,
      "unparsable": [float(error is None) for error in errors],
    }
  )


def _error(prediction, example):
  """Returns the distance to the nearest true number; None: not a number."""
  answers = exact.answers(example)
  if not all(_NUMBER.fullmatch(answer.strip()) for answer in answers):
    raise ValueError(
      f"the answers {answers} are not all numbers in digits; use the"
      ' metric "exact" for words'
    )
  if not _NUMBER.fullmatch(prediction.strip()):
    return None
  return min(abs(float(prediction) - float(answer)) for answer in answers)


def tallyqa(predictions, examples):
  """Scores TallyQA and CountBenchQA.

  Examples have one answer, a count of any size, and perhaps `issimple`: 1, 0,
  or -1 for questions of unknown kind.

  Returns:
    Sums of acc, acc/count_<n> for each true count and, with `issimple`,
    acc/simple and acc/complex.
  """
  values = exact.each(_same_count, predictions, examples)
  counts = [f"count_{digits(exact.answers(e)[0])}" for e in examples]
  columns = statistics.by("acc", values, counts)
  simple = statistics.field(examples, "issimple")
  for kind, name in ((1, "simple"), (0, "complex")):
    if simple and kind in simple:
      columns[f"acc/{name}"] = [
        v if s == kind else None for v, s in zip(values, simple)
      ]
  return statistics.means(columns)


def digits(text):
  """Returns number words up to twenty in digits, other text as it is.

  digits("Three") == "3";  digits("none") == "0";  digits("a lot") == "a lot"
  """
  return _DIGITS.get(text.lower(), text)


def _same_count(prediction, example):
  """Returns 1.0 for the right count, in digits or a word, else 0.0."""
  return float(digits(prediction) in map(digits, exact.answers(example)))


def relaxed(predictions, examples):
  """Scores ChartQA, without regard to case.

  Examples may have a `question_type`: human or augmented.

  Returns:
    Sums of exact and relaxed; with types also relaxed/<type> and
    relaxed/mean, the published number: the mean over types.
  """
  pairs = exact.each(_relaxed_and_same, predictions, examples)
  values, same = zip(*pairs)
  types = statistics.field(examples, "question_type")
  columns = statistics.by("relaxed", values, types) | {"exact": same}
  return statistics.means(columns, statistics.mean_of("relaxed"))


def _relaxed_and_same(prediction, example):
  prediction = prediction.lower()
  answers = [answer.lower() for answer in exact.answers(example)]
  near = any(matches(answer, prediction) for answer in answers)
  return float(near), float(prediction in answers)


def matches(target, prediction):
  """Returns whether a prediction is within 5 % of a target.

  Each side ending in "%" is a hundredth of its number: "96%" and "0.96" both
  match "100%". Text that Python's float() does not read ("1,000"), and any
  target of 0, must be the same text; "nan" and "inf" as a target match nothing
  that it reads.
  """
  a, b = _float(target), _float(prediction)
  if a and b is not None:
    return abs(b - a) / abs(a) <= 0.05
  return target == prediction


def _float(text):
  try:
    return float(text.rstrip("%")) / 100 if text[-1:] == "%" else float(text)
  except ValueError:
    return None
