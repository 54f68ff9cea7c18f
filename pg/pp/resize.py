"""Resizing of u8[H, W, 3].

An output is a weighted sum of inputs, along one axis and then the other, so a
resize is two sparse products. Weights, order and f32 arithmetic are those of
TensorFlow's `tf.image.resize`, because what follows in big_vision, a cast to
u8 that drops the fraction, turns rounding noise into whole levels.

What the published recipes say, which were evaluated as they were trained:

  no antialias     cococap coco35l textcaps gqa nlvr2 refcoco_seg scicap
                   screen2words science_qa pope, and all videos
  antialias        vqav2 okvqa aokvqa chartqa docvqa infovqa stvqa textvqa
                   ocrvqa tallyqa widgetcap forkme
  antialias only   ai2d vizwizvqa rsvqa_lr rsvqa_hr
  in training
"""

import functools
import typing

import numpy as np
import scipy.sparse
from PIL import Image

from pg import pp
from pg.pp import image as image_ops

METHODS = ("bilinear", "bicubic", "lanczos3", "area", "mitchellcubic")


@pp.op
def resize(
  example,
  size: int,
  flavour: typing.Literal["bv", "hf"] = "bv",
  antialias: bool = True,
):
  """Resizes the image to a square; the aspect ratio is not kept.

  Flavours, each as in the implementation whose numbers it reproduces:
    bv: bilinear in f32, then truncated to u8 (google-research/big_vision,
      `resize(size, antialias=...)`, whose own default is False).
    hf: bicubic on u8, rounded after each axis (Hugging Face transformers,
      `SiglipImageProcessorPil`), of `decode(precise=True)`.

  Args:
    example: dict with "image" u8[H, W, 3].
    size: pixels on a side.
    flavour: "bv" or "hf".
    antialias: of bv: average over all inputs that an output covers; False takes
      the four next to it, however far apart outputs are.

  Raises:
    ValueError: a size below 1, hf without antialias, or an image that was not
      decoded.
  """
  check_size(size)
  if flavour == "hf":
    if not antialias:
      raise ValueError('flavour="hf" always has antialias; leave it out')
    function = lambda image: resize_hf(image_ops.checked(image), size)
  else:
    function = lambda image: stretch(image, (size, size), antialias=antialias)
  return {"image": image_ops.each(pp.get(example, "image"), function)}


@pp.op
def resize_small(example, size: int):
  """Resizes the image so that its smaller side has `size` pixels.

  The aspect ratio is kept; the method is "area", as in big_vision.

  Raises:
    ValueError: a size below 1, or an image that was not decoded.
  """
  check_size(size)

  def function(image):
    sides = np.float32(image_ops.checked(image).shape[:2])
    shape = np.round(sides * (np.float32(size) / sides.min())).astype(int)
    return stretch(image, tuple(shape.tolist()), "area")

  return {"image": image_ops.each(pp.get(example, "image"), function)}


def stretch(image, shape, method="bilinear", *, antialias=True):
  """Resizes u8[H, W, 3] to u8[h, w, 3] as TensorFlow does, then truncates.

  Args:
    image: u8[H, W, 3].
    shape: (h, w).
    method: one of METHODS.
    antialias: widen the kernel when the image gets smaller; "area" always does.

  Raises:
    ValueError: not a decoded image.
  """
  (height, width, _), (h, w) = image_ops.checked(image).shape, shape
  if method == "bilinear" and not antialias:
    return _between(image, shape)
  if method == "area":
    return _covered(image, shape)
  if method == "bicubic" and not antialias:
    rows, columns = _four(height, h), _four(width, w)
  else:
    rows = _kernel(method, antialias, height, h)
    columns = _kernel(method, antialias, width, w)
  x = _products(image, rows, columns)
  if method != "bilinear":  # curves that go below 0 overshoot
    np.clip(x, 0, 255, out=x)
  return np.ascontiguousarray(x.astype(np.uint8).T).reshape(h, w, 3)


def resize_hf(image, size):
  """Resizes u8[H, W, 3] to u8[size, size, 3]: bicubic on u8."""
  resized = Image.fromarray(image).resize(
    (size, size), Image.Resampling.BICUBIC
  )
  return np.array(resized)


def check_size(size):
  """Raises ValueError for a size below one pixel."""
  if size < 1:
    raise ValueError(f"size must be at least 1 pixel, got {size}")


def _products(image, rows, columns):
  """Returns f32[w * 3, h], the products of rows and then of columns."""
  x = rows @ image.reshape(len(image), -1).astype(np.float32)
  # Sparse products run fast along memory: what they add up has to come first.
  x = columns @ np.ascontiguousarray(x.T).reshape(columns.shape[1], -1)
  return x.reshape(-1, rows.shape[0])


def _covered(image, shape):
  """Area: the mean over what an output covers, across and then down."""
  (height, width, _), (h, w) = image.shape, shape
  x = image.transpose(1, 0, 2)
  x = _products(x, _area(width, w), _area(height, h)).reshape(h, 3, w)
  x *= 1 / (np.float32(height) / h * (np.float32(width) / w))
  return np.ascontiguousarray(x.transpose(0, 2, 1).astype(np.uint8))


def _between(image, shape):
  """Bilinear without antialias: between the next pixels, across and then down.

  The reference takes a step from one pixel towards the other, which is exact
  where both are equal; a weighted sum is not, and would be truncated.
  """
  (top, bottom, dy), (left, right, dx) = map(_neighbours, image.shape, shape)
  # Of single values, not pixels: numpy is slow in moving three bytes at a time.
  left, right = (_values(i) for i in (left, right))
  out = np.empty((len(top), len(left)), np.uint8)
  # A few rows at a time, so that what is between stays in the cache.
  for i in range(0, len(top), 32):
    part = slice(i, i + 32)
    edges = []
    for rows in (top[part], bottom[part]):
      x = image[rows].reshape(len(rows), -1)
      start = np.take(x, left, axis=1).astype(np.float32)
      end = np.take(x, right, axis=1).astype(np.float32)
      edges.append(_step(start, end, np.repeat(dx, 3)))
    out[part] = _step(*edges, dy[part, None])
  return out.reshape(*shape, 3)


def _values(pixels):
  """Returns the indices of the three values of each pixel."""
  return (pixels[:, None] * 3 + np.arange(3)).ravel()


def _step(start, end, part):
  """Returns start + (end - start) * part, in the memory of `end`."""
  end -= start
  end *= part
  end += start
  return end


def _neighbours(num_in, num_out):
  """Returns the inputs before and after each output, and how far between."""
  at = _centres(num_in, num_out) - np.float32(0.5)
  before = np.floor(at)
  last = num_in - 1
  low, high = np.clip([before, before + 1], 0, last).astype(int)
  return low, high, at - before


def _centres(num_in, num_out):
  """Returns f32[out], the middles of the outputs in units of inputs."""
  step = np.float32(num_in) / np.float32(num_out)
  return (np.arange(num_out, dtype=np.float32) + np.float32(0.5)) * step


# Photos of one data set have a few hundred different sides.
@functools.lru_cache(maxsize=1024)
def _kernel(method, antialias, num_in, num_out):
  """Returns the weights of a resize by a kernel, f32[out, in] sparse.

  Each output is a mean of the inputs, weighted by a curve around its centre
  that reaches some output steps, or inputs where it enlarges.
  """
  radius, curve = _CURVES[method]
  step = np.float32(1) / (np.float32(num_out) / np.float32(num_in))
  scale = np.maximum(step, np.float32(1)) if antialias else np.float32(1)
  centres = np.arange(num_out, dtype=np.float32) + np.float32(0.5)
  centres *= step
  half = np.float32(0.5)
  first = np.ceil(centres - radius * scale - half).astype(int)
  last = np.floor(centres + radius * scale - half).astype(int)
  inputs = first[:, None] + np.arange((last - first).max() + 1)
  inside = (inputs <= last[:, None]) & (inputs >= 0) & (inputs < num_in)
  places = inputs.astype(np.float32) + half
  x = np.abs((places - centres[:, None]) * (np.float32(1) / scale))
  weights = np.where(inside, curve(x), np.float32(0))
  # Added up in order, as the reference does; np.sum would add pairwise.
  total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]
  return _sparse(weights * (1 / total), inputs, num_in)


def _triangle(x):
  return np.maximum(1 - x, np.float32(0))


def _keys(x):
  """Keys' cubic with a = -1/2."""
  near = ((1.5 * x - 2.5) * x) * x + 1
  far = ((-0.5 * x + 2.5) * x - 4) * x + 2
  return np.where(x < 1, near, np.where(x < 2, far, np.float32(0)))


def _mitchell(x):
  """The cubic of Mitchell and Netravali with B = C = 1/3."""
  near = (((7 / 6) * x - 2) * x) * x + 8 / 9
  far = (((-7 / 18) * x + 2) * x - 10 / 3) * x + 16 / 9
  return np.where(x < 1, near, np.where(x < 2, far, np.float32(0)))


def _lanczos3(x):
  return np.where(x <= 3, np.sinc(x) * np.sinc(x / 3), 0).astype(np.float32)


_CURVES = {
  "bilinear": (1, _triangle),
  "bicubic": (2, _keys),
  "lanczos3": (3, _lanczos3),
  "mitchellcubic": (2, _mitchell),
}


@functools.lru_cache(maxsize=256)
def _four(num_in, num_out):
  """Returns the weights of bicubic without antialias, f32[out, in] sparse.

  Of the four inputs around each output, with the distance rounded to 1/1024:
  the reference looks weights up in a table. Inputs beyond the edge drop out.
  """
  at = _centres(num_in, num_out) - np.float32(0.5)
  before = np.floor(at).astype(int)
  inputs = before[:, None] + np.arange(-1, 3)
  part = np.rint((at - before.astype(np.float32)) * 1024) / 1024
  weights = _keys(np.abs(part[:, None] - np.arange(-1, 3))).astype(np.float32)
  weights[(inputs < 0) | (inputs >= num_in)] = 0
  total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]
  return _sparse(weights * (1 / total), inputs, num_in)


@functools.lru_cache(maxsize=256)
def _area(num_in, num_out):
  """Returns how much of each input an output covers, f32[out, in] sparse."""
  step = np.float32(num_in) / np.float32(num_out)
  start = np.arange(num_out, dtype=np.float32)[:, None] * step
  end = np.arange(1, num_out + 1, dtype=np.float32)[:, None] * step
  inputs = np.floor(start).astype(int) + np.arange(int(np.ceil(step)) + 1)
  x = inputs.astype(np.float32)
  first = np.where(x + 1 > end, step, x + 1 - start)
  weights = np.where(x < start, first, np.minimum(end - x, 1))
  return _sparse(np.maximum(weights, 0), inputs, num_in)


def _sparse(weights, inputs, num_in):
  """Returns f32[out, in] sparse; weights and inputs are [out, K]."""
  kept = (weights != 0) & (inputs >= 0) & (inputs < num_in)
  starts = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32)
  parts = (weights[kept].astype(np.float32), inputs[kept].astype(np.int32))
  return scipy.sparse.csr_array((*parts, starts), (len(weights), num_in))
