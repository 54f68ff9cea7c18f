"""Boxes drawn into images."""

import numpy as np

from pg import pp
from pg.pp import image as image_ops
from pg.pp import objects


@pp.op
def draw_box(example, box: str):
  """Draws a red box, one pixel thick: `resize(224) | draw_box("bbox")`.

  Drawn after the resize it looks the same in every image, as in the published
  recipe for widget captions (`tf.image.draw_bounding_boxes`): the sides are at
  the box's numbers times (size - 1), rounded down.

  Args:
    example: dict with one decoded "image".
    box: the key of y1 x1 y2 x2 as fractions of height and width.
  """
  image = image_ops.one(example)
  corners = objects.checked([pp.get(example, box)], box)[0]
  last = np.float32(image.shape[:2] * 2) - 1
  y1, x1, y2, x2 = (corners.astype(np.float32) * last).astype(int)
  image = image.copy()
  height, width, _ = image.shape
  rows = slice(max(y1, 0), y2 + 1)
  columns = slice(max(x1, 0), x2 + 1)
  for y in (y1, y2):
    if 0 <= y < height:
      image[y, columns] = (255, 0, 0)
  for x in (x1, x2):
    if 0 <= x < width:
      image[rows, x] = (255, 0, 0)
  return {"image": image}
