"""Exact match of texts, and of the numbers in them."""

import math
import re

# "3", "-1", "2.5"; not "three", "1e3", "nan" or "3 cats".
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def score(predictions, examples):
  """Returns the share of predictions that equal an accepted answer.

  Case counts; white space around a text does not.

  Args:
    predictions: list of str.
    examples: list of dicts with `answers`, a list of str of which any is
      accepted, or else `suffix`.

  Returns:
    {"exact": share in 0..1}.

  Raises:
    ValueError: no predictions, not as many as examples, or an example without
      an answer.
  """
  check_lengths(predictions, examples)
  right = [per_example(p, e) for p, e in zip(predictions, examples)]
  return {"exact": sum(right) / len(right)}


def per_example(prediction, example):
  """Returns 1.0 for a prediction that equals an accepted answer, else 0.0."""
  return float(prediction.strip() in [a.strip() for a in answers(example)])


def count(predictions, examples):
  """Compares predictions with true numbers.

    count(["3", "5", "many"], [{"suffix": "3"}, {"suffix": "4"},
      {"suffix": "2"}]) == {"accuracy": 1/3, "mae": 0.5, "unparsable": 1/3}

  Args:
    predictions: list of str.
    examples: list of dicts as for `score`; of several answers the nearest
      number counts.

  Returns:
    accuracy: share of predictions that are a right number, in 0..1.
    mae: mean absolute error of the predictions that are numbers; nan where
      none is.
    unparsable: share of predictions that are not a number, in 0..1.

  Raises:
    ValueError: as `score`; also a true answer that is not a number.
  """
  check_lengths(predictions, examples)
  errors = [_error(p, e) for p, e in zip(predictions, examples)]
  parsed = [error for error in errors if error is not None]
  return {
    "accuracy": parsed.count(0) / len(errors),
    "mae": sum(parsed) / len(parsed) if parsed else math.nan,
    "unparsable": 1 - len(parsed) / len(errors),
  }


def per_example_count(prediction, example):
  """Returns 1.0 for a prediction that is a right number, else 0.0."""
  return float(_error(prediction, example) == 0)


def answers(example):
  """Returns the accepted answers of an example, a list of at least one str.

  Raises:
    ValueError: there is none, or `answers` is one text instead of a list.
  """
  if isinstance(example.get("answers"), str):
    raise ValueError(
      f'"answers" is the text {example["answers"]!r}; wanted a list of texts'
    )
  found = list(example.get("answers", ()))
  if not found and "suffix" in example:
    found = [example["suffix"]]
  if not found:
    raise ValueError(
      f'wanted an example with "answers" or a "suffix", got {sorted(example)}'
    )
  return found


def check_lengths(predictions, examples):
  """Raises a ValueError unless there are as many of both, and at least one."""
  if len(predictions) != len(examples) or not len(examples):
    raise ValueError(
      f"got {len(predictions)} predictions for {len(examples)} examples; wanted"
      " one for each, and at least one"
    )


def _error(prediction, example):
  """Returns the distance to the nearest true number; None: not a number."""
  truths = [_number(answer) for answer in answers(example)]
  if None in truths:
    raise ValueError(
      f"the answers {answers(example)} are not all numbers in digits; use the"
      ' metric "exact" for words'
    )
  number = _number(prediction)
  return None if number is None else min(abs(number - t) for t in truths)


def _number(text):
  return float(text) if _NUMBER.fullmatch(text := text.strip()) else None
