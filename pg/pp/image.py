"""Image ops: encoded bytes -> u8[H, W, 3] of the model's size.

All of them take one image or a list of several under the key "image".
"""

import functools
import io
import typing

import numpy as np
import scipy.sparse
from PIL import Image

from pg import pp


@pp.op
def decode(example):
  """Decodes the image to RGB; one that is already an array stays as it is.

  Raises:
    ValueError: no image file that Pillow can read, or an array that is not
      u8[H, W, 3].
  """
  return {"image": _each(pp.get(example, "image"), to_rgb)}


@pp.op
def resize(example, size: int, flavour: typing.Literal["bv", "hf"] = "bv"):
  """Resizes the image to a square; the aspect ratio is not kept.

  Flavours, each as in the implementation whose numbers it reproduces:
    bv: bilinear with antialiasing in f32, then truncated to u8
      (google-research/big_vision, `resize(size, antialias=True)`).
    hf: bicubic on u8, rounded after each axis (Hugging Face transformers,
      `SiglipImageProcessorPil`).

  Args:
    example: dict with "image" u8[H, W, 3].
    size: pixels on a side.
    flavour: "bv" or "hf".

  Raises:
    ValueError: a size below 1, or an image that was not decoded.
  """
  if size < 1:
    raise ValueError(f"size must be at least 1 pixel, got {size}")
  one = FLAVOURS[flavour]
  images = pp.get(example, "image")
  return {"image": _each(images, lambda image: one(_checked(image), size))}


def to_rgb(image):
  """Returns an encoded image (or an array as it is) as u8[H, W, 3].

  An alpha channel is dropped, gray is repeated, 16 bits keep their high byte,
  and EXIF rotation is ignored, all as big_vision does. JPEG uses the accurate
  DCT, big_vision's `decode(precise=True)`; its default is the fast one, which
  differs by one level on average.

  Args:
    image: bytes of an image file, or u8[H, W, 3].

  Raises:
    ValueError: not an image.
  """
  if not isinstance(image, bytes):
    return _checked(image)
  try:
    with Image.open(io.BytesIO(image)) as opened:
      # Pillow would clip these to 255, so that nearly all of it is white.
      if opened.mode.startswith("I;16"):
        opened = Image.fromarray((np.array(opened) >> 8).astype(np.uint8))
      return np.array(opened.convert("RGB"))
  except Exception as e:  # Pillow's readers raise nearly anything on bad files.
    raise ValueError(
      f"cannot decode an image of {len(image)} bytes: {e}"
    ) from e


def resize_bv(image, size):
  """Resizes u8[H, W, 3] to u8[size, size, 3]: bilinear in f32, truncated.

  Keeps the reference's own order of f32 operations, because truncation turns
  rounding noise into whole levels: bit-exact on every golden image.
  """
  x = image.astype(np.float32)
  for _ in range(2):  # first the height, then the width
    length, other, _ = x.shape
    x = _triangle(length, size) @ x.reshape(length, -1)
    x = x.reshape(size, other, 3).transpose(1, 0, 2)
  return np.clip(x, 0, 255).astype(np.uint8, order="C")


@functools.lru_cache(maxsize=256)
def _triangle(num_in, num_out):
  """Returns the weights of an antialiased linear resize, f32[out, in] sparse.

  Each output is a mean of the inputs, weighted by a triangle around its centre
  that reaches one output step, or one input where it enlarges.
  """
  step = np.float32(1) / (np.float32(num_out) / np.float32(num_in))
  reach = np.maximum(step, np.float32(1))
  centres = (np.arange(num_out, dtype=np.float32) + np.float32(0.5)) * step
  inputs = np.arange(num_in, dtype=np.float32) + np.float32(0.5)
  distance = np.abs(inputs - centres[:, None]) * (1 / reach)
  weights = np.maximum(1 - distance, 0)
  # A sparse product adds up in order; np.sum would add pairwise.
  total = scipy.sparse.csr_array(weights) @ np.ones(num_in, np.float32)
  return scipy.sparse.csr_array(weights * (1 / total)[:, None])


def resize_hf(image, size):
  """Resizes u8[H, W, 3] to u8[size, size, 3]: bicubic on u8."""
  resized = Image.fromarray(image).resize(
    (size, size), Image.Resampling.BICUBIC
  )
  return np.array(resized)


FLAVOURS = {"bv": resize_bv, "hf": resize_hf}


def _each(images, function):
  """Applies `function` to one image or to each of a list of several."""
  if isinstance(images, list):
    return [function(image) for image in images]
  return function(images)


def _checked(image):
  """Returns `image` if it is u8[H, W, 3], else raises ValueError."""
  if isinstance(image, bytes):
    raise ValueError('the image is not decoded; put "decode |" before this op')
  if not (
    isinstance(image, np.ndarray)
    and image.dtype == np.uint8
    and image.ndim == 3
    and image.shape[-1] == 3
  ):
    what = type(image).__name__
    if isinstance(image, np.ndarray):
      what = f"{image.dtype}{list(image.shape)}"
    raise ValueError(f"an image should be bytes or u8[H, W, 3], but is {what}")
  return image
