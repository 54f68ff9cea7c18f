"""The train state: its contents, and where it lives on the mesh."""

import functools

import jax
import jax.numpy as jnp

from pg import sharding, tree
from pg.models import paligemma


def of_params(params, tx):
  """Returns the state before the first step.

  Args:
    params: tree of f32 arrays.
    tx: the optimizer.

  Returns:
    dict with `params`, `opt` (optax state) and `step` i32[].
  """
  return dict(params=params, opt=tx.init(params), step=jnp.int32(0))


def abstract(cfg, tx, mesh, rules):
  """Returns the state's shapes, dtypes and shardings.

  Moments are placed like their parameters, everything else is replicated.

  Args:
    cfg: paligemma.Config.
    tx: the optimizer.
    mesh: the mesh.
    rules: pairs of a regex and a strategy, see pg/sharding.py.

  Returns:
    dict as of `of_params`, of jax.ShapeDtypeStruct.
  """
  shapes = paligemma.shapes(cfg)
  state = jax.eval_shape(functools.partial(of_params, tx=tx), shapes)
  flat = tree.flatten(shapes)

  def place(path, leaf):
    keys = [str(getattr(k, "key", "")) for k in path]
    names = ("/".join(keys[i:]) for i in range(len(keys)))
    name = next((n for n in names if n in flat), None)
    spec = sharding.replicated(mesh)
    if name:
      rule = sharding.spec(name, leaf.shape, mesh, rules)
      spec = jax.sharding.NamedSharding(mesh, rule)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec)

  return jax.tree_util.tree_map_with_path(place, state)
