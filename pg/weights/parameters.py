"""Reads the parameters of opened weights, for training or for decoding."""

import collections
import concurrent.futures
import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np

from pg import sharding, tree
from pg.models import gemma
from pg.weights import checkpoint, load, tensors

_LAYERS = "llm/layers/"


def read(name, cfg, abstract, draw, seed=0):
  """Opens weights and reads their parameters; see `for_training`."""
  weights = load.open(name, seed=seed)
  with contextlib.closing(weights.reader):
    return for_training(weights, cfg, abstract, draw)


def for_training(weights, cfg, abstract, draw):
  """Reads parameters, a tensor at a time, cast and placed like `abstract`.

  Args:
    weights: Weights, of any resolution.
    cfg: paligemma.Config that all tensors must fit.
    abstract: nested dict of `jax.ShapeDtypeStruct` with shardings.
    draw: function () -> nested dict of arrays like `abstract`, called where the
      weights are one tower alone.

  Returns:
    Nested dict of jax arrays like `abstract`.

  Raises:
    ValueError: a file that cannot be read, of another model, or with a value
      that is inf or nan.
  """
  with _naming(weights):
    return _for_training(weights, cfg, abstract, draw)


def _for_training(weights, cfg, abstract, draw):
  weights = load.at_resolution(weights, cfg.img.res)
  reader = weights.reader
  tensors.check(reader.specs, cfg, weights.name, weights.tower)
  if weights.run and not weights.resampled:
    return _finite(checkpoint.restore_params(weights.run, abstract))
  flat = tree.flatten(draw()) if weights.tower else {}
  for name, leaf in tree.flatten(abstract).items():
    if name in reader.specs:
      array = whole(reader, name, leaf.dtype)
      flat[name] = jax.make_array_from_callback(
        leaf.shape, leaf.sharding, array.__getitem__
      )
  return tree.unflatten(flat)


def for_decoding(weights, cfg, mesh=None):
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
  with _naming(weights):
    return _for_decoding(weights, cfg, mesh)


def _for_decoding(weights, cfg, mesh):
  weights = load.at_resolution(weights, cfg.img.res)
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
      place = None
      if mesh:
        spec = sharding.serving_spec(name, shape, mesh)
        place = jax.sharding.NamedSharding(mesh, spec)
      array = pool.submit(_cast, arrays, shape, dtype, place)
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
  names = [name for name in reader.specs if name.startswith(_LAYERS)]
  for name, spec in reader.specs.items():
    if name not in names:
      parts = [(name, i) for i in tensors.parts(name, spec.shape)]
      yield flat, name, spec.shape, parts, [reader.read(*x) for x in parts]
  inputs = [n for n in names if n.removeprefix(_LAYERS) in gemma.INPUTS]
  for group in (inputs, *([n] for n in names if n not in inputs)):
    depth = range(len(layers))
    stacks = [map(functools.partial(reader.read, n), depth) for n in group]
    if len(group) > 1:
      stacks = map(list, stacks)
    short = [name.removeprefix(_LAYERS) for name in group]
    for i, arrays in enumerate(zip(*stacks, strict=True)):
      served = gemma.serving(dict(zip(short, arrays, strict=True)))
      for name, array in served.items():
        yield layers[i], name, array.shape, [(n, i) for n in group], [array]


def _cast(arrays, shape, dtype, place):
  """Returns a jax array with the values; None if one is inf or nan."""
  out = tensors.empty(shape, dtype)
  targets = out.reshape(len(arrays), *arrays[0].shape)
  if all(map(tensors.fill, targets, arrays)):
    return jax.device_put(out, place)
  return None


@contextlib.contextmanager
def _naming(weights):
  """Says of values that are not finite whose they are."""
  try:
    yield
  except tensors.NotFinite as error:
    raise ValueError(f"{weights.name}: {error}") from error


def whole(reader, name, dtype=None):
  """Reads a tensor, a layer at a time; in the stored dtype by default.

  Raises:
    ValueError: the file is damaged, or a value is inf or nan.
  """
  spec = reader.specs[name]
  out = np.empty(spec.shape, dtype or spec.dtype)
  for layer in tensors.parts(name, spec.shape):
    target = out if layer is None else out[layer]
    if not tensors.fill(target, reader.read(name, layer)):
      tensors.read_finite(reader, name, layer)  # raises and says what
  return out


def _finite(params):
  """Returns parameters that are on their devices, if all are numbers."""
  are = lambda x: jnp.isfinite(x).all()
  for name, fine in tree.flatten(
    jax.jit(lambda p: jax.tree.map(are, p))(params)
  ).items():
    if not fine:
      raise tensors.not_finite(name)
  return params
