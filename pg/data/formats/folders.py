"""What the detection formats share: rows, boxes, numbers, splits.

A row of theirs has the image, `image_id`, `height` and `width`, and one item
per object in `boxes` ([y1, x1, y2, x2] as fractions of height and width) and
`labels` (str), as the ops of pp/objects.py want them.
"""

import math
import os

from pg.data.formats import rows
from pg.pp import image as image_ops

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Rows(rows.Rows):
  """The base of sources whose boxes are of an image of a certain size."""

  def _size(self, row, image):
    """Returns the annotated height and width, or those of the upright image.

    Raises:
      ValueError: what is annotated is neither that nor the size as it is
        stored: boxes are of another image.
    """
    said, found = (row["height"], row["width"]), image_ops.sizes(image)
    if None not in said and said not in found:
      raise ValueError(
        f"the image has height and width {found[1]}, and its annotation says"
        f" {said}; was it rotated or resized?"
      )
    return dict(zip(("height", "width"), found[1] if None in said else said))


def inside(folder, ends, *, deep=True):
  """Returns the paths of a folder's files, sorted, without hidden ones.

  Args:
    folder: str.
    ends: tuple of str, see `is_one`.
    deep: bool, also those of the folders in it.
  """
  found = []
  for parent, folders, names in os.walk(folder):
    folders[:] = [f for f in folders if deep and not f.startswith(".")]
    found += [os.path.join(parent, f) for f in names if is_one(f, ends)]
  return sorted(found)


def is_one(name, ends):
  """Says whether the name of a file ends in one of `ends`, and is not hidden.

  Beside x.jpg macOS writes ._x.jpg, which is no image. Case means nothing.
  """
  return name.lower().endswith(ends) and not name.startswith(".")


def box(corners, width=1, height=1, slack=0.01):
  """Returns [y1, x1, y2, x2] in 0..1 of x1, y1, x2, y2.

  Args:
    corners: numbers x1, y1, x2, y2; x2 and y2 are where the box ends.
    width: the image's, in the unit of the corners.
    height: the same.
    slack: how far a box may stick out, as rounding makes it; it is cut off.

  Raises:
    ValueError: not four numbers, outside of the image, or turned over.
  """
  corners = numbers(corners, 4)
  x1, y1, x2, y2 = corners
  if not (x1 <= x2 and y1 <= y2):
    raise ValueError(f"the box {corners} ends before it starts")
  inside = min(x1, y1) >= -slack
  if not (inside and x2 <= width + slack and y2 <= height + slack):
    raise ValueError(
      f"the box {corners} is not in the image, of width {width} and height"
      f" {height}"
    )
  fractions = (y1 / height, x1 / width, y2 / height, x2 / width)
  return [min(max(f, 0.0), 1.0) for f in fractions]


def numbers(values, num):
  """Returns values as a list of floats.

  Args:
    values: numbers, or texts of numbers.
    num: int, how many there should be.

  Raises:
    ValueError: there are more or fewer, or one is no finite number.
  """
  try:
    found = [float(value) for value in values]
  except (TypeError, ValueError, OverflowError):
    found = []
  if len(found) != num or not all(map(math.isfinite, found)):
    raise ValueError(f"wanted {num} numbers, got {str(values)[:80]}")
  return found


def positive(value):
  """Returns a height or width as int, None where there is none."""
  try:
    return int(value) if int(value) > 0 else None
  except (TypeError, ValueError, OverflowError):
    return None


def of_split(value, name):
  """Returns the value of a split, of a mapping or of what is for all."""
  return value[name] if hasattr(value, "items") else value
