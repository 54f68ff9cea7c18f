"""Releases of the Robust Reading Competition: rrc.cvc.uab.es, registration.

Its files changed their names over time, and test is without answers.
"""


def first(raw, names):
  """Returns the first of files or folders that is there, else the first."""
  return next(filter(raw.find, names), names[0])


def answers(question, name, id="questionId"):
  """Returns the answers to a question of a file.

  Raises:
    ValueError: it has none.
  """
  if not question.get("answers"):
    raise ValueError(
      f"question {question[id]} of {name} has no answers; is it the file with"
      " answers?"
    )
  return question["answers"]
