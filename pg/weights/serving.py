"""Reads the parameters of opened weights for decoding, and adapters of them."""

import collections
import concurrent.futures
import functools
import os

import jax
import numpy as np

from pg import progress, sharding, tree
from pg.models import bank, gemma, quantize
from pg.weights import adapters, opened, tensors

_LAYERS = "llm/layers/"


def read(weights, cfg, mesh=None):
  """Reads parameters for decoding, straight into the memory they stay in.

  Args:
    weights: Weights, of any resolution.
    cfg: paligemma.Config; matrices are kept in its dtype, scales and biases in
      f32.
    mesh: whose devices get a shard of each, see `sharding.serving_spec`; None
      is the default device, all of it.

  Returns:
    Parameters as `decode.loop.unroll` returns them, jax arrays.

  Raises:
    ValueError: a file that cannot be read, of another model, or with a value
      that is inf or nan.
  """
  with opened.naming(weights):
    return _read(weights, cfg, mesh)


def bank_of(weights, cfg, mesh, named, checksums):
  """Reads adapters of weights that were read for decoding.

  Args:
    weights, cfg, mesh: as of `read`.
    named: {name: Weights of these with an adapter}, see `load.open_adapter`.
    checksums: of the weights, as they are in their file.

  Returns:
    bank.Bank of jax arrays; None without adapters.

  Raises:
    ValueError: an adapter of other weights, or of another resolution.
  """
  found = {}
  for name, own in named.items():
    found[name] = own.reader.adapter
    adapters.compare(found[name], checksums, weights.name)
    kind, is_packed = (
      found[name].frozen_dtype,
      tensors.quantized(weights.reader),
    )
    if kind in quantize.DTYPES and not is_packed:
      progress.say(
        f"adapter {name} was trained beside weights in {kind}, which these are"
        f" not: with quantize={kind} they would be"
      )
    if own.cfg.img.res != cfg.img.res:
      raise ValueError(
        f"adapter {name} was trained at {own.cfg.img.res} pixels and the model"
        f" sees {cfg.img.res}: load it with res={own.cfg.img.res}"
      )
  if not found:
    return None

  def read(name, layer):
    if layer is None:
      return tensors.whole(weights.reader, name)
    return weights.reader.read(name, layer)

  made = bank.make(cfg, found, read)
  dtype, where = tensors.dtype(cfg.dtype), mesh and sharding.replicated(mesh)
  place = lambda x: jax.device_put(x.astype(dtype), where)
  img, llm = (jax.tree.map(place, x) for x in (made.img, made.llm))
  return made._replace(img=img, llm=llm)


def _read(weights, cfg, mesh):
  weights = opened.at_resolution(weights, cfg.img.res)
  reader = weights.reader
  tensors.check(reader.specs, cfg, weights.name)
  flat, layers = {}, [{} for _ in range(cfg.llm.depth)]
  threads, waiting = os.cpu_count() or 1, collections.deque()

  def finish():
    target, name, parts, array = waiting.popleft()
    target[name] = array.result()
    if target[name] is None:
      for part in parts:
        tensors.read_finite(reader, *part)  # raises and says which

  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for target, name, shape, parts, arrays in _serving(reader, flat, layers):
      small = name.endswith(("/scale", "/bias"))
      dtype = np.dtype(np.float32) if small else tensors.dtype(cfg.dtype)
      spec = mesh and sharding.serving_spec(name, shape, mesh)
      array = pool.submit(_cast, arrays, shape, dtype, mesh, spec)
      waiting.append((target, name, parts, array))
      if len(waiting) > threads:
        finish()
    while waiting:
      finish()
  nested = tree.unflatten(flat)
  nested["llm"]["layers"] = tuple(map(tree.unflatten, layers))
  return nested


def _serving(reader, flat, layers):
  """Reads tensors in the order of a file, each whole, for decoding.

  Args:
    reader: see tensors.py.
    flat: dict, for what is not in the decoder's layers.
    layers: list of a dict for each of these.

  Yields:
    one of the dicts and the name in it; the shape; the (name, layer) that were
    read; and the list of arrays, to be stacked where there are several.
  """

  def read(name, layer):
    is_packed = name in tensors.quantized(reader)
    return (reader.packed if is_packed else reader.read)(name, layer)

  names = [name for name in reader.specs if name.startswith(_LAYERS)]
  for name, spec in reader.specs.items():
    if name not in names:
      parts = [(name, i) for i in tensors.parts(name, spec.shape)]
      yield flat, name, spec.shape, parts, [read(*x) for x in parts]
  inputs = [n for n in names if n.removeprefix(_LAYERS) in gemma.INPUTS]
  for group in (inputs, *([n] for n in names if n not in inputs)):
    depth = range(len(layers))
    stacks = [map(functools.partial(read, n), depth) for n in group]
    if len(group) > 1:
      stacks = map(list, stacks)
    short = [name.removeprefix(_LAYERS) for name in group]
    for i, arrays in enumerate(zip(*stacks, strict=True)):
      served = gemma.serving(dict(zip(short, arrays, strict=True)))
      for name, array in served.items():
        yield layers[i], name, array.shape, [(n, i) for n in group], [array]


def _cast(arrays, shape, dtype, mesh, spec):
  """Returns a jax array with the values; None if one is inf or nan.

  Args:
    arrays: list of numpy arrays, or of Quantized ones; of several a stack.
    shape, dtype: of the result; quantised ones keep their own dtype.
    mesh: whose devices get a shard of it, by `spec`; None is one device.
  """
  place = mesh and jax.sharding.NamedSharding(mesh, spec)
  if quantize.is_quantized(arrays[0]):
    each = lambda *x: _joined(x, len(shape), mesh, spec)
    return jax.tree.map(each, *arrays)
  out = tensors.empty(shape, dtype)
  targets = out.reshape(len(arrays), *arrays[0].shape)
  if all(map(tensors.fill, targets, arrays)):
    return jax.device_put(out, place)
  return None


def _joined(arrays, ndim, mesh, spec):
  """Returns a jax array of quantised values, or of scales."""
  stacked = arrays[0].ndim < ndim
  shape = (len(arrays),) * stacked + arrays[0].shape
  out = tensors.empty(shape, arrays[0].dtype)
  for target, array in zip(out if stacked else [out], arrays, strict=True):
    target[...] = array
  if mesh:
    spec = sharding.dividing(spec, shape, mesh)
  return jax.device_put(out, mesh and jax.sharding.NamedSharding(mesh, spec))
