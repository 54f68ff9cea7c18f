"""Scenes that lie anywhere: as somebody draws them with a paint program.

In place of the grid of scenes.py, for every task (`Shapes(..., free=0.25)`):

  number     1 to 4 objects; 1 to 6 where they are counted, some of them alike
  place      anywhere, with a gap around each: nothing hides anything
  size       .12 to .5 of a side, up to .7 alone; none between small and large
  order      of captions and boxes: the top, middle and bottom third of the
             image, each from left to right, by centres. Where there are several
             objects none is near a border of thirds or right above another.
  quadrant   where one is asked for, no centre is near the middle
  side       an object is left of another one if it ends before that begins
  form       filled, with a contour in another colour, or (squares, triangles)
             the line alone; slightly tilted and irregular
  colour     all that bear the name, on backgrounds of any kind that they stand
             out from (colors.py)
  text       any size, place and colour, two fonts
  file       of a share of the images: 40 to 800 pixels a side, many not square;
             half are a JPEG's bytes, the others the pixels that a PNG holds

A box is the extent of all that is drawn of an object, its contour included; a
shadow, rare and soft, is not the object's. A mask is what has ink: a square of
lines is a frame, as a ring is.
"""

import math
from typing import NamedTuple

import numpy as np
import simplejpeg

from pg.data.synthetic import colors, paint, scenes

MAX_OBJECTS, MAX_COUNT = 4, 6
GAP = 0.02  # around boxes, as a share of the side
BORDER, ABREAST = 0.035, 0.07  # how clear the order is
MIDDLE = 0.05  # how far from it centres are where quadrants count
TURN = 12  # degrees, at most
PIXELS = 40, 800  # of a file's sides
CHARACTER = 0.62  # width of one, at a height of 1

_SMALL = 0.12, 0.23  # root of a box's area, as a share of the side
_LEAST, _MOST, _CROWDED = 0.29, {1: 0.7, 2: 0.5, 3: 0.42}, 0.34  # of large ones
_WIDTH, _LINE = 0.02, 1.5  # of the thinnest line: a share of the side, pixels
_PIXELS = 8  # of the smallest object
_SMALL_FILE = 120  # pixels: its JPEG is a good one, with all of its colours
_TRIES = 16  # places to try for an object before all are drawn anew

# Where centres may be: y1 x1 y2 x2.
_ANYWHERE = 0, 0, 1, 1
_ROWS = tuple((y - 0.05, 0, y + 0.05, 1) for y in (1 / 6, 1 / 2, 5 / 6))
_ENDS = (0, 0.5 - MIDDLE), (0.5 + MIDDLE, 1)
_QUADRANTS = tuple((y1, x1, y2, x2) for y1, y2 in _ENDS for x1, x2 in _ENDS)


class Object(NamedTuple):
  """One object of a scene."""

  color: str
  shape: str
  box: tuple  # y1 x1 y2 x2 in 0..1
  rgb: tuple
  line: float  # width of its line or contour, of a box's smaller side; 0: none
  contour: tuple  # its colour; () where there is none
  turn: float  # degrees
  bend: tuple  # how far corners are off in a box from -1 to 1; () is not at all


class Label(NamedTuple):
  """One line of characters."""

  text: str
  box: tuple
  rgb: tuple
  font: str  # a key of paint.FONTS


class Scene(NamedTuple):
  """All that an image shows but its noise; objects and labels are in order."""

  objects: tuple
  labels: tuple
  background: colors.Background
  pixels: tuple  # height and width of a file; () is the resolution asked for
  quality: int  # of a JPEG; 0 is none
  soft: float  # pixels that an edge takes; 0 is jagged
  shadow: float  # how far it falls, as a share of the side; 0 is none


def place(rng, files, pairs, cells=(), texts=()):
  """Draws a scene with one object of each pair.

  Args:
    rng: random.Random.
    files: float, the share of images that are as they come from files.
    pairs: list of Pair.
    cells: indices into scenes.QUADRANTS for the first pairs.
    texts: list of str, one for each line of characters.

  Returns:
    Scene.
  """
  pixels = _sides(rng) if rng.random() < files else ()
  quality = _quality(rng, pixels) if pixels and rng.randrange(2) else 0
  boxes, lines = _layout(rng, pixels or (96, 96), len(pairs), cells, texts)
  tones = [colors.tone(rng, pair.color) for pair in pairs]
  inks = [colors.tone(rng, rng.choice(tuple(scenes.COLORS))) for _ in texts]
  background = colors.background(rng, tones + inks)
  thin = max(_WIDTH, _LINE / min(pixels or (96,)))
  made = zip(pairs, boxes, tones)
  objects = [_object(rng, *each, background, thin) for each in made]
  font = rng.choice(tuple(paint.FONTS))
  return Scene(
    tuple(sorted(objects, key=_order)),
    tuple(Label(*each, font) for each in zip(texts, lines, inks)),
    background,
    pixels,
    quality,
    rng.choice((0, 1, 1, 1, 1.5)),
    0.03 if rng.random() < 0.06 else 0,
  )


def _sides(rng):
  """Draws height and width of a file; small ones are more common."""
  low, high = map(math.log, PIXELS)
  side = math.exp(low + (high - low) * rng.random() ** 1.3)
  other = max(side * rng.uniform(0.5, 1), PIXELS[0])
  sides = round(side), round(rng.choice((side, other)))
  return sides if rng.randrange(2) else sides[::-1]


def _quality(rng, pixels):
  """Draws the quality of a JPEG: nothing is left of a small one at 50."""
  return rng.randint(85 if min(pixels) < _SMALL_FILE else 50, 95)


def _order(item):
  """Returns what objects are sorted by: the third of the height, then x."""
  y1, x1, y2, x2 = item.box
  return int(1.5 * (y1 + y2)), x1 + x2


def _layout(rng, pixels, num, cells, texts):
  """Draws boxes that keep apart, for objects and for lines of characters.

  Args:
    rng: random.Random.
    pixels: height and width of the image.
    num: int, objects.
    cells: quadrants of the first objects.
    texts: list of str, one a line.

  Returns:
    Two lists of boxes; a line is below the one before.
  """
  while True:
    areas = [_QUADRANTS[cell] for cell in cells]
    rest = rng.choice(_ROWS) if rng.random() < 0.25 else _ANYWHERE
    areas += [rest] * (num - len(cells))
    sizes = [_size(rng, pixels, num) for _ in areas]
    areas += [_ANYWHERE] * len(texts)
    sizes += [_text_size(rng, pixels, text) for text in texts]
    found = _fit(rng, sizes, areas, num)
    lines = found[num:]
    if found and (len(lines) < 2 or lines[0][2] < lines[1][0]):
      return found[:num], lines


def _size(rng, pixels, num):
  """Draws the height and width of one of `num` objects, small or large."""
  large = _LEAST, _MOST.get(num, _CROWDED)
  small = max(_SMALL[0], _PIXELS / min(pixels)), _SMALL[1]
  kinds = (small, large) if num <= MAX_OBJECTS else (small, small, large)
  side = rng.uniform(*rng.choice(kinds))
  stretch = math.sqrt(pixels[1] / pixels[0] * rng.uniform(0.88, 1.14))
  return side * stretch, side / stretch


def _text_size(rng, pixels, text):
  height = rng.uniform(0.14, 0.42)
  return height, height * CHARACTER * len(text) * pixels[0] / pixels[1]


def _fit(rng, sizes, areas, num):
  """Draws a box of each size with its centre in its area.

  Returns:
    list of boxes that keep apart, the order of the first `num` clear; empty if
    there was no room.
  """
  found = []
  for i, ((height, width), (low, left, high, right)) in enumerate(
    zip(sizes, areas)
  ):
    is_ordered = i < num and 1 < num <= MAX_OBJECTS
    y1, x1 = max(GAP, low - height / 2), max(GAP, left - width / 2)
    down = min(1 - GAP, high + height / 2) - height - y1
    across = min(1 - GAP, right + width / 2) - width - x1
    if down < 0 or across < 0:
      return []
    for _ in range(_TRIES):
      y, x = y1 + down * rng.random(), x1 + across * rng.random()
      box = y, x, y + height, x + width
      if not _is_near(box, found) and (not is_ordered or _is_clear(box, found)):
        found.append(tuple(round(edge, 4) for edge in box))
        break
    else:
      return []
  return found


def _is_near(box, others):
  """Says whether a box touches the gap around another one."""
  y1, x1, y2, x2 = box
  y1, x1, y2, x2 = y1 - GAP, x1 - GAP, y2 + GAP, x2 + GAP
  for v1, u1, v2, u2 in others:
    if y1 < v2 and v1 < y2 and x1 < u2 and u1 < x2:
      return True
  return False


def _is_clear(box, others):
  """Says whether it is clear where an object comes in the order of others."""
  y1, x1, y2, x2 = box
  y, x = y1 + y2, x1 + x2
  if min(abs(y - 2 / 3), abs(y - 4 / 3)) < 2 * BORDER:
    return False
  third = int(1.5 * y)
  for v1, u1, v2, u2 in others:
    if int(1.5 * (v1 + v2)) == third and abs(u1 + u2 - x) < 2 * ABREAST:
      return False
  return True


def _object(rng, pair, box, rgb, background, thin):
  """Draws how an object looks; `thin` is its least line, of the side."""
  side = min(box[2] - box[0], box[3] - box[1])
  line, contour = 0, ()
  style = rng.random()
  if pair.shape == "ring":
    line = rng.uniform(0.14, 0.28)
  elif pair.shape == "cross":
    line = rng.uniform(0.2, 0.4)
  elif pair.shape != "circle" and style < 0.2 and side > 0.17:
    line = rng.uniform(0.07, 0.14)
  elif style > 0.75 and pair.color != "black" and side > 0.17:
    if contour := colors.contour(rng, rgb, background):
      line, thin = rng.uniform(0.03, 0.07), thin / 2
  line = round(max(line, thin / side), 3) if line else 0
  can_turn = pair.shape not in ("circle", "ring") and rng.randrange(2)
  turn = rng.randint(-TURN, TURN) if can_turn else 0
  can_bend = pair.shape in ("square", "triangle") and rng.randrange(2)
  corners = range(4 if can_bend else 0)
  bend = [(rng.randint(-9, 9) / 100, rng.randint(-9, 9) / 100) for _ in corners]
  return Object(*pair, box, rgb, line, contour, turn, tuple(bend))


def mask(item, shape):
  """Returns bool[shape], True where an Object is; its box is tight."""
  image = np.zeros(shape, bool)
  rows, columns, far = paint.field(item, *shape)
  image[rows, columns] = far < 0
  return image


def render(scene, res, rng):
  """Renders the image of a scene.

  Args:
    scene: Scene.
    res: int, height and width in pixels where the scene does not say.
    rng: random.Random, for the noise.

  Returns:
    u8[height, width, 3], or the bytes of a JPEG.
  """
  image = paint.render(scene, *(scene.pixels or (res, res)), rng)
  if not scene.quality:
    return image
  is_small = min(scene.pixels) < _SMALL_FILE
  sampling = "444" if is_small else rng.choice(("444", "420"))
  return simplejpeg.encode_jpeg(image, scene.quality, "RGB", sampling)
