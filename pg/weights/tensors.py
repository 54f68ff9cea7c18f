"""What all formats of weights share: readers, shapes, dtypes, disk space.

A reader of any format has our names and reads a layer at a time, so that no
conversion holds more of a model than it is working on:

    reader.specs               {"llm/layers/mlp/linear": shape and dtype, ...}
    reader.read(name, layer)   one layer of a stacked tensor, as it is stored;
                               it may be a view of the file: not to be written
    reader.read(name)          all of a tensor; a damaged file is a ValueError
    reader.close()
    reader.quantized           {name: Quantized of shapes and dtypes}, and
    reader.packed(name, layer) such a tensor as it is, Quantized of numpy, where
                               weights are quantised; `read` gives f32 of them
    reader.cfg                 paligemma.Config, where the format states it: of
                               a tower alone the other one means nothing
"""

import contextlib
import functools
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from pg import atomic, config, tree
from pg.models import paligemma

DTYPES = {
  "float32": np.dtype(np.float32),
  "float16": np.dtype(np.float16),
  "bfloat16": np.dtype(jnp.bfloat16),
}
STACKED = ("img/Transformer/encoderblock/", "llm/layers/")
_PIECE = 1 << 24  # elements that are cast and written at once
_CACHED = 1 << 18  # elements that stay in a core's cache from pass to pass
_ALIGNED = 64  # bytes; XLA takes over memory that starts at a multiple


def dtype(name):
  """Returns the numpy dtype that "float32", "bfloat16" or "float16" names.

  Raises:
    ValueError: another name.
  """
  return config.lookup(DTYPES, name, "dtype")


def quantized(reader):
  """Returns {name: Quantized of shapes and dtypes} of a reader's weights."""
  return getattr(reader, "quantized", {})


def is_stacked(name):
  """Returns whether a tensor's first axis counts layers."""
  return name.startswith(STACKED)


def shapes(cfg):
  """Returns `paligemma.shapes` of a model, flat: {name: shape and dtype}."""
  return _shapes(cfg.img, cfg.llm)


@functools.cache
def _shapes(img, llm):
  return tree.flatten(paligemma.shapes(paligemma.Config(img, llm)))


def within(name, tower):
  """Returns whether a tensor belongs to a tower: "img", "llm", None for both.

  The projector `img/head` belongs to neither: it joins them.
  """
  if tower is None:
    return True
  return name.startswith(f"{tower}/") and not name.startswith("img/head/")


def parts(name, shape):
  """Returns the `layer` arguments that read a whole tensor in order."""
  return range(shape[0]) if is_stacked(name) else [None]


def whole(reader, name, dtype=None):
  """Reads a tensor, a layer at a time; in the stored dtype by default.

  Raises:
    ValueError: the file is damaged, or a value is inf or nan.
  """
  spec = reader.specs[name]
  out = np.empty(spec.shape, dtype or spec.dtype)
  for layer in parts(name, spec.shape):
    target = out if layer is None else out[layer]
    if not fill(target, reader.read(name, layer)):
      read_finite(reader, name, layer)  # raises and says what
  return out


def cast(specs, dtype):
  """Returns specs with another dtype; None keeps theirs."""
  if dtype is None:
    return specs
  return {k: jax.ShapeDtypeStruct(v.shape, dtype) for k, v in specs.items()}


def check(specs, cfg, where, tower=None, left_out=()):
  """Raises ValueError listing each tensor that the model has otherwise.

  Args:
    specs: {name: anything with a shape}.
    cfg: paligemma.Config.
    where: str, the file, for the message.
    tower: str or None, the only one that is to be there.
    left_out: names that are not looked at.
  """
  wanted = {k: v for k, v in shapes(cfg).items() if within(k, tower)}
  wanted, found = (
    {k: v for k, v in x.items() if k not in left_out} for x in (wanted, specs)
  )
  if report := tree.diff(wanted, found):
    raise ValueError(f"{where} holds other tensors than the model:\n{report}")


def write_array(f, array, dtype):
  """Writes an array's values to a binary file in C order, a piece at a time.

  Raises:
    ValueError: a finite value is out of the range of the dtype.
  """
  rows = max(1, _PIECE // max(1, array[:1].size))
  for i in range(0, len(array), rows):
    f.write(as_dtype(array[i : i + rows], dtype).view(np.uint8).data)


def as_dtype(array, dtype):
  """Returns an array's values in C order in another dtype.

  Raises:
    ValueError: a finite value is out of the range of the dtype.
  """
  with np.errstate(over="ignore"):
    values = np.ascontiguousarray(array, dtype)
  if dtype == np.float16 and (np.isinf(values) & np.isfinite(array)).any():
    most = float(np.abs(array).max())
    raise ValueError(
      f"a value of {most:.3g} does not fit float16; write bfloat16 or float32"
    )
  return values


def read_finite(reader, name, layer=None):
  """Reads a tensor or one layer of it, as `reader.read`, for use.

  Raises:
    ValueError: the file is damaged, or a value is inf or nan.
  """
  array = reader.read(name, layer)
  if not _is_finite(array):
    num = array.size - np.count_nonzero(np.isfinite(array))
    raise not_finite(name, layer, f"{num} of {array.size} values are")
  return array


class NotFinite(ValueError):
  """Weights have a value that is inf or nan."""


def empty(shape, dtype):
  """Returns a new array that `jax.device_put` takes over on a CPU."""
  num_bytes = int(np.prod(shape)) * dtype.itemsize
  memory = np.empty(num_bytes + _ALIGNED, np.uint8)
  start = -memory.ctypes.data % _ALIGNED
  return memory[start : start + num_bytes].view(dtype).reshape(shape)


def fill(out, array):
  """Casts an array into another of its shape, and looks at each value once.

  Args:
    out: array, written to.
    array: array, in any order of its axes, as it is read.

  Returns:
    bool, whether no value is inf or nan; `out` is unfinished where not.

  Raises:
    ValueError: a finite value is out of the range of the dtype of `out`.
  """
  order = np.argsort([-stride for stride in array.strides], kind="stable")
  array, out = array.transpose(order), out.transpose(order)
  rows = max(1, _CACHED // max(1, array[:1].size))
  for i in range(0, len(array), rows):
    piece = array[i : i + rows]
    if not _is_finite(piece):
      return False
    out[i : i + rows] = as_dtype(piece, out.dtype)
  return True


def not_finite(name, layer=None, what="a value is"):
  """Returns the error of a tensor that no answer can come from."""
  where = name if layer is None else f"{name}, layer {layer}"
  return NotFinite(
    f"{where}: {what} inf or nan, so the model can answer nothing. Weights are"
    " mostly broken so when they are saved as float16: take, or export again,"
    " those of bfloat16 or float32"
  )


def _is_finite(array):
  """Returns whether no value is inf or nan, by two passes without a copy.

  As integers the bits of inf and nan are the largest there are, those of
  either sign among the numbers of that sign.
  """
  signed, unsigned = (f"{x}{array.dtype.itemsize}" for x in "iu")
  inf = np.array([np.inf, -np.inf]).astype(array.dtype)
  return not array.size or (
    array.view(signed).max() < inf.view(signed)[0]
    and array.view(unsigned).max() < inf.view(unsigned)[1]
  )


def mean_row(array):
  """Returns the mean of the rows of [V, D], f32[D]."""
  total = np.zeros(array.shape[1], np.float64)
  for i in range(0, len(array), 4096):
    total += array[i : i + 4096].astype(np.float64).sum(axis=0)
  return (total / len(array)).astype(np.float32)


def same_bits(want, got, dtype):
  """Returns whether two arrays have the same bits after a cast to `dtype`."""
  rows = max(1, _PIECE // max(1, want[:1].size))
  bits = lambda x: np.ascontiguousarray(x, dtype).view(np.uint8)
  return want.shape == got.shape and all(
    np.array_equal(bits(want[i : i + rows]), bits(got[i : i + rows]))
    for i in range(0, len(want), rows)
  )


@contextlib.contextmanager
def making(path):
  """As `atomic.replacing`, for what is not there yet.

  Raises:
    ValueError: `path` exists.
    OSError: it cannot be written, for example because the disk is full.
  """
  path = os.path.abspath(path)
  if os.path.lexists(path):
    raise ValueError(f"{path} exists; remove it or choose another name")
  try:
    with atomic.replacing(path) as partial:
      yield partial
  except OSError as error:
    raise OSError(
      f"could not write {path}: {error}; nothing of it was kept. Is the disk"
      " full?"
    ) from error


def check_free(path, num_bytes):
  """Raises OSError when the disk of `path` has fewer bytes free."""
  folder = os.path.abspath(path)
  while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  free = shutil.disk_usage(folder).free
  if free < num_bytes:
    raise OSError(
      f"{path} needs {num_bytes / 1e9:.2f} GB and {folder} has"
      f" {free / 1e9:.2f} GB free"
    )


def size(specs):
  """Returns the bytes of all tensors."""
  return sum(np.prod(s.shape) * s.dtype.itemsize for s in specs.values())
