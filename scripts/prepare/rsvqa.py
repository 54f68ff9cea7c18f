"""The two releases of RSVQA: questions and answers in a file each.

Both files also list entries that are not active, with little else in them.
Answers that are numbers are sorted into ranges, as the metric wants them.
"""

import os

from scripts.prepare import release

QUESTIONS, ANSWERS = "{}_questions.json", "{}_answers.json"
NUMBERS = "also the questions whose answer is a number"


def splits(raw, stems, image, site, bins, numbers=False):
  """Yields the splits of a release.

  Args:
    raw: release.Raw.
    stems: {split: (how its files begin, questions, those without numbers)}.
    image: str, an image's path with {} for its number.
    site: str, where the files and images come from.
    bins: {question type: function from its answer, a number, to a range}.
    numbers: whether to keep the questions of these types.
  """
  files = [
    name.format(stem)
    for stem, *_ in stems.values()
    for name in (QUESTIONS, ANSWERS)
  ]
  raw.need({name: f"{name} from {site}" for name in files})
  more = image, site, bins, numbers
  sizes = {
    split: (num if numbers else num_words, stem, *more)
    for split, (stem, num, num_words) in stems.items()
  }
  return release.splits(raw, _rows, sizes, "questions")


def _rows(raw, _, stem, image, site, bins, numbers):
  asked, given = QUESTIONS.format(stem), ANSWERS.format(stem)
  answers = raw.json(given, ("answers",), hook=_active)["answers"]
  answers = {a["id"]: a for a in answers if a}
  for q in raw.json(asked, ("questions",), hook=_active)["questions"]:
    if not q or q["type"] in bins and not numbers:
      continue
    answer = answers.get(q["answers_ids"][0])
    if answer is None or answer["question_id"] != q["id"]:
      raise ValueError(
        f"question {q['id']} of {asked} has no answer in {given}; are both of"
        " the same version?"
      )
    path = image.format(q["img_id"])
    text = answer["answer"]
    yield {
      "image": raw.image(path, f"{os.path.dirname(path)} from {site}"),
      "filename": os.path.basename(path),
      "question_id": q["id"],
      "question": q["question"],
      "question_type": q["type"],
      "answers": [bins[q["type"]](text) if q["type"] in bins else text],
      "raw_answers": [text],
    }


def _active(entry):
  """Returns an object of the files, None for an entry that is not active."""
  return entry if entry.get("active", True) else None


def in_range(number, unit=""):
  """Returns the range of a number: "between 11 and 100"."""
  if number == 0:
    return f"0{unit}"
  for low, high in ((1, 10), (11, 100), (101, 1000)):
    if number <= high:
      return f"between {low}{unit} and {high}{unit}"
  return f"more than 1000{unit}"
