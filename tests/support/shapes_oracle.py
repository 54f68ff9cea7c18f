"""An oracle for images of shapes: what test_shapes.py checks answers with.

`look` recognises the objects of an image from its pixels, `read` its text, and
`solve` answers a prompt from them: none knows the scene an image was made of.
"""

import re

import numpy as np

from pg.codecs import boxes, masks
from pg.data.synthetic import scenes, words

PALETTE = np.array([*scenes.COLORS.values(), *scenes.BACKGROUNDS], int)
SIDES = "left of|right of|above|below"
NAMES = tuple(scenes.COLORS)
# Tasks that are asked in the words of another.
PROMPT = {"detect_one": "detect"} | dict.fromkeys(
  ("caption_de", "caption_es", "caption_zh"), "caption"
)


def images(example):
  one = example["image"]
  return one if isinstance(one, list) else [one]


def nearest(image):
  """Returns i64[height, width], the index in NAMES of each pixel's colour."""
  apart = np.abs(image[:, :, None].astype(int) - PALETTE).sum(-1)
  return apart.argmin(-1)


def tight(mask):
  """Returns y1 x1 y2 x2 in pixels of the True pixels."""
  y, x = np.nonzero(mask)
  return y.min(), x.min(), y.max() + 1, x.max() + 1


def look(image):
  """Returns the Objects of an image without text, in raster order."""
  half, unit = len(image) // 2, len(image) // scenes.UNITS
  found = []
  for top, left in ((0, 0), (0, half), (half, 0), (half, half)):
    index = nearest(image[top : top + half, left : left + half])
    ink = index < len(scenes.COLORS)
    if not ink.any():
      continue
    (color,) = np.unique(index[ink])
    y1, x1, y2, x2 = tight(ink)
    assert y2 - y1 == x2 - x1 and not (y2 - y1) % unit
    cut = ink[y1:y2, x1:x2]
    (shape,) = (
      s
      for s in scenes.SHAPES
      if np.array_equal(cut, scenes.stencil(s, len(cut)))
    )
    y, x = (top + y1) // unit, (left + x1) // unit
    item = scenes.Object(NAMES[color], shape, len(cut) // unit, int(y), int(x))
    found.append(item)
  return found


def wording(example):
  """Returns the wording of an example's prompt, and what is in its braces."""
  task, kind = example["task"], example["kind"]
  asks = task in ("answer", "yesno", "count", "compare")
  known = words.PROMPTS[kind if asks else PROMPT.get(task, task)]
  for text in sorted(known, key=len, reverse=True):
    pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(text))
    pattern = pattern.replace("(?P<side>.+)", f"(?P<side>{SIDES})")
    if match := re.fullmatch(pattern, example["prefix"]):
      return text, match.groupdict()
  raise AssertionError(example["prefix"])


def one(items):
  (item,) = items
  return item


def beside(side, a, b):
  """Says whether Object a ends before b begins, seen from a side."""
  y1, x1, y2, x2 = a.box
  v1, u1, v2, u2 = b.box
  order = {
    "left of": x2 <= u1,
    "right of": u2 <= x1,
    "above": y2 <= v1,
    "below": v2 <= y1,
  }
  return order[side]


def name(item):
  return f"{item.color} {item.shape}"


def things(item):
  """Returns all that an object may be called in a list of things."""
  return name(item), item.shape


def solve(example, seen=None, mask=scenes.mask):
  """Returns the suffix that is right for an example's prompt and pixels.

  Or for the objects that are `seen`, a list for each image, and their `mask`.
  """
  task, kind = example["task"], example["kind"]
  seen = seen or [look(image) for image in images(example)]
  items, asked = seen[0], wording(example)[1]
  if task.startswith("caption"):
    return words.captions(items, kind)[0]
  if task in ("answer", "yesno", "count", "compare"):
    return ANSWERS[kind](*seen, **asked)
  if task == "question":
    at = {"where": scenes.quadrant}.get(kind, lambda item: getattr(item, kind))
    item = one(item for item in items if at(item) == asked["answer"])
    return words.PROMPTS[kind][0][len("answer en ") :].format(**item._asdict())
  if task == "grounded":
    item = one(i for i in items if boxes.encode(i.box) == asked["box"])
    return f"{words.size(item)} {name(item)}"
  if task == "segment":
    item = one(item for item in items if name(item) == asked["things"])
    box, codec = item.box, masks.load(masks.NANO)
    codes = masks.encode(codec, mask(item, (192, 192)), box)
    return boxes.detect([box], [name(item)], [codes])
  if task == "refer":
    anchor = one(item for item in items if item.shape == asked["anchor"])
    same = [item for item in items if item.shape == asked["shape"]]
    item = one(item for item in same if beside(asked["side"], item, anchor))
    assert len(same) == 2
    return boxes.detect([item.box], [item.shape])
  wanted = asked["things"].split(" ; ")
  labels = [[n for n in things(item) if n in wanted] for item in items]
  found = [(i.box, *label) for i, label in zip(items, labels) if label]
  return boxes.detect(*zip(*found))


def yes(truth):
  return "yes" if truth else "no"


def which(items, a, b):
  present = [item.shape for item in items]
  return ", ".join(s for s in (a, b) if s in present) or "none"


def side(items, a, b, side):
  a, b = (one(item for item in items if name(item) == n) for n in (a, b))
  opposite = {"left of": "right of", "above": "below"}
  opposite |= {v: k for k, v in opposite.items()}
  assert beside(side, a, b) != beside(opposite[side], a, b)
  return yes(beside(side, a, b))


def has_color(items, color):
  return any(item.color == color for item in items)


def has_shape(items, shape):
  return any(item.shape == shape for item in items)


def only(left, right, where, color):
  there = [has_color(items, color) for items in (left, right)]
  return str(there == [where == "left", where == "right"])


ANSWERS = {
  "color": lambda s, shape: one(i.color for i in s if i.shape == shape),
  "shape": lambda s, color: one(i.shape for i in s if i.color == color),
  "size": lambda s, color, shape: words.size(
    one(i for i in s if name(i) == f"{color} {shape}")
  ),
  "where": lambda s, color, shape: scenes.quadrant(
    one(i for i in s if name(i) == f"{color} {shape}")
  ),
  "open": lambda s: ", ".join(dict.fromkeys(i.shape for i in s)),
  "which": which,
  "exists": lambda s, color, shape: yes(
    f"{color} {shape}" in [name(i) for i in s]
  ),
  "side": side,
  "total": lambda s: str(len(s)),
  "count_color": lambda s, color: str(sum(i.color == color for i in s)),
  "count_shape": lambda s, shapes: str(
    sum(words.PLURALS[i.shape] == shapes for i in s)
  ),
  "more": lambda a, b, where: str((len(a) > len(b)) == (where == "left")),
  "both": lambda a, b, shape: str(has_shape(a, shape) and has_shape(b, shape)),
  "only": only,
}


def read(image):
  """Returns the text of an image in raster order, from its black dots."""
  dot = len(image) // scenes.STEP
  ink = nearest(image) == list(scenes.COLORS).index("black")
  found = []
  for y in range(0, len(image) - 5 * dot + 1, 2 * dot):
    line = ""
    for x in range(0, len(image) - 3 * dot + 1, 2 * dot):
      cut = ink[y : y + 5 * dot, x : x + 3 * dot]
      chars = (
        c for c in scenes.FONT if np.array_equal(cut, scenes.glyph(c, dot))
      )
      line += next(chars, "")
    found.append(line)
  return " ".join(filter(None, found))
