"""Exact match of texts, and of the numbers in them."""

import re

from pg.evals.metrics import statistics

# "3", "-1", "2.5"; not "three", "1e3", "nan" or "3 cats".
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def exact(predictions, examples):
  """Makes the Table of the share of predictions that equal an accepted answer.

  Case counts; white space around a text does not.

  Args:
    predictions: list of str.
    examples: list of dicts with `answers`, a list of str of which any is
      accepted, or else `suffix`.

  Returns:
    Table of `exact`, in 0..1.

  Raises:
    ValueError: no predictions, not as many as examples, or an example without
      an answer.
  """
  return statistics.means({"exact": each(per_example, predictions, examples)})


def exact_lower(predictions, examples):
  """As `exact`, without regard to case."""
  return statistics.means(
    {"exact": each(per_example_lower, predictions, examples)}
  )


def rsvqa(predictions, examples):
  """Makes the Table of RSVQA, without regard to case.

  Args:
    predictions: list of str.
    examples: list of dicts with accepted answers and a `question_type`: comp,
      presence, rural_urban, count or area.

  Returns:
    Table of acc, acc/<type>, acc/mean over types and acc/mean_nonum over those
    that are not numbers (count, area): the published average accuracy.
  """
  values = each(per_example_lower, predictions, examples)
  types = statistics.required(examples, "question_type")
  average = statistics.mean_of("acc", types)
  words = statistics.mean_of("acc", types, ("count", "area"), to="mean_nonum")
  return statistics.means(
    statistics.by("acc", values, types),
    lambda scores: average(scores) | words(scores),
  )


def per_example(prediction, example):
  """Returns 1.0 for a prediction that equals an accepted answer, else 0.0."""
  return float(prediction.strip() in [a.strip() for a in answers(example)])


def per_example_lower(prediction, example):
  """As `per_example`, without regard to case."""
  prediction = prediction.strip().lower()
  return float(prediction in [a.strip().lower() for a in answers(example)])


def count(predictions, examples):
  """Makes the Table of a comparison of predictions with true numbers.

  The numbers 3 and 5 and a "many" for true ones of 3, 4 and 2 have an accuracy
  of 1/3, a mean absolute error of 0.5, and 1/3 is unparsable.

  Args:
    predictions: list of str.
    examples: list of dicts as for `exact`; of several answers the nearest
      number counts.

  Returns:
    Table of
    accuracy: share of predictions that are a right number, in 0..1.
    mae: mean absolute error of the predictions that are numbers; nan where
      none is.
    unparsable: share of predictions that are not a number, in 0..1.

  Raises:
    ValueError: as `exact`; also a true answer that is not a number.
  """
  errors = each(_error, predictions, examples)
  return statistics.means(
    {
      "accuracy": [float(error == 0) for error in errors],
      "mae": errors,
      "unparsable": [float(error is None) for error in errors],
    }
  )


def per_example_count(prediction, example):
  """Returns 1.0 for a prediction that is a right number, else 0.0."""
  return float(_error(prediction, example) == 0)


def each(single, predictions, examples):
  """Returns `single(prediction, example)` of every example, a list.

  Raises:
    ValueError: as `check_lengths`; what `single` raises, with the example's
      number before it.
  """
  check_lengths(predictions, examples)
  values = []
  for i, (prediction, example) in enumerate(zip(predictions, examples)):
    try:
      values.append(single(prediction, example))
    except ValueError as error:
      raise ValueError(f"example {i}: {error}") from error
  return values


def answers(example):
  """Returns the accepted answers of an example, a list of at least one str.

  Raises:
    ValueError: there is none, `answers` is one text instead of a list, or an
      answer is no text.
  """
  if isinstance(example.get("answers"), str):
    raise ValueError(
      f'"answers" is the text {example["answers"]!r}; wanted a list of texts'
    )
  found = example.get("answers")
  found = [] if found is None else list(found)
  if not found and "suffix" in example:
    found = [example["suffix"]]
  if not found:
    raise ValueError(
      f'wanted an example with "answers" or a "suffix", got {sorted(example)}'
    )
  for answer in found:
    if not isinstance(answer, str):
      raise ValueError(f"the answer {answer!r} is no text; make it a str")
  return found


def check_lengths(predictions, examples):
  """Raises a ValueError unless there are as many of both, and at least one.

  And unless each prediction is a text.
  """
  if len(predictions) != len(examples) or not len(examples):
    raise ValueError(
      f"got {len(predictions)} predictions for {len(examples)} examples; wanted"
      " one for each, and at least one"
    )
  for i, prediction in enumerate(predictions):
    if not isinstance(prediction, str):
      raise ValueError(
        f"prediction {i} is {prediction!r}; wanted a text, empty where the"
        " model wrote nothing"
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
