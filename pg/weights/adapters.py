"""Adapters of weights (LoRA): kept beside them, and added as they are read.

A run that trains adapters saves these alone. Which weights they belong to is
known by checksums of the values: of each layer of each tensor in float32, so
that the same weights in another format are the same.
"""

import zlib
from typing import NamedTuple

import numpy as np

from pg.models import lora, matrices, quantize
from pg.weights import tensors

_PIECE = 1 << 22  # elements that are converted at once


class Adapter(NamedTuple):
  """A trained adapter, in memory."""

  name: str
  scale: float
  parts: dict  # {weight: {"a": f32[..., in, r], "b": f32[..., r, out]}}, numpy
  checksums: dict | None = None  # of the weights; None: not recorded
  base: str | None = None  # where the weights were
  frozen_dtype: str = "float32"  # in which these were kept


class Summed:
  """A reader that takes checksums of what it reads, and compares them."""

  def __init__(self, reader, name, wanted=None):
    """Wraps a reader.

    Args:
      reader: see tensors.py.
      name: str, of the weights, for messages.
      wanted: what `checksums` was before, or None.
    """
    self._reader, self._name, self._wanted = reader, name, wanted
    self.specs, self.close = reader.specs, reader.close
    self.quantized = tensors.quantized(reader)
    self.checksums = {}  # {tensor: [CRC-32 of each layer]}

  def read(self, name, layer=None):
    array = self._reader.read(name, layer)
    self._check(name, layer or 0, array)
    return array

  def packed(self, name, layer=None):
    w = self._reader.packed(name, layer)
    self._check(name, layer or 0, quantize.whole(w, np.float32))
    return w

  def _check(self, name, i, array):
    sums = self.checksums.setdefault(name, [])
    sums += [None] * (i + 1 - len(sums))
    sums[i] = _checksum(array)
    if self._wanted and self._wanted.get(name, [])[i : i + 1] != [sums[i]]:
      raise _others(self._name, name)


class Merged:
  """A reader of weights with an adapter added, in float32."""

  def __init__(self, reader, adapter):
    self._reader, self.adapter = reader, adapter
    self.specs, self.close = reader.specs, reader.close
    self.quantized = tensors.quantized(reader).copy()
    for name in set(adapter.parts) & set(self.quantized):
      del self.quantized[name]

  def packed(self, name, layer=None):
    return self._reader.packed(name, layer)

  def read(self, name, layer=None):
    array = self._reader.read(name, layer)
    parts = self.adapter.parts.get(name)
    if parts is None:
      return array
    if layer is not None:
      parts = {k: x[layer] for k, x in parts.items()}
    array = np.asarray(array, np.float32)
    return lora.merge(self.adapter.scale, matrices.letters(name), array, parts)


def of_run(name, reader, c, meta):
  """Reads the Adapter that a run trained.

  Args:
    name: str, of the run.
    reader: of its checkpoint.
    c: dict, its config.
    meta: dict, of the checkpoint.

  Raises:
    ValueError: the checkpoint is damaged.
  """
  parts = {}
  for key in reader.specs:
    if (weight := lora.target(key)) != key:
      array = tensors.whole(reader, key, np.float32)
      parts.setdefault(weight, {})[key[-1]] = array
  how = dict(c["lora"], targets=tuple(parts))
  how.pop("lr_mult")
  scale, dtype = lora.Config(**how).scale, c.get("frozen_dtype", "float32")
  return Adapter(name, scale, parts, meta["base"], c["init"], dtype)


def check(adapter, specs, where):
  """Raises ValueError unless an adapter fits weights.

  Args:
    adapter: Adapter.
    specs: {name: shape and dtype} of the weights.
    where: str, what they are.
  """
  for name, parts in adapter.parts.items():
    found, wanted = {k: x.shape for k, x in parts.items()}, None
    if name in specs:
      wanted = lora.shapes(name, specs[name].shape, parts["a"].shape[-1])
      wanted = {k: wanted[k] for k in parts}
    if found != wanted:
      raise ValueError(
        f"{adapter.name} is no adapter of {where}: that of {name} has"
        f" {found}; wanted {wanted or 'no such weight'}"
      )


def compare(adapter, checksums, where):
  """Raises ValueError where an adapter was trained on other weights.

  Args:
    adapter: Adapter.
    checksums: those that a Summed has taken of all weights.
    where: str, what they are.
  """
  for name, sums in (adapter.checksums or {}).items():
    if sums != checksums.get(name):
      raise _others(f"{where}+{adapter.name}", name)


def _others(where, name):
  return ValueError(
    f"{where}: {name} holds other values than in the weights that the adapter"
    " was trained on; name those: WEIGHTS+ADAPTER"
  )


def _checksum(array):
  value = 0
  for i in range(0, len(array), rows := max(1, _PIECE // array[:1].size)):
    piece = np.ascontiguousarray(array[i : i + rows], np.float32)
    value = zlib.crc32(piece.view(np.uint8).data, value)
  return value
