"""Releases of the Robust Reading Competition: rrc.cvc.uab.es, registration.

Its files changed their names over time, and test is without answers.
"""

from scripts.prepare import release

SITE = "from challenge 17 of rrc.cvc.uab.es"


def splits(raw, rows, sizes, files):
  """Yields splits as release.splits, for rows of (raw, split, file).

  Args:
    raw, rows, sizes: see there.
    files: {split: names that its file may have}.
  """
  names = {split: first(raw, files[split]) for split in sizes}
  raw.need({name: f"{name} {SITE}" for name in names.values()})
  sizes = {split: (num, names[split]) for split, num in sizes.items()}
  return release.splits(raw, rows, sizes, "questions")


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
