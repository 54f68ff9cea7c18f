"""Resizes images u8[height, width, 3] as TensorFlow or Pillow does.

An output is a weighted sum of inputs, along one axis and then the other, so a
resize is two sparse products. Weights, order and f32 arithmetic are those of
TensorFlow's `tf.image.resize`, because what follows in big_vision, a cast to
u8 that drops the fraction, turns rounding noise into whole levels. Bilinear
with antialias, the default, is here; kernels.py has what other methods need.

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
from pg.pp import kernels

METHODS = ("bilinear", "bicubic", "lanczos3", "area", "mitchellcubic")
METHOD_OF = dict(bv="bilinear", hf="bicubic")  # flavour -> its own method
_PILLOW = dict(
  bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC
)


@pp.op
def resize(
  example,
  size: int,
  flavour: typing.Literal["bv", "hf"] = "bv",
  antialias: bool = True,
  method: typing.Literal[METHODS] | None = None,
):
  """Resizes the image to a square; the aspect ratio is not kept.

  Flavours, each as in the implementation whose numbers it reproduces:
    bv: bilinear in f32, then truncated to u8 (google-research/big_vision,
      `resize(size, method, antialias)`, where antialias is False by default).
    hf: bicubic on u8, rounded after each axis (Hugging Face transformers,
      `SiglipImageProcessorPil`), of `decode(precise=True)`.

  Args:
    size: pixels on a side.
    antialias: of bv: average over all inputs that an output covers; False takes
      the four next to it, however far apart outputs are.
    method: of METHODS, hf has the first two; None is the flavour's own.
  """
  check_size(size)
  method = method or METHOD_OF[flavour]
  if flavour == "hf":
    if not antialias:
      raise ValueError('flavour="hf" always has antialias; leave it out')
    if method not in _PILLOW:
      raise ValueError(
        f'flavour="hf" is {" or ".join(_PILLOW)}, got method={method!r}'
      )
    function = lambda image: resize_hf(image_ops.checked(image), size, method)
  else:
    function = lambda image: stretch(
      image, (size, size), method, antialias=antialias
    )
  return {"image": image_ops.each(pp.get(example, "image"), function)}


@pp.op
def resize_small(example, size: int):
  """Resizes the image so that its smaller side has `size` pixels.

  The aspect ratio is kept; the method is "area", as in big_vision.
  """
  check_size(size)

  def function(image):
    sides = np.float32(image_ops.checked(image).shape[:2])
    shape = np.round(sides * (np.float32(size) / sides.min())).astype(int)
    return stretch(image, tuple(shape.tolist()), "area")

  return {"image": image_ops.each(pp.get(example, "image"), function)}


def stretch(image, shape, method="bilinear", *, antialias=True):
  """Resizes an image as TensorFlow does, then truncates.

  Args:
    image: u8[height, width, 3].
    shape: (h, w).
    method: one of METHODS.
    antialias: widen the kernel when the image gets smaller; "area" always does.
  """
  (height, width, _), (h, w) = image_ops.checked(image).shape, shape
  if method == "bilinear" and (height, width) == (h, w):
    return image  # all weights are 1 and 0
  if method == "bilinear" and not antialias:
    return kernels.bilinear(image, shape)
  if method == "area":
    return _area(image, shape)
  columns = _weights(method, antialias, width, w)
  out = np.empty((h, w * 3), np.uint8)
  for to, of, rows in _chunks(method, antialias, height, h):
    x = _products(image[of], rows, columns)
    if method != "bilinear":  # curves that go below 0 overshoot
      np.clip(x, 0, 255, out=x)
    out[to] = x.astype(np.uint8).T
  return out.reshape(h, w, 3)


# Photos of one data set have a few hundred different sides.
@functools.lru_cache(maxsize=1024)
def _weights(method, antialias, num_in, num_out):
  """Returns the weights of a resize along one axis, f32[out, in] sparse."""
  if method == "area":
    weights, inputs = kernels.area(num_in, num_out)
  elif method == "bicubic" and not antialias:
    weights, inputs = kernels.bicubic_table(num_in, num_out)
  else:
    weights, inputs = _kernel(method, antialias, num_in, num_out)
  kept = (weights != 0) & (inputs >= 0) & (inputs < num_in)
  starts = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32)
  parts = (weights[kept].astype(np.float32), inputs[kept].astype(np.int32))
  return scipy.sparse.csr_array((*parts, starts), (num_out, num_in))


@functools.lru_cache(maxsize=1024)
def _chunks(*args):
  """Returns weights a few outputs at a time: what is between fits the cache.

  Returns:
    list of (slice of outputs, slice of the inputs they need, sparse weights).
  """
  whole, found = _weights(*args), []
  for i in range(0, whole.shape[0], 32):
    part = whole[i : i + 32]
    start, stop = part.indices.min(), part.indices.max() + 1
    found.append((slice(i, i + 32), slice(start, stop), part[:, start:stop]))
  return found


def _kernel(method, antialias, num_in, num_out):
  """Returns the weights and inputs of a resize by a kernel, [out, taps] each.

  Each output is a mean of the inputs, weighted by a curve around its centre
  that reaches some output steps, or inputs where it enlarges.
  """
  radius, height = _KERNELS[method]
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
  weights = np.where(inside, height(x), np.float32(0))
  # Added up in order, as the reference does; np.sum would add pairwise.
  total = np.cumsum(weights, axis=1, dtype=np.float32)[:, -1:]
  return weights * (1 / total), inputs


def _triangle(x):
  return np.maximum(1 - x, np.float32(0))


# Method -> how far a kernel reaches, and its height at a distance.
_KERNELS = {"bilinear": (1, _triangle), **kernels.KERNELS}


def resize_hf(image, size, method):
  """Resizes u8[height, width, 3] to u8[size, size, 3] on u8, as Pillow does."""
  return np.array(Image.fromarray(image).resize((size, size), _PILLOW[method]))


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


def _area(image, shape):
  """Area: the mean over what an output covers, across and then down."""
  (height, width, _), (h, w) = image.shape, shape
  x = image.transpose(1, 0, 2)
  columns = _weights("area", True, width, w)
  rows = _weights("area", True, height, h)
  x = _products(x, columns, rows).reshape(h, 3, w)
  x *= 1 / (np.float32(height) / h * (np.float32(width) / w))
  return np.ascontiguousarray(x.transpose(0, 2, 1).astype(np.uint8))
