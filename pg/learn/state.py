"""The train state: its contents, and where it lives on the mesh."""

import functools

import jax
import jax.numpy as jnp

from pg import sharding, tree
from pg.models import paligemma


def of_params(params, tx):
  """Returns the state before the first step.

  Args:
    params: tree of f32 arrays; frozen ones may be in half precision.
    tx: the optimizer.

  Returns:
    dict with `params`, `opt` (optax state) and `step` i32[].
  """
  return dict(params=params, opt=tx.init(params), step=jnp.int32(0))


def shapes(cfg, is_frozen, dtype="float32"):
  """Returns the parameters' shapes; those that are frozen have a dtype."""
  return jax.tree.map(
    lambda x, f: jax.ShapeDtypeStruct(x.shape, dtype if f else x.dtype),
    paligemma.shapes(cfg),
    is_frozen,
  )


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
    keys = [str(getattr(k, "key", "")) for k in path]
    names = ("/".join(keys[i:]) for i in range(len(keys)))
    name = next((n for n in names if n in flat), None)
    spec = sharding.replicated(mesh)
    if name and leaf.shape == flat[name].shape:  # else means of rows, columns
      rule = sharding.spec(name, leaf.shape, mesh, rules)
      spec = jax.sharding.NamedSharding(mesh, rule)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec)

  return jax.tree_util.tree_map_with_path(place, state)
