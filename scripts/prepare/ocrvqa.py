"""OCR-VQA: questions about covers of books, such as who wrote it.

From ocr-vqa.github.io, in DIR: dataset.json, and the folder images, which its
loadDataset.py fetches. Splits: train, val, test. Covers that no shop shows any
more are left out and counted; how many questions each split has was not
published, train and val together have 901,717.
"""

import os

from scripts.prepare import release

FILE = "dataset.json"
CODES = dict(train=1, val=2, test=3)
COVERS = "images, with loadDataset.py from ocr-vqa.github.io"
FILES = {FILE: f"{FILE} from ocr-vqa.github.io"}


def _rows(raw, split):
  for item, book in raw.json(FILE).items():
    questions, answers = book["questions"], book["answers"]
    if book["split"] not in CODES.values() or len(questions) != len(answers):
      raise ValueError(
        f"{FILE}: {item} is in split {book['split']!r} with {len(questions)}"
        f" questions and {len(answers)} answers; wanted 1, 2 or 3, and as many"
        " of both"
      )
    if book["split"] != CODES[split]:
      continue
    end = os.path.splitext(book["imageURL"])[1]
    image = raw.image(f"images/{item}{end}", COVERS)
    for number, (question, answer) in enumerate(zip(questions, answers)):
      yield {
        "image": image,
        "image_id": item,
        "question_id": f"{item}_{number}",
        "question": question,
        "answer": answer,
      }


splits = release.table(
  _rows, dict.fromkeys(CODES), "questions", FILES, partial=True
)

if __name__ == "__main__":
  release.main(splits, __doc__)
