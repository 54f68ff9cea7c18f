"""Colours of free scenes: what bears a name, and what it stands out from."""

import colorsys
import math
from typing import NamedTuple

from pg.data.synthetic import scenes

# Hue in degrees, saturation and value, from and to, of what bears a name.
_NAMED = {
  "red": ((-8, 8), (0.75, 1), (0.7, 1)),
  "green": ((95, 155), (0.55, 1), (0.42, 0.95)),
  "blue": ((208, 244), (0.68, 1), (0.6, 1)),
  "yellow": ((49, 61), (0.6, 1), (0.88, 1)),
  "purple": ((274, 302), (0.52, 1), (0.42, 0.78)),
  "brown": ((18, 32), (0.55, 0.9), (0.36, 0.6)),
  "black": ((0, 360), (0, 0.3), (0, 0.15)),
  "white": ((0, 360), (0, 0.04), (0.93, 1)),
}
# The same of backgrounds, and how common they are.
_GROUNDS = {
  "white": (((0, 360), (0, 0.02), (0.97, 1)), 25),
  "light": (((0, 360), (0, 0.12), (0.84, 0.98)), 25),
  "coloured": (((0, 360), (0.15, 0.5), (0.5, 0.95)), 20),
  "grey": (((0, 360), (0, 0.06), (0.4, 0.8)), 15),
  "dark": (((0, 360), (0, 0.5), (0.08, 0.32)), 15),
}
CONTRAST = 90  # of an object and its background, Euclidean in RGB


class Background(NamedTuple):
  """What is behind the objects."""

  rgb: tuple
  end: tuple  # the colour on the other side of a gradient, or the same
  turn: int  # of the gradient, degrees
  noise: int  # grey levels, up or down
  paper: int  # grey levels of a texture of large and small grains


def _hsv(rng, ranges):
  hue, saturation, value = (rng.uniform(*r) for r in ranges)
  rgb = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
  return tuple(round(255 * c) for c in rgb)


def tone(rng, name):
  """Draws a colour that bears a name: none of the others is nearer."""
  while True:
    rgb = _hsv(rng, _NAMED[name])
    far = {n: math.dist(rgb, center) for n, center in scenes.COLORS.items()}
    if min(far, key=far.get) == name:
      return rgb


def contour(rng, rgb, background):
  """Draws the colour of a contour: nearly black, or a darker shade.

  Returns:
    Three ints; () if it does not stand out from the background.
  """
  share = rng.choice((0, rng.uniform(0.45, 0.6)))
  found = tuple(round(share * c) + 15 for c in rgb)
  near = min(
    math.dist(found, side) for side in (background.rgb, background.end)
  )
  return found if near > CONTRAST else ()


def background(rng, tones):
  """Draws a Background that all the tones stand out from."""
  wanted = CONTRAST
  kinds, weights = zip(*_GROUNDS.values())
  while True:
    (kind,) = rng.choices(kinds, weights)
    rgb = end = _hsv(rng, kind)
    if rng.random() < 0.2:
      shift = [rng.randint(-40, 40) for _ in range(3)]
      end = tuple(min(max(c + s, 0), 255) for c, s in zip(rgb, shift))
    middle = tuple((a + b) / 2 for a, b in zip(rgb, end))
    ways = (rgb, middle, end)
    if all(math.dist(t, w) > wanted for t in tones for w in ways):
      noise = rng.choice((0, 0, rng.randint(1, 10)))
      paper = rng.choice((0, 0, 0, rng.randint(4, 12)))
      return Background(rgb, end, rng.randrange(360), noise, paper)
    wanted *= 0.98  # or eight colours might leave nothing
