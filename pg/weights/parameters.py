"""Reads the parameters of opened weights for training; see serving.py, too."""

import contextlib
import dataclasses
import difflib
import re

import jax
import jax.numpy as jnp
import optax

from pg import progress, tree
from pg.learn import state as state_lib
from pg.models import paligemma, quantize
from pg.weights import (
  adapters,
  checkpoint,
  load,
  opened,
  packed,
  resize,
  tensors,
)


def read(name, cfg, abstract, draw, seed=0, dont_load=(), is_frozen=None):
  """Opens weights and reads their parameters; see `for_training`.

  Args:
    name, cfg, abstract, draw, dont_load: as there.
    seed: int, of rows of the embedding where `name` is two towers.
    is_frozen: tree of bool, True for parameters that are not trained; None
      where all are.

  Raises:
    ValueError: as there; or quantised weights that are to be trained.
  """
  weights = load.open(name, seed=seed)
  with contextlib.closing(weights.reader):
    frozen = tree.flatten(is_frozen or {})
    lost = [k for k in tensors.quantized(weights.reader) if not frozen.get(k)]
    if lost:
      raise ValueError(
        f"{name} is quantised, and a step is less than what its numbers can"
        f" change ({', '.join(tree.some(lost))}): train adapters (lora=8 of any"
        " transfer, --config.lora.rank=8), or start from the weights that it"
        " was made of"
      )
    return for_training(weights, cfg, abstract, draw, dont_load)


def to_evaluate(name, cfg, mesh, rules, how=None):
  """Opens weights and reads their parameters, f32 but what is quantised.

  Args:
    name: str, see load.py.
    cfg: paligemma.Config that all tensors must fit.
    mesh: the mesh.
    rules: pairs of a regex and a strategy, see pg/sharding.py.
    how: str, a format to quantise them to; None leaves them as they are.

  Raises:
    ValueError: as `for_training`; or one tower alone.
  """
  weights = load.open(name)
  with contextlib.closing(weights.reader):
    if weights.tower:
      raise ValueError(f"{name} is one tower alone; name a whole model")
    if how:
      weights = opened.quantized(weights, how)
    shapes = tree.flatten(paligemma.shapes(cfg))
    shapes |= tensors.quantized(weights.reader)
    shapes = tree.unflatten(shapes)
    state = state_lib.abstract(cfg, optax.identity(), mesh, rules, shapes)
    return for_training(weights, cfg, state["params"], draw=dict)


def read_summed(name, cfg, abstract, checksums=None):
  """Reads the weights that adapters are trained of; see `for_training`.

  Args:
    name, cfg, abstract: as of `read`.
    checksums: of the weights at an earlier start; None at the first.

  Returns:
    Nested dict of jax arrays, and their checksums.

  Raises:
    ValueError: as `for_training`; or other weights than before.
  """
  weights = load.open(name)
  reader = adapters.Summed(weights.reader, name, checksums)
  weights = dataclasses.replace(weights, reader=reader, run=None)
  if weights.tower:
    raise ValueError(f"{name} is one tower; adapters are of a whole PaliGemma")
  with contextlib.closing(reader):
    params = for_training(weights, cfg, abstract, draw=dict)
  return params, reader.checksums


def for_training(weights, cfg, abstract, draw, dont_load=()):
  """Reads parameters, a tensor at a time, cast and placed like `abstract`.

  Args:
    weights: Weights, of any resolution.
    cfg: paligemma.Config that all tensors must fit.
    abstract: nested dict of `jax.ShapeDtypeStruct` with shardings.
    draw: function () -> nested dict of arrays like `abstract`, called where the
      weights are one tower alone, or some are not loaded.
    dont_load: regexes of whole names that stay as they were drawn; in the file
      they may have other shapes, or be missing.

  Returns:
    Nested dict of jax arrays like `abstract`.

  Raises:
    ValueError: a file that cannot be read, of another model, or with a value
      that is inf or nan; a regex that matches nothing.
  """
  with opened.naming(weights):
    return _for_training(weights, cfg, abstract, draw, dont_load)


def _for_training(weights, cfg, abstract, draw, dont_load):
  known = sorted({*tree.flatten(abstract), *weights.reader.specs})
  left_out = _left_out(dont_load, known, weights.name)
  if resize.POSITIONS not in left_out:
    weights = opened.at_resolution(weights, cfg.img.res)
  reader = weights.reader
  tensors.check(reader.specs, cfg, weights.name, weights.tower, left_out)
  is_packed = any(map(quantize.is_quantized, tree.flatten(abstract).values()))
  if weights.run and not (weights.resampled or left_out or is_packed):
    return _finite(checkpoint.restore_params(weights.run, abstract))
  flat = tree.flatten(draw()) if weights.tower or left_out else {}
  for name, leaf in tree.flatten(abstract).items():
    if name in reader.specs and name not in left_out:
      if quantize.is_quantized(leaf):
        array = packed.whole(reader, name, leaf)
      else:
        array = tensors.whole(reader, name, leaf.dtype)
      flat[name] = jax.tree.map(_placed, leaf, array)
  return tree.unflatten(flat)


def _placed(leaf, array):
  place = leaf.shape, leaf.sharding
  return jax.make_array_from_callback(*place, array.__getitem__)


def _left_out(dont_load, known, where):
  """Returns the names that are not loaded, and says which they are.

  Args:
    dont_load: regexes.
    known: list of names, of the model and of the file.
    where: str, the weights, for messages.

  Raises:
    ValueError: a regex is no name's.
  """
  found = set()
  for regex in dont_load:
    names = [name for name in known if re.fullmatch(regex, name)]
    if not names:
      near = [name for name in known if re.search(regex, name)]
      near = near or difflib.get_close_matches(regex, known, cutoff=0.4)
      raise ValueError(
        f"dont_load {regex!r} is the whole name of no parameter of the model or"
        f" of {where}; near ones: {', '.join(tree.some(near or known))}"
      )
    found.update(names)
  if found:
    progress.say(
      f"not loaded from {where}: {len(found)} parameters, which start as drawn:"
      f" {', '.join(tree.some(sorted(found)))}"
    )
  return found


def _finite(params):
  """Returns parameters that are on their devices, if all are numbers."""
  are = lambda x: jnp.isfinite(x).all()
  for name, fine in tree.flatten(
    jax.jit(lambda p: jax.tree.map(are, p))(params)
  ).items():
    if not fine:
      raise tensors.not_finite(name)
  return params
