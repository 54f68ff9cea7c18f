"""Questions whose answer is yes or no: POPE."""

import numpy as np

from pg.evals.metrics import exact, statistics


def pope(predictions, examples):
  """Makes the Table of POPE by its official reading of an answer.

  Args:
    predictions: list of str.
    examples: list of dicts whose accepted answer is "yes" or "no", perhaps with
      a `question_type`: random, popular or adversarial.

  Returns:
    Table of acc, precision, recall and f1 of "yes" (0 where there is none),
    yes_ratio of the answers; with types also acc/<type> and acc/mean, the
    published number: the mean over types.

  Raises:
    ValueError: a true answer that is neither yes nor no.
  """
  pairs = exact.each(
    lambda p, e: (official(p) == "yes", _truth(e) == "yes"),
    predictions,
    examples,
  )
  said, true = np.array(pairs).T
  types = statistics.field(examples, "question_type")
  columns = statistics.by("acc", (said == true).astype(float), types)
  # Shares of all examples; the scores are quotients of these.
  columns |= {"yes_ratio": said * 1.0, "_true": true * 1.0, "_hit": said & true}
  average = statistics.mean_of("acc", types)

  def more(scores):
    hit, positive = scores.pop("_hit"), scores.pop("_true")
    precision = _quotient(hit, scores["yes_ratio"])
    recall = _quotient(hit, positive)
    f1 = _quotient(2 * precision * recall, precision + recall)
    found = {"precision": precision, "recall": recall, "f1": f1}
    return found | average(scores)

  return statistics.means(columns, more)


def pope_equal(predictions, examples):
  """Makes the Table of POPE as big_vision scores it: the lower-case text.

  Returns:
    Table of acc and valid, the share that is "yes" or "no"; with types as
    `pope`.
  """
  values = exact.each(per_example_equal, predictions, examples)
  valid = [float(p.lower() in ("yes", "no")) for p in predictions]
  types = statistics.field(examples, "question_type")
  columns = statistics.by("acc", values, types) | {"valid": valid}
  return statistics.means(columns, statistics.mean_of("acc", types))


def official(text):
  """Returns "yes" or "no" for any text, as the evaluation of POPE reads it.

  "no" where the first sentence has the word No, no or not, else "yes": so also
  for "NO" and for an empty text.
  """
  words = text.split(".")[0].replace(",", "").split(" ")
  return "no" if {"No", "no", "not"} & set(words) else "yes"


def per_example(prediction, example):
  return float(official(prediction) == _truth(example))


def per_example_equal(prediction, example):
  return float(prediction.lower() == _truth(example))


def _truth(example):
  answers = {a.lower() for a in exact.answers(example)}
  if len(answers) != 1 or not answers <= {"yes", "no"}:
    raise ValueError(
      f'the true answer is {sorted(answers)}; wanted "yes" or "no"'
    )
  return answers.pop()


def _quotient(a, b):
  """Returns a / b, 0 where b is 0."""
  return np.divide(a, b, out=np.zeros_like(a), where=b > 0)
