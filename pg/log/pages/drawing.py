"""Draws labelled boxes and masks on images."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Easy to tell apart for most eyes, on light and dark ground (after Okabe and
# Ito, https://jfly.uni-koeln.de/color/).
COLORS = (
  (0, 158, 115),
  (230, 120, 0),
  (86, 180, 233),
  (204, 90, 160),
  (240, 228, 66),
  (0, 96, 190),
  (213, 60, 30),
)


def enlarge(image, side=384):
  """Enlarges a small image by a whole factor, so that its pixels stay square.

  Args:
    image: u8[height, width, 3].
    side: int, the least length wanted of the longer side.

  Returns:
    u8[height * factor, width * factor, 3], and the factor, an int of at least
    1.
  """
  factor = max(1, -(-side // max(image.shape[:2])))
  return image.repeat(factor, axis=0).repeat(factor, axis=1), factor


def boxes(image, boxes, labels, masks=None):
  """Draws boxes with labels and masks; lines and text grow with the image.

  Boxes may lie across the border or have their corners swapped, as a model
  writes them. For small images see `enlarge`.

  Args:
    image: u8[height, width, 3].
    boxes: f32[boxes, 4], y1 x1 y2 x2 in pixels.
    labels: list of str, one per box; an empty one draws no plate. Each has a
      colour of COLORS, the same for the same label; with masks each object.
    masks: list of bool[height, width] or None, one per box.

  Returns:
    u8[height, width, 3], a copy.

  Raises:
    ValueError: not as many labels or masks as boxes.
  """
  masks = [None] * len(boxes) if masks is None else masks
  if not len(boxes) == len(labels) == len(masks):
    raise ValueError(
      f"got {len(boxes)} boxes, {len(labels)} labels and {len(masks)} masks;"
      " each box needs one"
    )
  same = all(mask is None for mask in masks)
  names = list(dict.fromkeys(labels)) if same else []
  numbers = [names.index(x) if same else i for i, x in enumerate(labels)]
  colors = [COLORS[i % len(COLORS)] for i in numbers]
  for mask, color in zip(masks, colors):
    image = image if mask is None else _shade(image, mask, color)
  canvas = Image.fromarray(image)
  pen = ImageDraw.Draw(canvas)
  unit = min(image.shape[:2])
  width = max(2, round(unit / 200))
  font = ImageFont.load_default(max(10, unit / 28))
  corners = [_corners(box, canvas.size) for box in boxes]
  for box, color in zip(corners, colors):
    _outline(pen, box, color, width)
  # The plates come last, so that no line runs through a word.
  taken = []
  for box, label, color in zip(corners, labels, colors):
    if label:
      taken.append(_place(pen, box, label, font, canvas.size, taken))
      _plate(pen, taken[-1], label, font, color)
  return np.asarray(canvas)


def _shade(image, mask, color):
  """Returns an image with a mask's pixels tinted and its edge drawn.

  The edge is of the mask's colour with a dark rim outside, as boxes have.
  """
  tint = np.where(mask[..., None], 0.5 * image + 0.5 * np.array(color), image)
  width = max(1, round(min(mask.shape) / 300))
  grown = Image.fromarray(mask.astype(np.uint8) * 255)
  sizes = (2 * width + 1, 4 * width + 1)
  edge, rim = (
    np.asarray(grown.filter(ImageFilter.MaxFilter(x))) > 0 for x in sizes
  )
  tint[rim & ~edge] = (20, 20, 20)
  tint[edge & ~mask] = color
  return tint.round().astype(np.uint8)


def _corners(box, size):
  """Returns x1 y1 x2 y2 in order and inside the image."""
  y1, x1, y2, x2 = (float(v) for v in box)
  xs = np.clip(sorted((x1, x2)), 0, size[0] - 1).round()
  ys = np.clip(sorted((y1, y2)), 0, size[1] - 1).round()
  return int(xs[0]), int(ys[0]), int(xs[1]), int(ys[1])


def _outline(pen, box, color, width):
  # A thin dark rim on both sides: a line can be seen on ground of its colour.
  x1, y1, x2, y2 = box
  rim = 1 + width // 6
  pen.rectangle(
    (x1 - rim, y1 - rim, x2 + rim, y2 + rim),
    outline=(20, 20, 20),
    width=width + 2 * rim,
  )
  pen.rectangle(box, outline=color, width=width)


def _place(pen, box, label, font, size, taken):
  """Returns where a label's plate goes: x1 y1 x2 y2, free of others if it can.

  Tried in turn: above the box, inside at its top, below, inside at its bottom.
  """
  pad = max(2, round(font.size / 5))
  width = round(pen.textlength(label, font=font)) + 2 * pad
  height = sum(font.getmetrics()) + pad
  x1, y1, _, y2 = box
  x1 = max(0, min(x1, size[0] - width))
  places = []
  for y in (y1 - height, y1, y2, y2 - height):
    if 0 <= y <= size[1] - height:
      places.append((x1, y, x1 + width, y + height))
  places = places or [(x1, 0, x1 + width, height)]
  return next((p for p in places if not _overlaps(p, taken)), places[0])


def _overlaps(place, taken):
  x1, y1, x2, y2 = place
  return any(
    x1 < right and left < x2 and y1 < bottom and top < y2
    for left, top, right, bottom in taken
  )


def _plate(pen, place, label, font, color):
  pen.rectangle(place, fill=color)
  # Rec. 601 luma decides between black and white text.
  bright = np.dot(color, (0.299, 0.587, 0.114)) > 140
  middle = ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2)
  pen.text(
    middle,
    label,
    fill=(0, 0, 0) if bright else (255, 255, 255),
    font=font,
    anchor="mm",
  )
