"""Boxes <-> `<loc0000>`..`<loc1023>`, the text a detector reads and writes.

A box is `(y1, x1, y2, x2)` as fractions of the image's height and width. Each
coordinate is one token, in that order: `round(x * 1023)`, read back as
`n / 1023`. Several objects are separated by " ; ":

  detect([(0, 0, 1, 1), (0, .25, .5, 1)], ["cat", "red car"]) ==
    "<loc0000><loc0000><loc1023><loc1023> cat ; "
    "<loc0000><loc0256><loc0512><loc1023> red car"

The scale is that of google-research/big_vision (evaluators and data ops), which
made the released checkpoints; some demos divide by 1024.
"""

import re

import numpy as np

_LOC = re.compile(r"<loc([0-9]{4})>")
# One object: a run of locations, and a name up to the next ";" or location.
_OBJECT = re.compile(
  r"((?:<loc[0-9]{4}>)+)((?:(?!;|<loc[0-9]{4}>).)*)", re.DOTALL
)


def encode(box):
  """Returns one box as four location tokens, clipped to the image.

  Args:
    box: f32[4], y1 x1 y2 x2 in 0..1.

  Returns:
    str, such as "<loc0000><loc0256><loc0512><loc1023>".

  Raises:
    ValueError: not four finite numbers.
  """
  box = np.asarray(box, np.float64)
  if box.shape != (4,) or not np.isfinite(box).all():
    raise ValueError(f"wanted a box of four numbers y1 x1 y2 x2, got {box}")
  bins = np.clip(np.round(box * 1023), 0, 1023).astype(int)
  return "".join(f"<loc{i:04}>" for i in bins)


def decode(text):
  """Returns the box of text that begins with exactly four location tokens.

  Returns:
    f32[4], y1 x1 y2 x2 in 0..1.

  Raises:
    ValueError: more or fewer tokens, or one above `<loc1023>`.
  """
  run = re.match(r"(?:<loc[0-9]{4}>)*", text)[0]
  bins = [int(i) for i in _LOC.findall(run)]
  if len(bins) != 4 or max(bins) > 1023:
    raise ValueError(
      f"wanted four of <loc0000>..<loc1023> at the start of {text[:60]!r}"
    )
  return np.array(bins, np.float32) / np.float32(1023)


def detect(boxes, labels):
  """Returns the suffix that names several objects and their boxes.

  Args:
    boxes: f32[N, 4], y1 x1 y2 x2 in 0..1.
    labels: N strings; an empty one leaves the box alone.

  Raises:
    ValueError: not as many labels as boxes, or a label that could not be read
      back because it has a ";" or a location token.
  """
  if len(boxes) != len(labels):
    raise ValueError(f"got {len(boxes)} boxes and {len(labels)} labels")
  for label in labels:
    if ";" in label or _LOC.search(label):
      raise ValueError(
        f'label {label!r} has a ";" or <loc>, which ends an object; replace it'
      )
  objects = (f"{encode(b)} {n}".strip() for b, n in zip(boxes, labels))
  return " ; ".join(objects)


def parse(text):
  """Reads objects from what a model wrote; never fails.

  An object is a run of exactly four locations and the name after it, up to a
  ";" or the next location:

    parse("a <loc0000><loc0000><loc1023><loc1023> cat ; <loc0001> dog") ==
      ([((0.0, 0.0, 1.0, 1.0), "cat")], ["a", "<loc0001> dog"])

  Returns:
    objects: list of ((y1, x1, y2, x2), label), floats in 0..1 as written: y1
      may exceed y2, `iou` then takes the box as empty.
    rest: list of str, each part of the text that is not an object.
  """
  objects, rest, end = [], [], 0
  for match in _OBJECT.finditer(text):
    rest.append(text[end : match.start()])
    end = match.end()
    try:
      box = decode(match[1])
      objects.append((tuple(box.tolist()), match[2].strip()))
    except ValueError:
      rest.append(match[0])
  rest.append(text[end:])
  rest = [part.strip() for gap in rest for part in gap.split(";")]
  return objects, [part for part in rest if part]


def to_pixels(boxes, height, width):
  """Scales f32[N, 4] boxes (or one f32[4]) from 0..1 to pixels, not rounded."""
  scale = np.array([height, width, height, width], np.float32)
  return np.asarray(boxes, np.float32) * scale


def from_pixels(boxes, height, width):
  """Scales f32[N, 4] boxes (or one f32[4]) from pixels to 0..1."""
  scale = np.array([height, width, height, width], np.float32)
  return np.asarray(boxes, np.float32) / scale


def iou(a, b):
  """Returns intersection over union of every box of `a` with every one of `b`.

  Args:
    a: f32[N, 4], y1 x1 y2 x2 in any one unit.
    b: f32[M, 4], in the same unit.

  Returns:
    f32[N, M] in 0..1; 0 where a box is empty (y1 >= y2 or x1 >= x2).
  """
  a = np.asarray(a, np.float32).reshape(-1, 1, 4)
  b = np.asarray(b, np.float32).reshape(1, -1, 4)
  low, high = (
    np.maximum(a[..., :2], b[..., :2]),
    np.minimum(a[..., 2:], b[..., 2:]),
  )
  shared = _area(low, high)
  union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _area(low, high):
  return np.prod(np.maximum(high - low, 0), axis=-1)
