"""The train state: its contents, and where it lives on the mesh."""

import functools

import jax
import jax.numpy as jnp

from pg import sharding, tree
from pg.models import lora, paligemma, quantize


def of_params(params, tx):
  """Returns the state before the first step.

  Args:
    params: tree of f32 arrays; frozen ones may be in half precision, or
      quantised.
    tx: the optimizer.

  Returns:
    dict with `params`, `opt` (optax state) and `step` i32[].
  """
  return dict(params=params, opt=tx.init(params), step=jnp.int32(0))


def kept(cfg, state):
  """Returns what of a state a checkpoint has: of weights with adapters these.

  Args:
    cfg: paligemma.Config.
    state: as of `of_params`.
  """
  if cfg.lora is None:
    return state
  return {**state, "params": {lora.ROOT: state["params"][lora.ROOT]}}


def shapes(cfg, is_frozen, dtype="float32"):
  """Returns the parameters' shapes; those that are frozen have a dtype.

  Where that names a format of quantize.py, what is not quantised is f32.
  """
  frozen = tree.flatten(is_frozen)

  def shape(name, x):
    if not frozen[name]:
      return x
    if dtype in quantize.DTYPES:
      return quantize.abstract(quantize.Format(dtype), name, x)
    return jax.ShapeDtypeStruct(x.shape, dtype)

  return tree.map_named(shape, paligemma.shapes(cfg))


def abstract(cfg, tx, mesh, rules, params=None):
  """Returns the state's shapes, dtypes and shardings.

  Moments are placed like their parameters, everything else is replicated.

  Args:
    cfg: paligemma.Config.
    tx: the optimizer.
    mesh: the mesh.
    rules: pairs of a regex and a strategy, see pg/sharding.py.
    params: what `shapes` returned; by default all are f32.

  Returns:
    dict as of `of_params`, of jax.ShapeDtypeStruct.
  """
  params = paligemma.shapes(cfg) if params is None else params
  state = jax.eval_shape(functools.partial(of_params, tx=tx), params)
  flat = tree.flatten(params)

  def place(path, leaf):
    keys = [str(k.key) for k in path if isinstance(k, jax.tree_util.DictKey)]
    names = ("/".join(keys[i:]) for i in range(len(keys)))
    name = next((n for n in names if n in flat), None)
    spec = sharding.replicated(mesh)
    of = flat.get(name)
    # Else it is means of rows or columns.
    if name and (quantize.is_quantized(of) or leaf.shape == of.shape):
      rule = sharding.spec(name, of.shape, mesh, rules)
      rule = sharding.dividing(rule, leaf.shape, mesh)
      spec = jax.sharding.NamedSharding(mesh, rule)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec)

  return jax.tree_util.tree_map_with_path(place, state)
