"""GQA: questions about photos, made from graphs of what they show.

From the GQA page of Stanford, unpacked into DIR: questions1.2.zip and
images.zip. Splits: train_balanced, val_balanced, testdev_balanced.
"""

from scripts.prepare import release

SITE = "from the GQA page of Stanford"
SIZES = dict(train_balanced=943000, val_balanced=132062, testdev_balanced=12578)
KEYS = ("imageId", "question", "isBalanced", "answer", "fullAnswer")
FILES = {"{}_questions.json": f"questions1.2.zip {SITE}"}


def _rows(raw, split):
  made = raw.json(f"{split}_questions.json", hook=slim)
  for id, q in made.items():
    yield {
      **question(raw, id, q),
      "full_answer": q["fullAnswer"],
      "is_balanced": q["isBalanced"],
    }


def question(raw, id, q):
  """Returns what GQA and xGQA have in common in a row."""
  return {
    "image": raw.image(f"images/{q['imageId']}.jpg", f"images.zip {SITE}"),
    "image/id": q["imageId"],
    "question_id": id,
    **release.pick(q, "question", "answer"),
  }


def slim(found):
  """Leaves out the programs of questions, which are most of the files."""
  if "imageId" not in found:
    return found
  return {key: found[key] for key in KEYS if key in found}


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
