"""AI2D: multiple choice about diagrams of school science.

  python -m scripts.prepare.ai2d --raw DIR --out data/ai2d --format array_record

From allenai.org/data/diagrams, unpacked into DIR: ai2d-all.zip and
ai2d_test_ids.csv. Splits: train, test, in the order of the diagrams' numbers.
Where a question is about the letters of parts, these are drawn over the texts
of the diagram. big_vision draws them in DM Sans: DMSans-Regular.ttf is taken
where it is in DIR, else the font that Pillow has (ours). Those diagrams are in
the rows themselves, which array_record does in less space.
"""

import functools
import io
import os

from PIL import Image, ImageDraw, ImageFont

from scripts.prepare import release

SITE = "from allenai.org/data/diagrams"
TEST = "ai2d_test_ids.csv"
SIZES = dict(train=12413, test=3088)
FONT = "DMSans-Regular.ttf"
MAX_SIZE = 100
FILES = {
  TEST: f"{TEST} {SITE}",
  **dict.fromkeys(
    ("questions", "annotations", "images"), f"ai2d-all.zip {SITE}"
  ),
}


def _rows(raw, split):
  test = set(map(str.strip, raw.text_lines(TEST)))
  files = [f for f in os.listdir(raw.path("questions")) if f.endswith(".json")]
  for file in sorted(files, key=lambda f: (len(f), f)):
    if (file.split(".")[0] in test) == (split == "test"):
      yield from _questions(raw, file)


def _questions(raw, file):
  """Yields the questions about a diagram, "7.png.json"."""
  want = ("questions", "imageName")
  found = raw.json(f"questions/{file}", want=want)
  path = raw.image(f"images/{found['imageName']}", f"ai2d-all.zip {SITE}")
  lettered = None
  for text, q in found["questions"].items():
    choices, label = q["answerTexts"], int(q["correctAnswer"])
    what = f"questions/{file}: {q['questionId']}"
    answer = release.choice(choices, label, what)
    if q["abcLabel"] and not lettered and path not in raw.absent:
      texts = raw.json(f"annotations/{file}", want=("text",))["text"]
      lettered = letter(path, texts.values(), raw.find(FONT))
    yield {
      "image": lettered if q["abcLabel"] and lettered else path,
      "id": q["questionId"],
      "image_name": found["imageName"],
      "question": text,
      "possible_answers": choices,
      "label": label,
      "answer": answer,
      "abc_label": bool(q["abcLabel"]),
    }


def letter(path, texts, font=None):
  """Draws letters over the texts of a diagram.

  Args:
    path: str, its file.
    texts: iterable of dict with `rectangle`, [[x1, y1], [x2, y2]] in pixels,
      and `replacementText`.
    font: str, a TrueType file; None is Pillow's own font.

  Returns:
    bytes of a PNG. Each rectangle is white and has its text in black, as large
    as it fits below MAX_SIZE, in the middle of its upper side.
  """
  with Image.open(path) as opened:
    image = opened.convert("RGB")
  draw = ImageDraw.Draw(image)
  for text in texts:
    (x1, y1), (x2, y2) = text["rectangle"]
    draw.rectangle((x1, y1, x2, y2), fill="white")
    said = text["replacementText"]
    for size in range(MAX_SIZE, 0, -1):
      *_, width, height = _font(font, size).getbbox(said)
      if width <= x2 - x1 and height <= y2 - y1:
        break
    where = (x1 + (x2 - x1 - width) // 2, y1)
    draw.text(where, said, fill="black", font=_font(font, size))
  made = io.BytesIO()
  image.save(made, "PNG")
  return made.getvalue()


@functools.cache
def _font(path, size):
  if path is None:
    return ImageFont.load_default(size)
  return ImageFont.truetype(path, size)


splits = release.table(_rows, SIZES, "questions", FILES)

if __name__ == "__main__":
  release.main(splits, __doc__)
