"""Encodes masks as 16 codes, `<seg000>`..`<seg127>`: a VQ-VAE in numpy.

  codec = masks.load(masks.NANO)
  codes = masks.encode(codec, mask, box)                  # 16 ints in 0..127
  again = masks.paste(masks.decode(codec, codes), box, *mask.shape)

An object's mask is cut out along its box, resized to 64 x 64 and made smaller
by four strided convolutions to 4 x 4 vectors, row by row. Each becomes the
number of the nearest of 128 vectors. Back the same way, with transposed
convolutions.

The released weights are in gs://big_vision/paligemma/vae-oid.npz, see
mask_tensors.py. NANO is a codec of our own with fewer channels, made by
scripts/train_mask_codec.py; its codes mean something else.
"""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image

from pg.codecs import boxes, mask_tensors

NANO = os.path.join(os.path.dirname(__file__), "masks_nano.npz")

NUM_CODES = mask_tensors.NUM_CODES
SIDE = 64  # pixels of a mask on its way in and out
GRID = 4  # codes on a side
# Masks that go through the network at once, of a megabyte or two each.
_CHUNK = 64


_UP = ("decoder.4", "decoder.6", "decoder.8", "decoder.10")  # see _upsample


class Codec(NamedTuple):
  """The weights of the VQ-VAE, as matrices."""

  # Name such as "encoder.0" -> f32[inputs, outputs] and f32[1, 1, 1, outputs].
  layers: dict
  codebook: np.ndarray  # f32[128, D]


def load(path):
  """Loads a codec from an `.npz`.

  Args:
    path: str, an `.npz` or its URL.

  Raises:
    ValueError: it cannot be read, or its tensors are not those of
      mask_tensors.py; all that are not are listed.
  """
  path = os.fspath(path)
  return build(mask_tensors.read(path), path)


def build(tensors, name="the mask codec"):
  """Returns the codec of {name: array}, of any floating dtype.

  Raises:
    ValueError: as in `load`; it begins with `name`.
  """
  mask_tensors.check(tensors, name)
  flat = lambda x: np.ascontiguousarray(x, np.float32)
  layers = {k: tuple(map(flat, v)) for k, v in matrices(tensors).items()}
  return Codec(layers, tensors["_vq_vae._embedding"].astype(np.float32))


def matrices(tensors):
  """Returns the `layers` of a Codec of {name: array}; also of jax."""
  layers = {}
  for key, value in tensors.items():
    layer, _, kind = key.rpartition(".")
    if kind == "weight":
      matrix = _up_matrix(value) if layer in _UP else _matrix(value)
      layers[layer] = matrix, tensors[f"{layer}.bias"][None, None, None]
  return layers


def encode(codec, mask, box):
  """Encodes one object's mask.

  Args:
    codec: Codec.
    mask: bool[height, width], of the whole image.
    box: f32[4], y1 x1 y2 x2 in 0..1: what is outside of it is lost.

  Returns:
    list of 16 ints in 0..127.

  Raises:
    ValueError: not a mask, or not a box.
  """
  return quantize(codec, crop(mask, box)).tolist()


def decode(codec, codes):
  """Decodes codes to masks.

  Args:
    codec: Codec.
    codes: i32[..., 16].

  Returns:
    f32[..., 64, 64], about -1 (outside) to 1 (inside).

  Raises:
    ValueError: not 16 codes in 0..127.
  """
  codes = np.asarray(codes)
  if (
    codes.dtype.kind not in "iu"
    or codes.shape[-1:] != (GRID * GRID,)
    or not ((0 <= codes) & (codes < NUM_CODES)).all()
  ):
    raise ValueError(f"wanted 16 codes in 0..127, got {str(codes)[:200]}")
  x = codec.codebook[codes.reshape(-1, GRID, GRID)]
  return _chunked(decoder, codec, x).reshape(*codes.shape[:-1], SIDE, SIDE)


def paste(decoded, box, height, width):
  """Pastes an object's decoded mask into an empty mask of the image.

  Args:
    decoded: f32[64, 64], as `decode` gives it.
    box: f32[4], y1 x1 y2 x2 in 0..1; it may reach out of the image.
    height: pixels of the image.
    width: the same.

  Returns:
    bool[height, width]; empty where the box has no pixel.
  """
  mask = np.zeros((height, width), bool)
  # Cut off and not rounded, as in big_vision's evaluator, unlike in `crop`.
  y1, x1, y2, x2 = boxes.to_pixels(_box(box), height, width).astype(int)
  if y1 < y2 and x1 < x2:
    image = Image.fromarray(np.asarray(decoded, np.float32))
    resized = image.resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR)
    mask[y1:y2, x1:x2] = np.asarray(resized) > 0
  return mask


def crop(mask, box):
  """Crops a mask to an object's box and resizes it to 64 x 64.

  Args:
    mask: bool[height, width].
    box: f32[4], y1 x1 y2 x2 in 0..1; its edges are rounded to pixels, but one
      pixel remains at least.

  Returns:
    f32[64, 64] in 0..1: bilinear with antialias.

  Raises:
    ValueError: not a mask, or not a box.
  """
  mask = np.asarray(mask)
  if mask.ndim != 2 or mask.dtype != bool or not mask.size:
    raise ValueError(
      f"wanted a mask bool[height, width], got {mask.dtype}{list(mask.shape)}"
    )
  edges = np.round(boxes.to_pixels(_box(box), *mask.shape))
  y1, x1, y2, x2 = edges.astype(int).tolist()
  y1, x1 = min(y1, mask.shape[0] - 1), min(x1, mask.shape[1] - 1)
  part = mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
  image = Image.fromarray(part.astype(np.float32))
  return np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def quantize(codec, crops):
  """Returns the codes i32[..., 16] of masks f32[..., 64, 64] in 0..1."""
  x = features(codec, crops)
  x = x.reshape(*x.shape[:-3], GRID * GRID, x.shape[-1])
  # The square of x is the same for all codes.
  squares = np.square(codec.codebook).sum(1)
  return np.argmin(squares - 2 * _product(x, codec.codebook.T), axis=-1)


def features(codec, crops):
  """Returns what is quantized, f32[..., 4, 4, D], of f32[..., 64, 64]."""
  crops = np.asarray(crops, np.float32)
  assert crops.shape[-2:] == (SIDE, SIDE), crops.shape
  x = crops.reshape(-1, SIDE, SIDE, 1) * 2 - 1
  x = _chunked(encoder, codec, x)
  return x.reshape(*crops.shape[:-2], *x.shape[1:])


def encoder(codec, x):
  """Maps f32[masks, 64, 64, 1] to f32[masks, 4, 4, D]; also of jax."""
  for i in (0, 2, 4, 6):
    x = _relu(_apply(codec, f"encoder.{i}", _windows(x, 4, stride=2)))
  for i in (8, 9):
    x = _residual(codec, f"encoder.{i}", x)
  return _apply(codec, "encoder.10", x)


def decoder(codec, x):
  """Maps f32[masks, 4, 4, D] to f32[masks, 64, 64]; also of jax."""
  x = _relu(_apply(codec, "decoder.0", x))
  for i in (2, 3):
    x = _residual(codec, f"decoder.{i}", x)
  for name in _UP:
    x = _relu(_upsample(codec, name, x))
  return _apply(codec, "decoder.12", x)[..., 0]


def _residual(codec, name, x):
  y = _relu(_apply(codec, f"{name}.net.0", _windows(x, 3)))
  y = _relu(_apply(codec, f"{name}.net.2", _windows(y, 3)))
  return x + _apply(codec, f"{name}.net.4", y)


def _upsample(codec, name, x):
  """Applies a transposed convolution: 4 x 4, stride 2, padding 1.

  Two neighbours along an axis make the two outputs between their centres, so a
  window of 2 x 2 inputs makes 2 x 2 outputs; the outermost are cut off.
  """
  matrix, bias = codec.layers[name]
  x = _product(_windows(x, 2), matrix)
  b, h, w, _ = x.shape
  num = bias.shape[-1]
  x = x.reshape(b, h, w, 2, 2, num).swapaxes(2, 3)
  x = x.reshape(b, 2 * h, 2 * w, num)
  return x[:, 1:-1, 1:-1] + bias


def _windows(x, size, stride=1):
  """Returns the windows f32[masks, rows, columns, size * size * channels].

  One row or column of zeros is put around.
  """
  xp = x.__array_namespace__()
  x = xp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows, columns = (side - size + 1 for side in x.shape[1:3])
  shifted = [
    x[:, i : i + rows : stride, j : j + columns : stride]
    for i in range(size)
    for j in range(size)
  ]
  return xp.concatenate(shifted, -1)


def _apply(codec, name, x):
  matrix, bias = codec.layers[name]
  return _product(x, matrix) + bias


def _product(x, matrix):
  """Returns f32[..., outputs] of f32[..., inputs]."""
  # One product: numpy would make one per row of pixels, and their threads wait
  # for each other a hundred times as long where the cores are busy.
  flat = x.reshape(-1, len(matrix)) @ matrix
  return flat.reshape(*x.shape[:-1], matrix.shape[1])


def _relu(x):
  return x.__array_namespace__().maximum(x, 0)


def _chunked(function, codec, x):
  """Applies a function of (codec, f32[masks, ...]) to a few masks at a time."""
  parts = range(0, max(len(x), 1), _CHUNK)
  return np.concatenate([function(codec, x[i : i + _CHUNK]) for i in parts])


def _matrix(weight):
  """Reshapes a kernel [out, in, k, k] to a matrix [k * k * in, out]."""
  return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def _up_matrix(weight):
  """Reshapes [in, out, 4, 4] to [4 * in, 4 * out], see `_upsample`.

  Of a window's inputs the first has the later half of the kernel.
  """
  num_in, num_out, _, _ = weight.shape
  taps = weight.reshape(num_in, num_out, 2, 2, 2, 2)[:, :, ::-1, :, ::-1]
  return taps.transpose(2, 4, 0, 3, 5, 1).reshape(4 * num_in, 4 * num_out)


def _box(box):
  """Returns a box as f32[4] in 0..1, or raises ValueError."""
  box = np.asarray(box, np.float32)
  if box.shape != (4,) or not np.isfinite(box).all():
    raise ValueError(f"wanted a box of four numbers y1 x1 y2 x2, got {box}")
  return np.clip(box, 0, 1)
