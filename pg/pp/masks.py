"""Mask ops: polygons, run lengths or arrays -> the 16 codes of each object.

COCO outlines objects in two ways (https://cocodataset.org/#format-data):

  [[x, y, x, y, x, y, ...], ...]               polygons, together one object
  {"size": [height, width], "counts": [6, 1]}  run lengths, of a crowd

Run lengths go down one column after the other, outside first, and may be packed
into a text.
"""

import functools

import numpy as np

from pg import limits, pp
from pg.codecs import masks as masks_lib
from pg.pp import fields, objects
from pg.pp import image as image_ops


@pp.op
def encode_masks(example, codec: str = "nano", masks: str = "masks"):
  """Writes the codes of each object's mask inside its box, for `segment`.

    objects("random", max_objects=5) | encode_masks(masks="segmentation")
      | segment()

  Args:
    example: dict with "boxes" and the masks; where those are polygons also with
      "height" and "width", their pixels, or else the decoded "image".
    codec: path or URL of a mask codec, or "nano", the one that pg has.
    masks: the key of the masks: one bool[height, width] for each object, or
      what it can be made from (see `mask_of`). A single array is the mask of
      one object.

  Returns:
    codes: list of one list of 16 ints for each object.
    codec: that of the arguments, for the metrics of masks.

  Raises:
    ValueError: a key that is missing, not as many masks as boxes, something
      that is no mask, or a codec that cannot be read.
  """
  boxes, values = objects.boxes_of(example), pp.get(example, masks)
  if not isinstance(values, np.ndarray) or values.ndim != 2:
    values = fields.list_of(example, masks)
  else:
    values = [values]
  if len(values) != len(boxes):
    raise ValueError(f"{masks!r} has {len(values)} items, 'boxes' {len(boxes)}")
  crops = []
  for i, (value, box) in enumerate(zip(values, boxes)):
    try:
      crops.append(masks_lib.crop(mask_of(value, example), box))
    except ValueError as e:
      raise ValueError(f"{masks!r}, item {i}: {e}") from e
  crops = np.reshape(crops, (-1, masks_lib.SIDE, masks_lib.SIDE))
  codes = masks_lib.quantize(network(codec), crops).tolist()
  return {"codes": codes, "codec": codec}


@functools.lru_cache(maxsize=4)
def network(codec="nano"):
  """Reads the codec of a path or URL, or "nano", the one that pg has."""
  return masks_lib.load(masks_lib.NANO if codec == "nano" else codec)


def mask_of(value, example):
  """Returns the mask bool[height, width] of one object.

  Args:
    value: an array [height, width] or [height, width, 1], True or not 0 inside;
      bytes, such an image as PNG; a list, polygons; or a dict, run lengths.
    example: dict, asked for the image's size if it is polygons.

  Raises:
    ValueError: none of these.
  """
  if isinstance(value, dict):
    return run_lengths(value)
  if isinstance(value, list | tuple):
    return polygons(value, *_size(example))
  if isinstance(value, bytes):
    try:
      with image_ops.opening(value) as opened:
        value = np.asarray(opened)
    except (OSError, ValueError) as e:
      raise ValueError(f"cannot decode the image of a mask: {e}") from e
  array = np.asarray(value)
  if array.ndim == 3 and array.shape[2] == 1:
    array = array[..., 0]
  if array.ndim != 2 or array.dtype.kind not in "biu":
    raise ValueError(
      "wanted a mask as array [height, width] of bool or int, image, polygons"
      f" or run lengths; got {str(value)[:80]}"
    )
  return array != 0


def polygons(value, height, width):
  """Fills polygons: a pixel is inside where its middle is in one of them.

  Args:
    value: list of [x, y, x, y, ...], pixels from the top left corner.
    height: of the mask.
    width: the same.

  Returns:
    bool[height, width].

  Raises:
    ValueError: no polygon, or one that is not three points or more.
  """
  if not len(value):
    raise ValueError("the object has no polygon")
  return np.any([_fill(p, height, width) for p in value], axis=0)


def run_lengths(value):
  """Returns the mask bool[height, width] of {"size": ..., "counts": ...}.

  Counts are a list of ints, or the text (str or bytes) that COCO's own tools
  make of it: five bits to a character, and from the fourth number on the
  difference to the last but one.

  Raises:
    ValueError: no such dict, or counts that do not fill the mask.
  """
  size, counts = value.get("size"), value.get("counts")
  if isinstance(counts, str):
    counts = counts.encode()
  if isinstance(counts, bytes):
    counts = _unpack(counts)
  try:
    height, width = (int(side) for side in size)
    counts = np.asarray(counts, np.int64)
    image_ops.check_size(height, width)
    fits = (counts >= 0).all() and counts.sum() == height * width > 0
  except limits.Exceeded:
    raise
  except (TypeError, ValueError, OverflowError):
    fits = False
  if not fits or counts.ndim != 1:
    raise ValueError(
      'wanted {"size": [height, width], "counts": run lengths that sum up to'
      f" height * width}}; got {str(value)[:80]}"
    )
  inside = np.arange(len(counts)) % 2 == 1
  return np.repeat(inside, counts).reshape(width, height).T


def to_run_lengths(mask):
  """Returns {"size": [height, width], "counts": list of int} of a mask.

  It is what `run_lengths` reads: counts go down the columns, the first of them
  of pixels outside.
  """
  flat = np.ravel(mask, order="F")
  changes = np.flatnonzero(np.diff(flat, prepend=False))
  counts = np.diff([0, *changes, flat.size])
  return {"size": list(mask.shape), "counts": counts.tolist()}


def _fill(polygon, height, width):
  """Flips a row's pixels after each edge that crosses it: odd is inside."""
  try:
    points = np.asarray(polygon, np.float64)
  except (TypeError, ValueError):
    points = np.zeros(0)
  if points.ndim != 1 or len(points) < 6 or len(points) % 2:
    raise ValueError(
      "wanted a polygon [x, y, x, y, x, y, ...] of three points or more, got"
      f" {str(polygon)[:80]}"
    )
  if not np.isfinite(points).all():
    raise ValueError(f"a polygon has nan or infinity: {str(polygon)[:80]}")
  x, y = points.reshape(-1, 2).T
  dx, dy = np.roll(x, -1) - x, np.roll(y, -1) - y
  # The rows from `first` up to `last` have their middle within an edge.
  ends = np.clip([y, y + dy], 0, height)
  first, last = np.ceil(np.sort(ends, axis=0) - 0.5).astype(int)
  num = last - first
  image_ops.check_size(int(num.sum()), 1)  # of lines that go up and down, too
  edge = np.repeat(np.arange(len(x)), num)
  row = np.arange(num.sum()) + (first - np.cumsum(num) + num)[edge]
  cross = x[edge] + (row + 0.5 - y[edge]) * dx[edge] / dy[edge]
  column = np.ceil(np.clip(cross, 0, width) - 0.5).astype(int)
  flips = np.zeros((height, width + 1), np.uint8)
  np.bitwise_xor.at(flips, (row, column), 1)
  return np.bitwise_xor.accumulate(flips[:, :width], axis=1) == 1


def _unpack(text):
  """Returns the numbers in the bytes of COCO's run lengths."""
  counts, number, shift = [], 0, 0
  for char in text:
    bits = char - ord("0")
    if not 0 <= bits < 64:
      raise ValueError(f"counts have the character {chr(char)!r}")
    number |= (bits & 31) << shift
    shift += 5
    if bits & 32:  # it goes on
      continue
    if bits & 16:
      number -= 1 << shift
    counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    number = shift = 0
  return counts


def _size(example):
  """Returns the height and width that polygons are drawn on."""
  size = example.get("height"), example.get("width")
  image = example.get("image")
  if None in size and isinstance(image, np.ndarray) and image.ndim == 3:
    size = image.shape[:2]
  if not all(isinstance(s, int | np.integer) and s > 0 for s in size):
    raise ValueError(
      "polygons need the pixels of their image: 'height' and 'width' of the"
      f" example, got {size[0]!r} and {size[1]!r}"
    )
  image_ops.check_size(*map(int, size))
  return size
