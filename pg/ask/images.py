"""Images of a question: read, and seen as a model sees them."""

import os

import numpy as np
from PIL import Image, ImageOps

from pg import limits, pp
from pg.data.storage import files
from pg.pp import image as image_ops
from pg.pp import parse
from pg.pp import resize as resize_ops


def split(text):
  """Returns the ops of a pipeline that make an image, and then a square."""
  (ops,) = parse.build(text).args
  num_first = len(ops) - int(ops[-1].function is resize_ops.resize)
  return ops[:num_first], ops[num_first:]


def look(images, steps, res, urls=False):
  """Looks at the images of one example, as a model sees them.

  Args:
    images: an image, a list of several, None, or a function that returns them.
    steps: of `split`.
    res: int, R, pixels per side of a square.
    urls: bool, whether an image may be a URL.

  Returns:
    u8[M, R, R, 3], and a list of u8[height, width, 3] before they were squares.

  Raises:
    ValueError, OSError: an image that cannot be used; it is named.
  """
  images = images() if callable(images) else images
  if images is None:
    images = []
  elif not isinstance(images, list | tuple):
    images = [images]
  (first, last), shown, squares = steps, [], []
  for image in images:
    try:
      data = read(image, urls=urls)
      example = pp.run(first, {"image": data}, pp.Turn())
      shown.append(image_ops.checked(example["image"]))
      squares.append(pp.run(last, example, pp.Turn())["image"])
    except ValueError as error:
      name = str(image) if isinstance(image, str | os.PathLike) else ""
      name = "" if name in str(error) else f"{name}: "
      raise ValueError(f"{name}{error}") from error
  return np.array(squares, np.uint8).reshape(-1, res, res, 3), shown


def read(image, *, urls=False):
  """Returns an image as bytes of a file or u8[height, width, 3].

  Raises:
    ValueError, OSError: a path or URL where no image is, or a URL where none
      is allowed.
  """
  if isinstance(image, Image.Image):
    return image_ops.pixels(ImageOps.exif_transpose(image))
  if not isinstance(image, str | os.PathLike):
    return image
  name = os.fspath(image)
  if "://" in name and not urls:
    raise ValueError(f"{name}: URLs are not read; load with urls=True")
  return files.read(name, "") if "://" in name else limits.read(name)
