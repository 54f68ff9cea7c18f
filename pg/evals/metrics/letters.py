"""Multiple choice answered in a sentence: ScienceQA."""

import re

from pg.evals.metrics import exact, statistics


def scienceqa(predictions, examples):
  """Makes the Table of ScienceQA.

  Args:
    predictions: list of str such as "The answer is B.".
    examples: list of dicts with the accepted answer in the same form.

  Returns:
    Table of acc and parsefail, the share of predictions in another form. As in
    the reference, one that does not parse is right where the true answer does
    not parse either.
  """
  values = exact.each(per_example, predictions, examples)
  failed = [float(letter(p) is None) for p in predictions]
  return statistics.means({"acc": values, "parsefail": failed})


def letter(text):
  """Returns the letter of a text that begins with "the answer is a.", or None.

  letter("The answer is B. BECAUSE: x") == "b";  letter("B") is None
  """
  found = re.match(r"the answer is ([a-z])\.", text.lower())
  return found and found[1]


def official_letter(text):
  """Returns the letter by the dataset's own rule, which minds the case.

  The one capital after "The answer is " and before any character, anywhere in
  the text; None where there is none, or several.
  """
  found = re.findall(r"The answer is ([A-Z]).", text)
  return found[0] if len(found) == 1 else None


def per_example(prediction, example):
  """Returns 1.0 where both answers have the same letter, else 0.0."""
  truths = [letter(answer) for answer in exact.answers(example)]
  return float(letter(prediction) in truths)
