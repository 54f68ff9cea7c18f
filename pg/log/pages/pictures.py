"""Draws predictions as pictures, for TensorBoard: texts below their image."""

import base64
import io
import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pg import progress
from pg.codecs import boxes, masks
from pg.log.pages import cards, drawing

# The first predictions of an evaluator that have an image.
NUM_PICTURES = 4
# Pixels: of the height, of a letter of <seg000>, beside the text.
_FONT, _LETTER, _MARGIN = 14, 8, 4


def first(records):
  """Returns {name: u8[height, width, 3]} of the first predictions.

  Args:
    records: list of dict, of pg.evals.records.
  """
  found = {}
  for row in records:
    if len(found) < NUM_PICTURES and (image := _image(row)) is not None:
      found[str(row["index"])] = picture(row, image)
  return found


def picture(row, image):
  """Returns an image with what was predicted and what is true.

  Objects are drawn twice, left those of the prediction and right the true ones,
  where either has any.

  Args:
    row: dict, a line of a predictions file.
    image: u8[height, width, 3].
  """
  image, _ = drawing.enlarge(image)
  texts = [row[key] for key in ("prediction", "truth")]
  objects = [boxes.read(text)[0] for text in texts]
  if any(objects):
    image = np.hstack([_drawn(row, image, found) for found in objects])
  width = (image.shape[1] - 2 * _MARGIN) // _LETTER
  words = [f"{k}: {row[k]}" for k in ("prompt", "prediction", "truth")]
  words = map(progress.plain, words)
  lines = [x for text in words for x in textwrap.wrap(text, width)[:4]]
  paper = Image.new("RGB", (image.shape[1], (_FONT + 4) * len(lines)), "white")
  font = ImageFont.load_default(_FONT)
  ImageDraw.Draw(paper).text((_MARGIN, 0), "\n".join(lines), "black", font)
  return np.vstack([image, np.asarray(paper)])


def _drawn(row, image, objects):
  """Returns an image with objects drawn on it."""
  size = image.shape[:2]
  codec = cards.codec_of(row)
  shapes = [
    masks.paste(masks.decode(codec, one.codes), one.box, *size)
    if codec and one.codes
    else None
    for one in objects
  ]
  places = [boxes.to_pixels(one.box, *size) for one in objects]
  return drawing.boxes(image, places, [one.label for one in objects], shapes)


def _image(row):
  """Returns the image of a row, u8[height, width, 3], or None."""
  found = cards.embed(row["image"]) if row.get("image") else cards.of_file(row)
  if not found:
    return None
  _, _, data = found[0].partition(",")
  image = Image.open(io.BytesIO(base64.b64decode(data)))
  return np.asarray(image.convert("RGB"))
