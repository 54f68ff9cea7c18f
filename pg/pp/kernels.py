"""Resampling weights along one axis, f32[out, in] sparse.

In the f32 arithmetic of TensorFlow's `tf.image.resize`, step by step; see
resize.py for why.
"""

import functools

import numpy as np
import scipy.sparse


def neighbours(num_in, num_out):
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
def kernel_weights(method, antialias, num_in, num_out):
  """Returns the weights of a resize by a kernel, f32[out, in] sparse.

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
  return _sparse(weights * (1 / total), inputs, num_in)


@functools.lru_cache(maxsize=1024)
def chunks(function, *args):
  """Returns weights a few outputs at a time: what is between fits the cache.

  Returns:
    list of (slice of outputs, slice of the inputs they need, sparse weights).
  """
  whole, found = function(*args), []
  for i in range(0, whole.shape[0], 32):
    part = whole[i : i + 32]
    start, stop = part.indices.min(), part.indices.max() + 1
    found.append((slice(i, i + 32), slice(start, stop), part[:, start:stop]))
  return found


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


_KERNELS = {
  "bilinear": (1, _triangle),
  "bicubic": (2, _keys),
  "lanczos3": (3, _lanczos3),
  "mitchellcubic": (2, _mitchell),
}


@functools.lru_cache(maxsize=256)
def bicubic_table(num_in, num_out):
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
def area_weights(num_in, num_out):
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
  """Returns f32[out, in] sparse; weights and inputs are [out, taps]."""
  kept = (weights != 0) & (inputs >= 0) & (inputs < num_in)
  starts = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32)
  parts = (weights[kept].astype(np.float32), inputs[kept].astype(np.int32))
  return scipy.sparse.csr_array((*parts, starts), (len(weights), num_in))
