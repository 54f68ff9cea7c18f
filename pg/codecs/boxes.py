"""Encodes boxes as `<loc0000>`..`<loc1023>` tokens, and decodes them.

A box is `(y1, x1, y2, x2)` as fractions of the image's height and width. Each
coordinate is one token, in that order: `round(x * 1023)`, read back as
`n / 1023`. Several objects are separated by " ; ":

  detect([(0, 0, 1, 1), (0, .25, .5, 1)], ["cat", "red car"]) ==
    "<loc0000><loc0000><loc1023><loc1023> cat ; "
    "<loc0000><loc0256><loc0512><loc1023> red car"

A segmented object has the 16 codes of its mask, `<seg000>`..`<seg127>`, right
after its locations: "<loc....>x4<seg...>x16 cat ; ..." (see masks.py for what
they mean).

The scale is that of google-research/big_vision (evaluators and data ops), which
made the released checkpoints; some demos divide by 1024.
"""

import re
from typing import NamedTuple

import numpy as np

_LOC = re.compile(r"<loc([0-9]{4})>")
_SEG = re.compile(r"<seg([0-9]{3})>")
# One object: a run of locations, and a name up to the next ";" or location.
_OBJECT = re.compile(
  r"((?:<loc[0-9]{4}>)+)((?:(?!;|<loc[0-9]{4}>).)*)", re.DOTALL
)
_CODES = re.compile(r"(?:<seg(?:0[0-9]{2}|1[01][0-9]|12[0-7])>){16}(?!<seg)")


class Object(NamedTuple):
  """One object that a text describes."""

  box: tuple  # y1 x1 y2 x2, floats in 0..1
  label: str
  codes: tuple = ()  # 16 ints in 0..127; none without a mask


def encode(box):
  """Returns one box as four location tokens, clipped to the image.

  Args:
    box: f32[4], y1 x1 y2 x2 in 0..1.

  Returns:
    str, such as "<loc0000><loc0256><loc0512><loc1023>".

  Raises:
    ValueError: not four finite numbers.
  """
  return _encode([box])[0]


def _encode(boxes):
  """Encodes several boxes together: one by one is seven times slower."""
  boxes = np.asarray(boxes, np.float64)
  if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
    raise ValueError(f"wanted a box of four numbers y1 x1 y2 x2, got {boxes}")
  # In f32 as the reference, or a product near a half could round elsewhere.
  bins = np.round(np.clip(boxes, 0, 1).astype(np.float32) * 1023).astype(int)
  return ["".join(f"<loc{i:04}>" for i in row) for row in bins.tolist()]


def encode_codes(codes):
  """Returns the 16 codes of a mask as segmentation tokens.

  Args:
    codes: 16 ints in 0..127.

  Returns:
    str, such as "<seg017><seg003>..." with 16 tokens.

  Raises:
    ValueError: not 16 such ints.
  """
  found = np.asarray(codes)
  if (
    found.shape != (16,)
    or found.dtype.kind not in "iu"
    or not ((0 <= found) & (found < 128)).all()
  ):
    raise ValueError(f"wanted 16 codes in 0..127, got {codes}")
  return "".join(f"<seg{i:03}>" for i in found.tolist())


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


def detect(boxes, labels, codes=None):
  """Returns the suffix that names several objects and their boxes.

  Args:
    boxes: f32[boxes, 4], y1 x1 y2 x2 in 0..1.
    labels: list of str, one per box; an empty one leaves the box alone.
    codes: i32[boxes, 16], the codes of their masks; None writes none.

  Raises:
    ValueError: not as many labels or codes as boxes, or a label that could not
      be read back because it has a ";" or a location or segmentation token.
  """
  return " ; ".join(parts(boxes, labels, codes))


def parts(boxes, labels, codes=None):
  """Returns the text of each object, the list that `detect` joins."""
  codes = [None] * len(boxes) if codes is None else codes
  for name, values in (("labels", labels), ("codes", codes)):
    if len(boxes) != len(values):
      raise ValueError(f"got {len(boxes)} boxes and {len(values)} {name}")
  return list(map(_write, _encode(boxes) if len(boxes) else (), labels, codes))


def check_label(label):
  """Raises ValueError for a label that could not be read back."""
  if ";" in label or _LOC.search(label) or _SEG.search(label):
    raise ValueError(
      f'label {label!r} has a ";" or <loc> or <seg>, which'
      " ends an object; replace it"
    )


def _write(place, label, codes):
  check_label(label)
  mask = "" if codes is None else encode_codes(codes)
  return f"{place}{mask} {label}".strip()


def read(text):
  """Reads objects from what a model wrote; never fails.

  An object is a run of exactly four locations and the name after it, up to a
  ";" or the next location:

    read("a <loc0000><loc0000><loc1023><loc1023> cat ; <loc0001> dog") ==
      ([Object((0.0, 0.0, 1.0, 1.0), "cat")], ["a", "<loc0001> dog"])

  Returns:
    objects: list of Object, boxes as written: y1 may exceed y2, `iou` then
      takes the box as empty. Codes are exactly 16 right after the box, fewer or
      more are part of the label.
    rest: list of str, each part of the text that is not an object.
  """
  objects, rest, end = [], [], 0
  for match in _OBJECT.finditer(text):
    rest.append(text[end : match.start()])
    end = match.end()
    try:
      box = decode(match[1])
    except ValueError:
      rest.append(match[0])
      continue
    run = _CODES.match(match[2])
    codes = tuple(map(int, _SEG.findall(run[0]))) if run else ()
    label = match[2][run.end() if run else 0 :].strip()
    objects.append(Object(tuple(box.tolist()), label, codes))
  rest.append(text[end:])
  rest = [part.strip() for gap in rest for part in gap.split(";")]
  return objects, [part for part in rest if part]


def raster(boxes):
  """Returns the raster order of boxes: line by line, left to right.

  Two boxes are on one line if the middle of each is between the upper and lower
  edge of the other.

  Args:
    boxes: f32[boxes, 4], y1 x1 y2 x2 in any one unit.

  Returns:
    i32[boxes], indices of the boxes.
  """
  boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
  middle = (boxes[:, 0] + boxes[:, 2]) / 2
  lines = []
  for i in np.argsort(middle, kind="stable"):
    first = lines[-1][0] if lines else i
    (top, _, bottom, _), (above, _, below, _) = boxes[i], boxes[first]
    if lines and above <= middle[i] <= below and top <= middle[first] <= bottom:
      lines[-1].append(i)
    else:
      lines.append([i])
  left = lambda i: (boxes[i, 1], i)
  return np.array([i for line in lines for i in sorted(line, key=left)], int)


def to_pixels(boxes, height, width):
  """Scales boxes f32[..., 4] from 0..1 to pixels, not rounded."""
  scale = np.array([height, width, height, width], np.float32)
  return np.asarray(boxes, np.float32) * scale


def from_pixels(boxes, height, width):
  """Scales boxes f32[..., 4] from pixels to 0..1."""
  scale = np.array([height, width, height, width], np.float32)
  return np.asarray(boxes, np.float32) / scale


def iou(a, b):
  """Returns intersection over union of every box of `a` with every one of `b`.

  Args:
    a: f32[len(a), 4], y1 x1 y2 x2 in any one unit.
    b: f32[len(b), 4], in the same unit.

  Returns:
    f32[len(a), len(b)] in 0..1; 0 where a box is empty (y1 >= y2 or x1 >= x2).
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
