"""Sketches that were laid out by hand, drawn as with a paint program.

Of an entry of SKETCHES the first line is the size, the paper and the quality of
a JPEG (0 is a PNG). Then come objects: a colour and a shape, x y width height
in pixels, and how it is drawn: "5" with a black contour of 5 pixels, "line9" as
a line in its own colour, "pen" filled by a hand that shakes, or plain. Or a
text, its colour, x y and the size of its font.
"""

import functools
import io
import random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SKETCHES = """
640x480 ffffff 0
  red circle 220 140 200 200
800x600 faf8f0 90
  blue square 300 200 190 180 8
300x300 ffffff 0
  green triangle 90 80 120 110 pen
500x400 fdfdfd 85
  yellow circle 60 50 120 120 6
  purple square 300 220 120 120
900x600 ffffff 0
  red square 80 230 160 150
  blue circle 370 220 170 170
  green triangle 640 215 180 170
400x400 282c34 0
  white ring 130 130 140 140 line24
256x256 dcdcdc 75
  black cross 90 90 76 76
700x500 fbf7ec 90
  brown square 60 40 130 120
  red ring 280 40 130 130 line26
  black triangle 490 30 150 135
  purple cross 290 330 130 130
600x800 ffffff 0
  blue circle 180 60 240 230 pen
  red triangle 190 490 240 220
200x200 f4f1e8 80
  purple circle 60 70 80 80 3
480x360 a8c8e8 0
  red ring 60 100 140 140 line20
  white square 280 110 130 130
350x250 ffffff 70
  red cross 40 60 110 110
  black circle 210 70 100 100
640x640 c8e6c8 0
  brown circle 70 60 190 190
  black square 380 400 180 180 line18
512x512 ffffff 90
  blue triangle 50 60 170 150 line13
  red square 300 70 150 150 line15
800x450 f7f3e6 85
  green square 60 110 190 190 pen
  yellow triangle 330 120 190 170 5
  blue cross 590 120 160 160
300x600 ffffff 0
  yellow ring 90 40 120 120 line22
  green circle 95 250 110 110
  red cross 90 450 120 120
720x720 1e1e28 90
  yellow cross 80 80 180 180
  red circle 420 90 190 190
  white triangle 250 430 210 200
450x300 fff8dc 0
  purple ring 60 90 120 120 line18
  brown triangle 260 80 130 120 4
900x900 ffffff 60
  blue square 90 90 230 230 10
  red circle 560 80 240 240 10
  green cross 90 560 240 240
  purple square 580 570 210 210 pen
220x180 e8e8ff 0
  red triangle 80 60 60 56
640x400 808890 80
  white circle 90 120 150 150
  yellow circle 390 110 160 160 6
560x560 ffe4e1 0
  black ring 160 160 230 230 line40
400x300 ffffff 75
  brown circle 40 90 110 110 pen
  blue ring 240 90 110 110 line20
850x500 f0f0f0 90
  black square 50 180 140 140
  purple circle 270 180 150 150 4
  blue triangle 480 180 150 140
  red square 690 190 120 120 line14
400x200 ffffff 0
  "42" 000000 120 40 110
500x300 faf8f0 85
  "CAT" ed1c24 90 80 130
300x300 282c34 0
  "7" ffff00 110 70 150
640x480 ffffff 80
  "HX" 0000ff 60 60 120
  "95" 000000 330 290 120
360x240 dcdcdc 0
  "PE3" 800080 40 60 100
600x400 fff8dc 90
  "8" 228b22 90 110 170
  red circle 360 120 150 150
450x450 c8dcf0 0
  "TA" 000000 70 250 120
  white square 240 60 120 120 3
256x256 ffffff 75
  "L6" 8b4513 50 70 90
"""

# Two sets of colours that programs offer; sketches take them in turns.
PALETTES = (
  dict(
    red="#ff0000",
    green="#008000",
    blue="#0000ff",
    yellow="#ffff00",
    purple="#800080",
    brown="#8b4513",
    black="#000000",
    white="#ffffff",
  ),
  dict(
    red="#ed1c24",
    green="#22b14c",
    blue="#3f48cc",
    yellow="#fff200",
    purple="#a349a4",
    brown="#7a4a21",
    black="#101010",
    white="#fafafa",
  ),
)
_CORNERS = {
  "square": ((0, 0), (1, 0), (1, 1), (0, 1)),
  "triangle": ((0.5, 0), (1, 1), (0, 1)),
}


class Item(NamedTuple):
  """One object of a sketch."""

  color: str
  shape: str
  box: tuple  # y1 x1 y2 x2 in 0..1, of the pixels that are drawn
  mask: np.ndarray  # bool[height, width]


class Sketch(NamedTuple):
  """One picture; objects and texts are in the order to name them in."""

  image: bytes
  height: int
  width: int
  objects: list
  texts: list


@functools.cache
def drawn():
  """Returns all sketches."""
  lines = SKETCHES.strip().replace("\n  ", ";").splitlines()
  return [_sketch(line, number) for number, line in enumerate(lines)]


def _sketch(line, number):
  """Draws the sketch of a line."""
  head, *parts = line.split(";")
  size, paper, quality = head.split()
  size = tuple(map(int, size.split("x")))
  image = Image.new("RGB", size, f"#{paper}")
  palette, objects, texts = PALETTES[number % 2], [], []
  for part in parts:
    if part.startswith('"'):
      text, color, x, y, height = part.replace('"', "").split()
      font = ImageFont.load_default(int(height))
      draw = ImageDraw.Draw(image)
      draw.text(
        (int(x), int(y)), text, f"#{color}", font, stroke_width=number % 3
      )
      texts.append(text)
      continue
    color, shape, *place, how = (part.split() + [""])[:7]
    place = tuple(map(int, place))
    ink = Image.new("L", size)
    rgb = palette[color]
    for canvas, fill, edge in ((image, rgb, "black"), (ink, 255, 255)):
      rng = random.Random(part)
      _draw(ImageDraw.Draw(canvas), shape, place, how, fill, edge, rng)
    x1, y1, x2, y2 = ink.getbbox()
    box = y1 / size[1], x1 / size[0], y2 / size[1], x2 / size[0]
    objects.append(Item(color, shape, box, np.asarray(ink) > 0))
  out, quality = io.BytesIO(), int(quality)
  form = dict(format="JPEG", quality=quality) if quality else dict(format="PNG")
  image.save(out, **form)
  return Sketch(out.getvalue(), size[1], size[0], objects, texts)


def _draw(draw, shape, place, how, fill, edge, rng):
  """Draws one object in a colour, with an edge in another where `how` says."""
  x, y, width, height = place
  box = x, y, x + width, y + height
  more = dict(fill=fill)
  if how.startswith("line"):
    more = dict(outline=fill, width=int(how[4:]))
  elif how.isdigit():
    more.update(outline=edge, width=int(how))
  if shape == "cross":
    x3, y3 = width // 3, height // 3
    draw.rectangle((x, y + y3, x + width, y + height - y3), fill=fill)
    draw.rectangle((x + x3, y, x + width - x3, y + height), fill=fill)
  elif shape == "ring" or (shape == "circle" and how != "pen"):
    draw.ellipse(box, **more)
  elif shape == "square" and how != "pen":
    draw.rectangle(box, **more)
  else:
    draw.polygon(_points(shape, box, how, rng), **more)


def _points(shape, box, how, rng):
  """Returns corners in a box; those of a pen are up to 4 % off."""
  x1, y1, x2, y2 = box
  unit = _CORNERS.get(shape)
  if unit is None:
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    unit = [(0.5 + np.cos(t) / 2, 0.5 + np.sin(t) / 2) for t in turns]
  off = 0.04 if how == "pen" else 0
  return [
    (
      x1 + (x + rng.uniform(-off, off)) * (x2 - x1),
      y1 + (y + rng.uniform(-off, off)) * (y2 - y1),
    )
    for x, y in unit
  ]
