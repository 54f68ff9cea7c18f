"""Quantised weights: on the way from any file, and in a file of ours.

The file is a safetensors with our names: `<name>` has the values, int8, or two
of 4 bits in a byte (U8, a layer after another, the first in the lower half),
and `<name>.scale` f32; what is not quantised is as it was. Its metadata say
under "pg" which tensors are quantised, to what, and their shapes.
"""

import json
import math
import os

import jax
import numpy as np

from pg import tree
from pg.models import quantize
from pg.weights import tensors

_CODES = {
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": tensors.DTYPES["bfloat16"],
  "I8": np.dtype(np.int8),
  "U8": np.dtype(np.uint8),
}
_NAMES = {dtype: code for code, dtype in _CODES.items()}
_BEGIN = b'{"__metadata__": {"pg": '
_MOST = 100_000_000  # bytes of a header


class Quantizing:
  """A reader of weights that are quantised as they are read."""

  def __init__(self, reader, how):
    """Wraps a reader.

    Args:
      reader: see tensors.py.
      how: quantize.Format.

    Raises:
      ValueError: its groups do not divide the inputs of a weight.
    """
    quantize.check(how, reader.specs)
    self._reader, self.close = reader, reader.close
    found = {k: quantize.abstract(how, k, x) for k, x in reader.specs.items()}
    self.quantized = {
      k: x for k, x in found.items() if quantize.is_quantized(x)
    }
    f32 = tensors.cast({k: x.values for k, x in self.quantized.items()}, "f4")
    self.specs = reader.specs | f32

  def packed(self, name, layer=None):
    return packed(self._reader, name, layer, self.quantized[name])

  def read(self, name, layer=None):
    if name not in self.quantized:
      return self._reader.read(name, layer)
    return quantize.whole(self.packed(name, layer), np.float32)


def packed(reader, name, layer, like):
  """Reads a tensor, or a layer of it, quantised.

  Args:
    reader: see tensors.py; what it has so already is not quantised again.
    name, layer: as for `read`.
    like: Quantized of the shapes of all layers.

  Returns:
    Quantized of numpy arrays.

  Raises:
    ValueError: the file is damaged, or a value is inf or nan.
  """
  has = tensors.quantized(reader).get(name)
  if has is not None and _same(has, like):
    return reader.packed(name, layer)
  if layer is not None:
    one = lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    like = jax.tree.map(one, like)
  return quantize.as_like(like, tensors.read_finite(reader, name, layer))


def whole(reader, name, like):
  """Reads a tensor quantised, a layer at a time; see `packed`."""
  if not tensors.is_stacked(name):
    return packed(reader, name, None, like)
  out = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
  for layer in range(like.shape[0]):
    part = packed(reader, name, layer, like)
    out.values[layer], out.scale[layer] = part.values, part.scale
  return out


def _same(a, b):
  both = lambda x, y: (x.shape, x.dtype) == (y.shape, y.dtype)
  return both(a.values, b.values) and both(a.scale, b.scale)


def is_file(path):
  """Returns whether a path is a file that `write` made."""
  if not os.path.isfile(path):
    return False
  with open(path, "rb") as f:
    return f.read(8 + len(_BEGIN))[8:] == _BEGIN


class Reader:
  """Reads a file of quantised weights; see tensors.py."""

  def __init__(self, path):
    """Opens the file and compares it with what it says of itself.

    Raises:
      ValueError: it is damaged, or not of this form.
    """
    self._path = os.fspath(path)
    said, header, self._start = _header(self._path)
    self.quantized = {
      name: quantize.Quantized(
        jax.ShapeDtypeStruct(tuple(shape), quantize.DTYPES[kind]),
        jax.ShapeDtypeStruct(tuple(scale), np.float32),
      )
      for name, (kind, shape, scale) in said.items()
    }
    self._stored = {
      name: jax.ShapeDtypeStruct(tuple(x["shape"]), _CODES[x["dtype"]])
      for name, x in header.items()
    }
    self._offsets = {k: x["data_offsets"][0] for k, x in header.items()}
    wanted = _stored(self.quantized)
    found = {k: x for k, x in self._stored.items() if k in wanted}
    report = tree.diff(wanted, found)
    size = self._start + max(x["data_offsets"][1] for x in header.values())
    if report or size != os.path.getsize(self._path):
      report = (
        report or f"it has {os.path.getsize(self._path)} bytes, not {size}"
      )
      raise ValueError(f"{path} is damaged, copy it again: {report}")
    shapes = {k: x for k, x in self._stored.items() if k not in wanted}
    f32 = {k: x.values for k, x in self.quantized.items()}
    self.specs = dict(sorted((shapes | tensors.cast(f32, "f4")).items()))

  def packed(self, name, layer=None):
    spec = self.quantized[name]
    if layer is None and tensors.is_stacked(name):
      every = (self.packed(name, i) for i in range(spec.shape[0]))
      return jax.tree.map(lambda *x: np.stack(x), *every)
    values, scale = self._read(name, layer), self._read(_scale(name), layer)
    shape = spec.shape[layer is not None :]
    if spec.dtype != np.int8:
      both = np.stack([values & 15, values >> 4], axis=-1)
      values = both.reshape(-1)[: math.prod(shape)].view(np.int8)
      values = values.astype(spec.dtype)
    return quantize.Quantized(values.reshape(shape), scale)

  def read(self, name, layer=None):
    if name not in self.quantized:
      return self._read(name, layer)
    return quantize.whole(self.packed(name, layer), np.float32)

  def close(self):
    """Does nothing: each array maps its part of a file while it is there."""

  def _read(self, name, layer):
    spec, start = self._stored[name], self._start + self._offsets[name]
    shape = spec.shape[layer is not None :]
    start += (layer or 0) * math.prod(shape) * spec.dtype.itemsize
    array = np.memmap(self._path, spec.dtype, "r", start, shape)
    return array.view(np.ndarray)


def write(path, reader, specs, read):
  """Writes weights, a layer at a time.

  Args:
    path: str, the file.
    reader: one that has quantised weights.
    specs: {our name: shape and dtype} of all.
    read: function (name, layer) -> array, as a reader's, of what is not
      quantised.

  Raises:
    OSError: it cannot be written.
  """
  rest = {k: x for k, x in specs.items() if k not in reader.quantized}
  said = {
    name: (quantize.kind_of(x), x.shape, x.scale.shape)
    for name, x in reader.quantized.items()
  }
  stored = rest | _stored(reader.quantized)
  with open(path, "wb") as f:
    f.write(_head(stored, {"pg": json.dumps(said)}))
    for name, spec in rest.items():
      for layer in tensors.parts(name, spec.shape):
        tensors.write_array(f, read(name, layer), spec.dtype)
    for name, like in reader.quantized.items():
      scales = []
      for layer in tensors.parts(name, like.shape):
        w = reader.packed(name, layer)
        f.write(_bytes(w.values))
        scales.append(np.ascontiguousarray(w.scale))
      for scale in scales:
        f.write(scale.view(np.uint8).data)


def _bytes(values):
  """Returns whole numbers as they are stored."""
  if values.dtype == np.int8:
    return np.ascontiguousarray(values).data
  flat = values.reshape(-1).astype(np.int8).view(np.uint8) & 15
  flat = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
  return (flat[:, 0] | flat[:, 1] << 4).data


def _scale(name):
  return f"{name}.scale"


def _stored(quantized):
  """Returns {name in a file: shape and dtype} of quantised weights."""
  found = {}
  for name, x in quantized.items():
    values = x.values
    if x.dtype != np.int8:
      lead = x.shape[: tensors.is_stacked(name)]
      size = -(-math.prod(x.shape[len(lead) :]) // 2)
      values = jax.ShapeDtypeStruct((*lead, size), np.uint8)
    found |= {name: values, _scale(name): x.scale}
  return found


def _header(path):
  """Returns what a file says of itself, its header, and where bytes start."""
  try:
    with open(path, "rb") as f:
      size = int.from_bytes(f.read(8), "little")
      if size > _MOST:
        raise ValueError(f"a header of {size} bytes")
      header = json.loads(f.read(size))
    said = json.loads(header.pop("__metadata__")["pg"])
    return said, header, 8 + size
  except ValueError as error:
    raise ValueError(
      f"{path} is no safetensors file, or damaged ({error}); copy it again"
    ) from error


def _head(specs, metadata):
  """Returns the start of a safetensors file: its length, then JSON."""
  header, end = {"__metadata__": metadata}, 0
  for name, x in specs.items():
    start, end = end, end + math.prod(x.shape) * np.dtype(x.dtype).itemsize
    header[name] = dict(
      dtype=_NAMES[np.dtype(x.dtype)],
      shape=x.shape,
      data_offsets=[start, end],
    )
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  return len(text).to_bytes(8, "little") + text
