"""Scenes of coloured shapes: their contents, and how they are rendered.

A scene is a background, one to three objects and sometimes a line or two of
characters, on a canvas of 8 x 8 units. Every object lies inside a quadrant of
its own, so that no two overlap, "top left" has one meaning, and the raster
order of the objects is that of the quadrants:

  0 . . . 4 . . . 8      Object("red", "circle", size=4, y=0, x=0)
  O O O O | . . . .      Object("blue", "square", size=2, y=4, x=6)
  O O O O | . . . .
  O O O O | . . . .      boxes (0, 0, 4, 4) / 8 and (4, 6, 6, 8) / 8
  O O O O | . . . .
  4 - - - + - - # #
  . . . . | . . # #
  . . . . | . . . .
  8 . . . | . . . .

Objects stand on even units, so that a patch of two units (12 pixels at 48 px)
sees a whole small object or a quarter of a large one: shapes that patches cut
anywhere take a small model much longer to tell apart.

A unit is 6 pixels at 48 px and 28 at 224: the same scene can be drawn at any
multiple of 16 px, and boxes lie on pixel borders in all of them.
"""

import functools
import hashlib
import itertools
from typing import NamedTuple

import numpy as np

UNITS = 8  # width and height of the canvas
STEP = 16  # an image's pixels are a multiple of it: two dots of text per unit
HALF = UNITS // 2  # width and height of a quadrant
MAX_OBJECTS = MAX_COUNT = 3  # in a scene, and where they are counted
NOISE = 8  # grey levels, up or down

# Between NOISE and 255 - NOISE in every channel, so that noise cannot wrap.
COLORS = {
  "red": (222, 32, 36),
  "green": (32, 160, 56),
  "blue": (36, 72, 224),
  "yellow": (246, 220, 40),
  "purple": (142, 36, 176),
  "brown": (132, 74, 24),
  "black": (10, 10, 10),
  "white": (246, 246, 246),
}
BACKGROUNDS = ((150, 150, 150), (120, 136, 160), (190, 172, 148))
INK = COLORS["black"]

SIZES = {"small": 2, "large": 4}  # units
LARGE = 0.07  # share of the image that the box of a large object has, or more
GRID = 2  # units: objects and text begin on multiples of it
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")

# Dots of each character, 3 wide and 5 high, a row per group.
FONT = {
  "0": "###/#.#/#.#/#.#/###",
  "1": ".#./##./.#./.#./###",
  "2": "###/..#/###/#../###",
  "3": "###/..#/.##/..#/###",
  "4": "#.#/#.#/###/..#/..#",
  "5": "###/#../###/..#/###",
  "6": "#../#../###/#.#/###",
  "7": "###/..#/..#/.#./.#.",
  "8": "###/#.#/###/#.#/###",
  "9": "###/#.#/###/..#/..#",
  "A": ".#./#.#/###/#.#/#.#",
  "C": ".##/#../#../#../.##",
  "E": "###/#../##./#../###",
  "H": "#.#/#.#/###/#.#/#.#",
  "L": "#../#../#../#../###",
  "P": "##./#.#/##./#../#..",
  "T": "###/.#./.#./.#./.#.",
  "X": "#.#/#.#/.#./#.#/#.#",
}


class Pair(NamedTuple):
  """A kind of object: its colour and its shape."""

  color: str
  shape: str


class Object(NamedTuple):
  """One object of a scene; `size`, `y` and `x` are in units."""

  color: str
  shape: str
  size: int
  y: int
  x: int

  @property
  def box(self):
    """Returns the box (y1, x1, y2, x2), floats in 0..1."""
    corners = self.y, self.x, self.y + self.size, self.x + self.size
    return tuple(edge / UNITS for edge in corners)


class Label(NamedTuple):
  """One line of characters; `y` and `x` are its top left corner in units."""

  text: str
  y: int
  x: int


class Scene(NamedTuple):
  """All that an image shows but its noise; objects are in raster order."""

  background: int
  objects: tuple = ()
  labels: tuple = ()

  pixels = ()  # no height and width of its own


def _disc(y, x):
  return y * y + x * x <= 1


def _triangle(y, x):
  half_pixel = 1 - np.max(x)  # to the lower edge, or the tip would be empty
  return np.abs(x) <= (y + half_pixel + 1) / 2 + 1e-9


# Name -> whether the point (y, x) of a box from (-1, -1) to (1, 1) is covered.
SHAPES = {
  "circle": _disc,
  "square": lambda y, x: np.full(np.broadcast(y, x).shape, True),
  "triangle": _triangle,
  "cross": lambda y, x: np.minimum(np.abs(y), np.abs(x)) <= 1 / 3,
  "ring": lambda y, x: _disc(y, x) & ~_disc(y * 2, x * 2),
}

PAIRS = tuple(itertools.starmap(Pair, itertools.product(COLORS, SHAPES)))
# Never seen in training, in no task, neither in an image nor in a text.
HELD_OUT = (
  Pair("purple", "triangle"),
  Pair("green", "ring"),
  Pair("yellow", "square"),
  Pair("brown", "cross"),
)
KNOWN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)


def pair(item):
  """Returns the Pair of an Object."""
  return Pair(item.color, item.shape)


def quadrant(item):
  """Returns the name of the quadrant that an object's centre lies in."""
  y1, x1, y2, x2 = item.box
  return QUADRANTS[2 * (y1 + y2 >= 1) + (x1 + x2 >= 1)]


def fingerprint(scene):
  """Returns 16 hexadecimal digits that name the scene, the same anywhere."""
  return hashlib.blake2b(repr(tuple(scene)).encode(), digest_size=8).hexdigest()


def belongs(scene, split):
  """Says whether a scene may be shown in a split.

  "combo" has the scenes with a held-out pair. Of all others an eighth, chosen
  by fingerprint, is for testing ("test" and "template"), the rest for "train".
  A scene is thus on the same side for every task, resolution and row.
  """
  if any(pair(item) in HELD_OUT for item in scene.objects):
    return split == "combo"
  testing = int(fingerprint(scene), 16) % 8 == 0
  return split in (("test", "template") if testing else ("train",))


def place(rng, pairs, cells, labels=()):
  """Draws a scene with one object of each pair, of random size, in its cell.

  Args:
    rng: random.Random.
    pairs: list of Pair.
    cells: a different index into QUADRANTS for each pair.
    labels: tuple of Label, passed on.

  Returns:
    Scene, in which objects of one colour do not touch.
  """
  kinds = sorted(zip(cells, pairs))
  while True:
    items = tuple(_draw(rng, *kind) for kind in kinds)
    if not any(itertools.starmap(_merge, itertools.combinations(items, 2))):
      return Scene(rng.randrange(len(BACKGROUNDS)), items, labels)


def _draw(rng, cell, kind):
  size = rng.choice(tuple(SIZES.values()))
  y, x = (rng.randrange(0, HALF - size + 1, GRID) for _ in range(2))
  return Object(*kind, size, cell // 2 * HALF + y, cell % 2 * HALF + x)


def _merge(a, b):
  """Says whether two Objects would look like one: same colour, boxes touch."""
  return a.color == b.color and all(
    max(p, q) <= min(p + a.size, q + b.size)
    for p, q in ((a.y, b.y), (a.x, b.x))
  )


def render(scene, res, rng):
  """Renders the image of a scene.

  Args:
    scene: Scene.
    res: int, height and width in pixels, a multiple of 16.
    rng: random.Random, for the noise.

  Returns:
    u8[res, res, 3].
  """
  image = np.empty((res, res, 3), np.uint8)
  image[:] = BACKGROUNDS[scene.background]
  for item in scene.objects:
    _region(image, item, res)[_stencil(item, res)] = COLORS[item.color]
  for label in scene.labels:
    _write(image, label, res // STEP)
  noise = np.frombuffer(rng.randbytes(image.size), np.uint8)
  return image + (noise.reshape(image.shape) % (2 * NOISE)) - np.uint8(NOISE)


def mask(item, shape):
  """Returns bool[res, res], True where an Object is; its box is tight.

  Args:
    item: Object.
    shape: (res, res), a multiple of 16 twice.
  """
  image = np.zeros(shape, bool)
  _region(image, item, len(image))[:] = _stencil(item, len(image))
  return image


def _region(image, item, res):
  """Returns a view of the pixels inside of an object's box."""
  y1, x1, y2, x2 = (round(edge * res) for edge in item.box)
  return image[y1:y2, x1:x2]


def _stencil(item, res):
  return stencil(item.shape, item.size * res // UNITS)


@functools.cache
def stencil(shape, num):
  """Returns bool[num, num], the pixels whose centre the shape covers."""
  x = (2 * np.arange(num) + 1) / num - 1
  return SHAPES[shape](x[:, None], x[None, :])


def _write(image, label, dot):
  """Writes a label in place; a character takes 2 x 3 units, a dot a half."""
  for i, char in enumerate(label.text):
    y, x = 2 * dot * label.y, 2 * dot * label.x + 4 * dot * i
    image[y : y + 5 * dot, x : x + 3 * dot][glyph(char, dot)] = INK


@functools.cache
def glyph(char, dot):
  """Returns bool[5 * dot, 3 * dot], the ink of a character."""
  rows = [[mark == "#" for mark in row] for row in FONT[char].split("/")]
  return np.kron(rows, np.ones((dot, dot), bool))
