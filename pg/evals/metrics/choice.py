"""Answers out of a few choices: POPE, ScienceQA, NLVR2 and MMVP."""

import re

import numpy as np

from pg.evals.metrics import exact, statistics


def pope(predictions, examples):
  """Scores POPE by its official reading of an answer.

  Examples have "yes" or "no" as their answer, and perhaps a `question_type`:
  random, popular or adversarial.

  Returns:
    Sums of acc, precision, recall and f1 of "yes" (0 where there is none),
    yes_ratio of the answers; with types also acc/<type> and acc/mean, the
    published number: the mean over types.

  Raises:
    ValueError: a true answer that is neither yes nor no.
  """
  read = lambda p, e: (yes_or_no(p) == "yes", _truth(e) == "yes")
  said, true = np.array(exact.each(read, predictions, examples)).T
  types = statistics.field(examples, "question_type")
  columns = statistics.by("acc", (said == true).astype(float), types)
  # Shares of all examples; the scores are quotients of these.
  columns |= {"yes_ratio": said * 1.0, "_true": true * 1.0, "_hit": said & true}
  average = statistics.mean_of("acc")

  def more(scores):
    hit, positive = scores.pop("_hit"), scores.pop("_true")
    precision = statistics.quotient(hit, scores["yes_ratio"])
    recall = statistics.quotient(hit, positive)
    f1 = statistics.quotient(2 * precision * recall, precision + recall)
    found = {"precision": precision, "recall": recall, "f1": f1}
    return found | average(scores)

  return statistics.means(columns, more)


def pope_equal(predictions, examples):
  """Scores POPE as big_vision does: the whole text in lower case.

  Returns:
    Sums of acc and valid, the share that is "yes" or "no"; with types as
    `pope`.
  """
  right = lambda p, e: float(p.lower() == _truth(e))
  values = exact.each(right, predictions, examples)
  valid = [float(p.lower() in ("yes", "no")) for p in predictions]
  types = statistics.field(examples, "question_type")
  columns = statistics.by("acc", values, types) | {"valid": valid}
  return statistics.means(columns, statistics.mean_of("acc"))


def yes_or_no(text):
  """Returns "yes" or "no" for any text, as the evaluation of POPE reads it.

  "no" where the first sentence has the word No, no or not, else "yes": so also
  for "NO" and for an empty text.
  """
  words = text.split(".")[0].replace(",", "").split(" ")
  return "no" if {"No", "no", "not"} & set(words) else "yes"


def _truth(example):
  answers = {a.lower() for a in exact.answers(example)}
  if len(answers) != 1 or not answers <= {"yes", "no"}:
    raise ValueError(
      f'the true answer is {sorted(answers)}; wanted "yes" or "no"'
    )
  return answers.pop()


def scienceqa(predictions, examples):
  """Scores ScienceQA, whose answers are such as "The answer is B.".

  Returns:
    Sums of acc and parsefail, the share of predictions in another form. As in
    the reference, one that does not parse is right where the true answer does
    not parse either.
  """
  right = lambda p, e: float(letter(p) in map(letter, exact.answers(e)))
  values = exact.each(right, predictions, examples)
  failed = [float(letter(p) is None) for p in predictions]
  return statistics.means({"acc": values, "parsefail": failed})


def letter(text):
  """Returns the letter of a text that begins with "the answer is a.", or None.

  letter("The answer is B. BECAUSE: x") == "b";  letter("B") is None
  """
  found = re.match(r"the answer is ([a-z])\.", text.lower())
  return found and found[1]


def nlvr2(predictions, examples):
  """Scores NLVR2, without regard to case.

  Examples have a `pair`, any value that those of one sentence have in common:
  the identifier "test1-0-1-0" without its third part.

  Returns:
    Sums of acc and consistency, the share of sentences whose examples are all
    right. Sentences are drawn.
  """
  return _groups(predictions, examples, "consistency")


def mmvp(predictions, examples):
  """Scores MMVP: acc and acc/pairs, that of both questions right.

  Without regard to case and outer space. Questions 1 and 2, 3 and 4... are a
  `pair`.

  Raises:
    ValueError: a pair that is not two examples.
  """
  return _groups(predictions, examples, "acc/pairs", size=2)


def _groups(predictions, examples, together, size=None):
  values = exact.each(exact.equal_lower, predictions, examples)
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
  return statistics.Sums(np.array(rows, np.float64), finish, num, values)
