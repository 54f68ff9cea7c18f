"""Exact match of texts, and how predictions and examples are read."""

from pg.evals.metrics import statistics


def exact(predictions, examples):
  """Scores the share of predictions that equal an accepted answer.

  Case counts; white space around a text does not.
  """
  return statistics.means({"exact": each(equal, predictions, examples)})


def exact_lower(predictions, examples):
  """As `exact`, without regard to case."""
  return statistics.means({"exact": each(equal_lower, predictions, examples)})


def rsvqa(predictions, examples):
  """Scores RSVQA, without regard to case.

  Examples have a `question_type`: comp, presence, rural_urban, count or area.

  Returns:
    Sums of acc, acc/<type>, acc/mean over types and acc/mean_nonum over those
    that are not numbers (count, area): the published average accuracy.
  """
  values = each(equal_lower, predictions, examples)
  types = statistics.required(examples, "question_type")
  average = statistics.mean_of("acc")
  words = statistics.mean_of("acc", ("count", "area"), to="mean_nonum")
  return statistics.means(
    statistics.by("acc", values, types),
    lambda scores: average(scores) | words(scores),
  )


def equal(prediction, example):
  """Returns 1.0 for a prediction that equals an accepted answer, else 0.0."""
  return float(prediction.strip() in [a.strip() for a in answers(example)])


def equal_lower(prediction, example):
  """As `equal`, without regard to case."""
  prediction = prediction.strip().lower()
  return float(prediction in [a.strip().lower() for a in answers(example)])


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
