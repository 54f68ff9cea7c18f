"""MMVP: questions in pairs about photos that CLIP takes for alike.

From the dataset MMVP/MMVP on the Hugging Face hub: Questions.csv and the folder
"MMVP Images". Split: test. Question i is about image i; 1 and 2, 3 and 4, ...
are pairs.
"""

import re

from scripts.prepare import release

SITE = "the dataset MMVP/MMVP on the Hugging Face hub"
WANT = ("Question", "Options", "Correct Answer")
FILES = {"Questions.csv": SITE}


def _rows(raw, _):
  for number, q in enumerate(raw.csv("Questions.csv", WANT), 1):
    options = dict(
      re.findall(r"(\([a-z]\))\s*(.*?)\s*(?=\([a-z]\)|$)", q["Options"])
    )
    letter = q["Correct Answer"].strip()
    if letter not in options:
      raise ValueError(
        f"question {number} of Questions.csv: the answer {letter!r} is none of"
        f" its options, {q['Options']!r}"
      )
    yield {
      "image": raw.image(f"MMVP Images/{number}.jpg", SITE),
      "question_id": number,
      "pair": (number - 1) // 2,
      "question": q["Question"],
      "options": list(options.values()),
      "answer": options[letter],
    }


splits = release.table(_rows, dict(test=300), "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
