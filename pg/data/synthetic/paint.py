"""Draws free scenes, see free.py.

A shape is one or two convex polygons or an ellipse, and what is drawn of it
follows from how far each pixel's centre is outside of it, in pixels: covered
below 0, half at 0, so that one formula draws fillings, lines and soft edges.
"""

import functools
import math
import random

import numpy as np
from PIL import Image, ImageFont

from pg.data.synthetic import scenes

_BOX = Image.Resampling.BOX

_CORNERS = {
  "square": [[(-1, -1), (-1, 1), (1, 1), (1, -1)]],
  "triangle": [[(-1, 0), (1, 1), (1, -1)]],
}


def polygons(item):
  """Returns the corners of an object's convex parts, clockwise.

  Lists of (y, x) in 0..1 of the image; together they fill the object's box.
  """
  a = item.line  # of a cross, whose bars are 2 long here
  parts = _CORNERS.get(item.shape) or (
    ((-1, -a), (-1, a), (1, a), (1, -a)),
    ((-a, -1), (-a, 1), (a, 1), (a, -1)),
  )
  turn = math.radians(item.turn)
  c, s = math.cos(turn), math.sin(turn)
  turned = []
  for part in parts:
    bent = zip(part, item.bend or ((0, 0),) * len(part))
    moved = [(y + dy, x + dx) for (y, x), (dy, dx) in bent]
    turned.append([(c * y + s * x, c * x - s * y) for y, x in moved])
  ys, xs = zip(*(point for part in turned for point in part))
  top, left = min(ys), min(xs)
  y1, x1, y2, x2 = item.box
  down, across = (y2 - y1) / (max(ys) - top), (x2 - x1) / (max(xs) - left)
  return [
    [(y1 + (y - top) * down, x1 + (x - left) * across) for y, x in part]
    for part in turned
  ]


def _outside(corners, y, x):
  """Returns how far points are outside of a convex polygon, f32[y, x].

  Args:
    corners: list of (y, x) in pixels, clockwise.
    y, x: f32[points], rows and columns of the points.
  """
  sides = []
  for (y1, x1), (y2, x2) in zip(corners, [*corners[1:], corners[0]]):
    length = math.hypot(y2 - y1, x2 - x1)
    up, right = (x1 - x2) / length, (y2 - y1) / length  # the outer normal
    sides.append((up, right, up * y1 + right * x1))
  up, right, level = np.array(sides, np.float32).T[:, :, None]
  rows, columns = up * y - level, right * x
  return (rows[:, :, None] + columns[:, None, :]).max(0)


def field(item, height, width, margin=1):
  """Measures how far pixels are outside of an object.

  Args:
    item: free.Object.
    height, width: int, pixels of the image.
    margin: int, pixels around the box.

  Returns:
    Two slices, the rows and columns of a part of the image, and f32 of its
    shape: pixels from the edge to the centre of each, below 0 inside of it and,
    if the object is a line, outside of its inner edge.
  """
  y1, x1, y2, x2 = item.box
  rows = slice(*_span(y1, y2, height, margin))
  columns = slice(*_span(x1, x2, width, margin))
  y = np.arange(rows.start, rows.stop, dtype=np.float32) + np.float32(0.5)
  x = np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5)
  if item.shape in ("circle", "ring"):
    a, b = (y2 - y1) / 2 * height, (x2 - x1) / 2 * width
    v = (y - np.float32((y1 + y2) / 2 * height)) / np.float32(a)
    u = (x - np.float32((x1 + x2) / 2 * width)) / np.float32(b)
    far = np.sqrt((v * v)[:, None] + (u * u)[None])
    far -= 1
    far *= np.float32(math.sqrt(a * b))
  else:
    parts = [
      _outside([(v * height, u * width) for v, u in corners], y, x)
      for corners in polygons(item)
    ]
    far = functools.reduce(np.minimum, parts)
  if is_line(item):
    far = np.maximum(far, -far - np.float32(line(item, height, width)))
  return rows, columns, far


def is_line(item):
  """Says whether an object is drawn as a line, without a filling."""
  return item.line and not item.contour and item.shape != "cross"


def line(item, height, width):
  """Returns the width of an object's line in pixels."""
  y1, x1, y2, x2 = item.box
  return item.line * min((y2 - y1) * height, (x2 - x1) * width)


def _span(low, high, num, margin):
  """Returns the first pixel of a span of 0..1 and the one after the last."""
  first, last = math.floor(low * num) - margin, math.ceil(high * num) + margin
  return max(first, 0), min(last, num)


def _share(far, soft):
  """Returns the share of each pixel that is covered, f32."""
  if not soft:
    return (far < 0).astype(np.float32)
  return np.clip(np.float32(0.5) - far / np.float32(soft), 0, 1)


def _blend(image, rows, columns, share, rgb):
  """Lays a colour over a part of an image in place.

  Args:
    image: f32[height, 3 * width]: numpy is slow where the last axis is short.
    rows, columns: slices, in pixels.
    share: f32 of the part's height and width, of the colour.
    rgb: three numbers.
  """
  part = image[rows, 3 * columns.start : 3 * columns.stop]
  change = np.tile(np.array(rgb, np.float32), share.shape[1]) - part
  change *= np.repeat(share, 3, axis=1)
  part += change


def render(scene, height, width, rng):
  """Renders a free.Scene as u8[height, width, 3]."""
  image = _ground(scene.background, height, width, rng)
  places = [field(item, height, width) for item in scene.objects]
  if scene.shadow:
    _shadows(image, scene, height, width)
  for item, (rows, columns, far) in zip(scene.objects, places):
    if item.contour:
      share = _share(far, scene.soft)
      _blend(image, rows, columns, share, item.contour)
      far = far + np.float32(line(item, height, width))
    _blend(image, rows, columns, _share(far, scene.soft), item.rgb)
  for label in scene.labels:
    _write(image, label)
  if noise := scene.background.noise:
    image += _grains(rng, height, 3 * width) * np.float32(noise / 128)
  np.clip(image, 0, 255, out=image)
  return image.astype(np.uint8).reshape(height, width, 3)


def _shadows(image, scene, height, width):
  """Darkens what is below and to the right of objects, in place."""
  step = round(scene.shadow * min(height, width))
  for item in scene.objects:
    rows, columns, far = field(item, height, width, margin=step)
    rows = slice(rows.start + step, min(rows.stop + step, height))
    columns = slice(columns.start + step, min(columns.stop + step, width))
    far = far[: rows.stop - rows.start, : columns.stop - columns.start]
    share = np.float32(0.35) * _share(far, 2 * step)
    _blend(image, rows, columns, share, (0, 0, 0))


def _ground(background, height, width, rng):
  """Returns f32[height, 3 * width], the background without its noise."""
  image = np.empty((height, 3 * width), np.float32)
  image[:] = np.tile(np.array(background.rgb, np.float32), width)
  if background.end != background.rgb:
    turn = math.radians(background.turn)
    down, across = math.cos(turn), math.sin(turn)
    down, across = (a / (abs(down) + abs(across)) for a in (down, across))
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * down
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32) * across
    share = (y + x + 0.5).astype(np.float32)
    _blend(image, slice(0, height), slice(0, width), share, background.end)
  if background.paper:
    grains = Image.fromarray(_grains(rng, 20, 20).astype(np.float32))
    large = np.asarray(grains.resize((width, height), Image.Resampling.BICUBIC))
    texture = large + _grains(rng, height, width)
    image += np.repeat(texture * np.float32(background.paper / 256), 3, axis=1)
  return image


@functools.cache
def _noise():
  """Returns i8[1024, 3072], even noise that repeats after 256."""
  data = random.Random("noise").randbytes(256 * 768)
  return np.tile(np.frombuffer(data, np.int8).reshape(256, 768), (4, 4))


def _grains(rng, height, width):
  """Returns i8[height, width] of noise; a view, if it is not very large."""
  y, x = rng.randrange(225), rng.randrange(256)
  noise = _noise()
  if y + height <= noise.shape[0] and x + width <= noise.shape[1]:
    return noise[y : y + height, x : x + width]
  rows = noise.take(range(y, y + height), 0, mode="wrap")
  return rows.take(range(x, x + width), 1, mode="wrap")


def _dots(text):
  """Returns the characters of scenes.py, u8[5, dots]."""
  blank = np.zeros((5, 1), bool)
  parts = [part for c in text for part in (scenes.glyph(c, 1), blank)]
  return np.concatenate(parts[:-1], 1).astype(np.uint8) * 255


@functools.cache
def _font():
  return ImageFont.load_default(48)


def _type(text):
  """Returns characters in Pillow's own font, u8[height, width]."""
  ink = _font().getmask(text)
  return np.asarray(ink, np.uint8).reshape(ink.size[::-1])


FONTS = {"dots": _dots, "type": _type}


@functools.lru_cache(maxsize=1024)
def _text(font, text):
  ink = FONTS[font](text)
  rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
  return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _write(image, label):
  """Writes a line of characters into its box, in place."""
  height, width = image.shape[0], image.shape[1] // 3
  y1, x1, y2, x2 = (
    round(edge * side) for edge, side in zip(label.box, (height, width) * 2)
  )
  ink = _text(label.font, label.text)
  x2 = min(x2, x1 + max(round((y2 - y1) * ink.shape[1] / ink.shape[0]), 1))
  scaled = Image.fromarray(ink).resize((x2 - x1, y2 - y1), _BOX)
  share = np.asarray(scaled).astype(np.float32) / 255
  _blend(image, slice(y1, y2), slice(x1, x2), share, label.rgb)
