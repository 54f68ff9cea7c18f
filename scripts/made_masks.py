"""Made-up masks of one object, which train and test a mask codec.

Shapes as in pg/data/synthetic, blobs, polygons, and two of them joined or cut.
"""

import numpy as np
from PIL import Image, ImageDraw

from pg.codecs import masks
from pg.data.synthetic import scenes


def pairs(num, seed):
  """Returns (mask, box) of made-up objects, the same for a seed."""
  drawn = [draw(np.random.default_rng((seed, i))) for i in range(num)]
  return [(mask, box_of(mask)) for mask in drawn]


def crops(num, seed):
  """Returns `pairs` as the codec sees them, u8[num, 64, 64]."""
  cut = [np.round(255 * masks.crop(*pair)) for pair in pairs(num, seed)]
  return np.array(cut, np.uint8)


def draw(rng):
  """Returns a mask bool[side, side] with an object; side: a power of two."""
  side = int(2 ** rng.integers(5, 8))
  if rng.random() < 0.3:
    mask = _shape(rng, side)
  else:
    mask = _outline(rng, side)
    what = rng.random()
    if what < 0.25:
      mask = mask | _outline(rng, side)
    elif what < 0.4:  # something stands in front of it
      mask = mask & ~_outline(rng, side)
  return mask if mask.sum() >= 16 else draw(rng)


def box_of(mask):
  """Returns the tight box of a mask, f32[4], y1 x1 y2 x2 in 0..1."""
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  h, w = mask.shape
  return np.float32(
    [rows[0] / h, columns[0] / w, (rows[-1] + 1) / h, (columns[-1] + 1) / w]
  )


def _shape(rng, side):
  num = rng.integers(6, side + 1)
  y, x = rng.integers(side - num + 1, size=2)
  mask = np.zeros((side, side), bool)
  name = list(scenes.SHAPES)[rng.integers(len(scenes.SHAPES))]
  mask[y : y + num, x : x + num] = scenes.stencil(name, int(num))
  return mask


def _outline(rng, side):
  """A blob or a polygon, stretched and turned."""
  if rng.random() < 0.5:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    k = np.arange(1, 6)[:, None]
    size = rng.normal(0, 0.35, (5, 1)) / k
    phase = rng.uniform(0, 2 * np.pi, (5, 1))
    radius = np.maximum(1 + (size * np.cos(k * angles + phase)).sum(0), 0.15)
  else:
    num = rng.integers(3, 10)
    angles = np.sort(rng.uniform(0, 2 * np.pi, num))
    radius = rng.uniform(0.4, 1, num)
  points = radius * np.exp(1j * angles)
  points = points.real + 1j * points.imag * rng.uniform(0.35, 1)
  points *= np.exp(1j * rng.uniform(0, 2 * np.pi)) * rng.uniform(0.25, 0.5)
  points = side * (points + complex(*rng.uniform(0.35, 0.65, 2)))
  image = Image.new("1", (side, side))
  xy = np.stack([points.real, points.imag], 1).ravel().tolist()
  ImageDraw.Draw(image).polygon(xy, fill=1)
  return np.array(image)
