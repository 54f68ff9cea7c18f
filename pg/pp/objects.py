"""Ops that select and order objects of an image, and checks of their boxes.

An example has one item per object in each of several lists: "boxes" (y1 x1 y2
x2 as fractions of height and width), "labels" (str), where there are masks
"codes" (16 ints, see codecs/masks.py), and what the source adds.
"""

import typing

import numpy as np

from pg import pp
from pg.codecs import boxes as boxes_lib
from pg.pp import fields

# Lists with one item per object; those that an example lacks do not matter.
PARALLEL = ("labels", "codes", "texts", "iscrowd", "area")
PARALLEL += ("segmentation", "masks")


@pp.op
def objects(
  example,
  order: typing.Literal["given", "random", "raster", "left", "area"] = "given",
  max_objects: int | None = None,
  crowd: bool = True,
  keys: list = PARALLEL,
  *,
  rng,
):
  """Orders objects and leaves some out, in all lists of the example.

  Args:
    example: dict with "boxes", with "iscrowd" (0 or 1) for crowd=False.
    order: "given"; "random"; "raster": line by line, see `boxes.raster`;
      "left": from left to right by their middle; "area": largest box first.
    max_objects: how many remain: the first of that order.
    crowd: False leaves out boxes around a crowd, as COCO has some.
    keys: the lists besides "boxes", as far as the example has them.
    rng: the random order.
  """
  check_counts(max_objects=max_objects)
  boxes = boxes_of(example)
  kept = _order(boxes, order, rng)
  if not crowd:
    crowds = crowds_of(example)
    kept = [i for i in kept if not crowds[i]]
  return take(example, kept[:max_objects], keys)


@pp.op
def classes(
  example,
  present: int | None = None,
  absent: int = 0,
  names: str | list = (),
  out: str = "classes",
  keys: list = PARALLEL,
  *,
  rng,
):
  """Chooses the classes to ask for, in random order, for `detect(classes=...)`.

  Args:
    example: dict with "boxes" and "labels".
    present: how many of the image's classes, drawn at random; the objects of
      the others are left out. None is all.
    absent: how many that the image lacks, as far as there are any; they get no
      box, so that a model learns to leave out what it does not see.
    names: all classes: a list, or the key of one. Objects that nobody has
      labelled are no negatives: where a dataset says which classes were
      checked, name that list.
    out: the key of the chosen classes.
    keys: as in `objects`.
    rng: the choice.
  """
  check_counts(present=present, absent=absent)
  labels, names = labels_of(example), fields.texts_in(example, names)
  there = list(dict.fromkeys(labels))
  asked = [there[i] for i in rng.permutation(len(there))[:present]]
  lacking = sorted(set(names) - set(there))
  extra = [lacking[i] for i in rng.permutation(len(lacking))[:absent]]
  asked_set, both = set(asked), asked + extra
  kept = [i for i, label in enumerate(labels) if label in asked_set]
  shuffled = [both[i] for i in rng.permutation(len(both))]
  return {**take(example, kept, keys), out: shuffled}


def boxes_of(example):
  """Returns the boxes of an example, f64[boxes, 4], y1 x1 y2 x2 in 0..1.

  Raises:
    ValueError: no "boxes", not that shape, a box outside of the image by more
      than rounding, or one that is turned over.
  """
  return checked(fields.list_of(example, "boxes"), "boxes")


def labels_of(example):
  """Returns the labels of an example, one per box.

  Raises:
    ValueError: no "labels", not a list of texts, an empty one, or not as many
      as there are boxes.
  """
  labels = names_of(example, "labels")
  _as_many(boxes_of(example), labels, "labels")
  return labels


def crowds_of(example):
  """Returns which boxes are around a crowd, a list of 0 and 1.

  Raises:
    ValueError: no "iscrowd", not as long as "boxes", or something else in it
      than 0, 1 and None, which is 0.
  """
  values = fields.list_of(example, "iscrowd")
  _as_many(boxes_of(example), values, "iscrowd")
  return [flag(value, "iscrowd") for value in values]


def flag(value, key):
  """Returns 0 or 1, 0 for None; or raises ValueError."""
  number = isinstance(value, int | float | np.generic | None)
  if not number or value not in (0, 1, None):
    raise ValueError(f"{key!r} should be 0 and 1, but is {str(value)[:80]!r}")
  return int(value or 0)


def areas_of(example):
  """Returns the areas in pixels that are annotated, None for those that aren't.

  Raises:
    ValueError: "area" is not as long as "boxes", or has something else in it
      than numbers from 0 on and None.
  """
  boxes = boxes_of(example)
  if example.get("area") is None:
    return [None] * len(boxes)
  values = fields.list_of(example, "area")
  _as_many(boxes, values, "area")
  return [area(value) for value in values]


def area(value):
  """Returns an annotated area as float, None for None; or raises ValueError."""
  if value is None:
    return None
  try:
    found = float(value)
  except (TypeError, ValueError, OverflowError):
    found = -1.0
  if not 0 <= found < np.inf:
    raise ValueError(f"'area' should be pixels, but is {str(value)[:80]!r}")
  return found


def names_of(example, key):
  """Returns the names in a list, none of them empty or with a separator."""
  names = [name.strip() for name in fields.texts_of(example, key)]
  if "" in names:
    raise ValueError(f"{key!r} has an empty name, item {names.index('')}")
  for name in names:
    boxes_lib.check_label(name)
  return names


def check_counts(**counts):
  """Raises ValueError for a count below 0; None is no limit."""
  for name, count in counts.items():
    if count is not None and count < 0:
      raise ValueError(f"{name} should be at least 0, got {count}")


def checked(value, key):
  """Returns a list of boxes as f64[boxes, 4], or raises ValueError."""
  boxes = np.asarray(value) if len(value) else np.zeros((0, 4))
  if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf":
    raise ValueError(
      f"{key!r} should be boxes of four numbers y1 x1 y2 x2, but is"
      f" {str(value)[:80]}"
    )
  boxes = boxes.astype(np.float64)
  # Written so that NaN is refused too.
  wrong = ~((boxes >= -0.01) & (boxes <= 1.01)).all(axis=1)
  wrong |= (boxes[:, :2] > boxes[:, 2:]).any(axis=1)
  if wrong.any():
    i = int(np.argmax(wrong))
    raise ValueError(
      f"{key!r} should be y1 <= y2, x1 <= x2 as fractions of height and width,"
      f" but item {i} is {boxes[i].tolist()}"
    )
  return boxes


def take(example, indices, keys):
  """Returns "boxes" and the lists of `keys` with only the items `indices`."""
  boxes = boxes_of(example)
  taken = {}
  for key in ["boxes", *(key for key in fields.names(keys) if key in example)]:
    values = fields.list_of(example, key)
    _as_many(boxes, values, key)
    if isinstance(values, np.ndarray):
      taken[key] = values[np.asarray(indices, int)]
    else:
      taken[key] = [values[i] for i in indices]
  return taken


def _as_many(boxes, values, key):
  if len(values) != len(boxes):
    raise ValueError(
      f"{key!r} has {len(values)} items and 'boxes' {len(boxes)}"
    )


def _order(boxes, order, rng):
  if order == "random":
    return rng.permutation(len(boxes))
  if order == "raster":
    return boxes_lib.raster(boxes)
  y1, x1, y2, x2 = boxes.T
  value = {"given": 0 * x1, "left": x1 + x2, "area": (y1 - y2) * (x2 - x1)}
  return np.argsort(value[order], kind="stable")
