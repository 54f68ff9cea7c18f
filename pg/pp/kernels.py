"""Resampling by other methods than bilinear with antialias.

In the f32 arithmetic of TensorFlow's `tf.image.resize`, step by step; see
resize.py for why.
"""

import numpy as np


def bilinear(image, shape):
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


# Method -> how far its kernel reaches, and the height at a distance.
KERNELS = {
  "bicubic": (2, _keys),
  "lanczos3": (3, _lanczos3),
  "mitchellcubic": (2, _mitchell),
}


def bicubic_table(num_in, num_out):
  """Returns weights and inputs, [out, 4] each, of bicubic without antialias.

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
  return weights * (1 / total), inputs


def area(num_in, num_out):
  """Returns how much of its inputs an output covers, and these, [out, taps]."""
  step = np.float32(num_in) / np.float32(num_out)
  start = np.arange(num_out, dtype=np.float32)[:, None] * step
  end = np.arange(1, num_out + 1, dtype=np.float32)[:, None] * step
  inputs = np.floor(start).astype(int) + np.arange(int(np.ceil(step)) + 1)
  x = inputs.astype(np.float32)
  first = np.where(x + 1 > end, step, x + 1 - start)
  weights = np.where(x < start, first, np.minimum(end - x, 1))
  return np.maximum(weights, 0), inputs
