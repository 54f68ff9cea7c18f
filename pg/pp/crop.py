"""Crops and flips of images, which can move the boxes of objects along.

Several images of an example (frames of a video, above all) get the same random
numbers: images of one size are cut alike, others at the corresponding place.

Each op has an argument `boxes`. True moves "boxes" with the image. False leaves
them as they are. Without it an example that has boxes is refused, for they
would no longer be where the objects are. What objects have besides (masks and
their codes) cannot be moved. An object goes if less than the part `visible` of
its box is in a crop.
"""

import functools

import numpy as np

from pg import pp
from pg.pp import image as image_ops
from pg.pp import objects

# They say where an object is, as "boxes" does.
PLACES = ("codes", "masks", "segmentation")


@pp.op
def random_crop(
  example,
  size: int,
  boxes: bool | None = None,
  visible: int | float = 0.25,
  *,
  rng,
):
  """Cuts a square out at random, of `size` pixels on a side.

  The recipe for COCO captions has "rc": `resize_small(256) | random_crop(224)`.
  """
  window = functools.partial(_square, size=size)
  return _cut(example, window, boxes, visible, rng)


@pp.op
def central_crop(
  example, size: int, boxes: bool | None = None, visible: int | float = 0.25
):
  """Cuts the square in the middle out, as `random_crop` one at random."""
  window = lambda shape, rng: _square(shape, None, size)
  return _cut(example, window, boxes, visible, None)


@pp.op
def inception_crop(
  example,
  area_min: int | float = 5,
  area_max: int | float = 100,
  boxes: bool | None = None,
  visible: int | float = 0.25,
  *,
  rng,
):
  """Cuts a part of random size, shape and place out of the image.

  Its width is 3/4 to 4/3 of its height. As in `tf.image.
  sample_distorted_bounding_box` the shape is drawn first, and then a height of
  those that have an area between the limits. An image that no such part fits
  into stays whole. To be resized afterwards: the recipe for COCO captions has
  "ic": `inception_crop(50) | resize(224)`. For pre-training the paper says
  "very slight" and no number; 90 or 95 is.

  Args:
    area_min: percent of the image that the part has at least.
    area_max: and at most.
  """
  if not 0 < area_min <= area_max <= 100:
    raise ValueError(
      "wanted 0 < area_min <= area_max <= 100 percent, got"
      f" area_min={area_min}, area_max={area_max}"
    )
  window = functools.partial(_part, areas=(area_min / 100, area_max / 100))
  return _cut(example, window, boxes, visible, rng)


@pp.op
def random_flip(
  example, p: int | float = 0.5, boxes: bool | None = None, *, rng
):
  """Swaps left and right with probability `p`.

  Texts stay: no task that says "left" or reads writing can use it. No published
  recipe does.
  """
  if not 0 <= p <= 1:
    raise ValueError(f"p should be a probability, 0 to 1, got {p}")
  images = image_ops.each(pp.get(example, "image"), image_ops.checked)
  moved = _boxes(example, boxes)
  if rng.random() >= p:
    return {}
  mirror = lambda image: np.ascontiguousarray(image[:, ::-1])
  updates = {"image": image_ops.each(images, mirror)}
  if moved is not None:
    y1, x1, y2, x2 = moved.T
    updates["boxes"] = np.stack([y1, 1 - x2, y2, 1 - x1], axis=1)
  return updates


def move(boxes, window, visible):
  """Returns boxes of an image as those of a part of it, and which remain.

  Args:
    boxes: f64[boxes, 4], y1 x1 y2 x2 as fractions of the image.
    window: (y1, x1, y2, x2) of the part, as fractions of the image.
    visible: part of its area that an object needs inside to remain.

  Returns:
    f64[boxes, 4] as fractions of the part, cut off at its edges, and
    bool[boxes].
  """
  low, high = np.split(np.asarray(window, np.float64), 2)
  corners = (boxes.reshape(-1, 2, 2) - low) / (high - low)
  inside = np.clip(corners, 0, 1)
  # A side of length 0 is inside or not; there is no part of it.
  sides, whole = np.diff([inside, corners], axis=2)[:, :, 0]
  centre = corners.mean(axis=1)
  parts = np.where(
    whole > 0,
    sides / np.where(whole > 0, whole, 1),
    (centre >= 0) & (centre <= 1),
  )
  return inside.reshape(-1, 4), parts.prod(axis=1) >= max(visible, 1e-9)


def _cut(example, window, boxes, visible, rng):
  """Cuts `window(shape, rng) -> y, x, height, width` out of each image."""
  if not 0 <= visible <= 1:
    raise ValueError(f"visible should be a part, 0 to 1, got {visible}")
  images = image_ops.each(pp.get(example, "image"), image_ops.checked)
  moved = _boxes(example, boxes)
  seed = None if rng is None else rng.integers(2**63)

  def where(image):
    same = None if rng is None else np.random.default_rng(seed)
    return window(image.shape[:2], same)

  def cut(image):
    y, x, height, width = where(image)
    return np.ascontiguousarray(image[y : y + height, x : x + width])

  updates = {"image": image_ops.each(images, cut)}
  if moved is not None:
    y, x, height, width = where(images)
    edges = np.array([y, x, y + height, x + width])
    edges = edges / np.tile(images.shape[:2], 2)
    inside, kept = move(moved, edges, visible)
    kept = np.flatnonzero(kept)
    moved_example = {**example, "boxes": inside}
    updates |= objects.take(moved_example, kept, objects.PARALLEL)
  return updates


def _boxes(example, boxes):
  """Returns the boxes to move, or None; see the top of this file."""
  if boxes is None and "boxes" in example:
    raise ValueError(
      "the example has boxes, and this op moves what they are around; say"
      " boxes=True to move them too, or boxes=False to leave them as they are"
    )
  if not boxes:
    return None
  for key in PLACES:
    if key in example:
      raise ValueError(
        f"boxes can be moved but {key!r} cannot; put drop({key!r}) before this"
        " op, or make what needs it first"
      )
  image_ops.one(example)
  return objects.boxes_of(example)


def _square(shape, rng, size):
  """Returns the window of a square, at random or in the middle."""
  if not 1 <= size <= min(shape):
    height, width = shape
    raise ValueError(
      f"size should be at least 1 and at most the {height} x {width} pixels of"
      f" the image, got {size}; resize it first"
    )
  spare = np.subtract(shape, size)
  if rng is None:
    y, x = spare // 2
  else:
    y, x = np.floor(rng.random(2) * (spare + 1)).astype(int)
  return y, x, size, size


def _part(shape, rng, areas):
  """Returns the window of `inception_crop`."""
  height, width = shape
  low, high = np.multiply(areas, height * width)
  for _ in range(100):  # as often as the reference
    ratio = rng.uniform(3 / 4, 4 / 3)
    lowest, highest = np.sqrt(np.divide((low, high), ratio))
    highest = min(highest, height, width / ratio)
    h = round(rng.uniform(min(lowest, highest), highest))
    w = round(h * ratio)
    y, x = rng.random(2)
    if 0 < h <= height and 0 < w <= width and low <= h * w <= high:
      return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
  return 0, 0, height, width
