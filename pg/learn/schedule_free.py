"""Schedule-free descent: an average of the parameters in place of a decay.

The optimizer's steps move z; parameters x are the mean of all z, weighted with
the squares of the highest learning rate so far; gradients are taken between
both, at y = b1 * x + (1 - b1) * z. What a run keeps, scores and writes is x,
and z is part of the optimizer's state (arXiv:2405.15682).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pg import tree


class State(NamedTuple):
  """The state of `averaged`."""

  count: jax.Array  # i32[], steps taken
  highest: jax.Array  # f32[], factor of a step's size so far
  total: jax.Array  # f32[], of the weights so far
  b1: jax.Array  # f32[], the share of x where gradients are taken
  z: optax.Params  # f32, of the parameters that are trained
  inner: optax.OptState


def averaged(tx, b1, curve):
  """Averages what an optimizer makes of the parameters.

  Args:
    tx: optax.GradientTransformation, one without momentum.
    b1: float in [0, 1).
    curve: function from steps done to the factor of a step's size.
  """

  def init(params):
    zero = jnp.float32(0)
    # Copies, as both are donated to the first step.
    z = jax.tree.map(jnp.copy, params)
    own = jnp.int32(0), zero, jnp.copy(zero), jnp.float32(b1)
    return State(*own, z, tx.init(params))

  def update(grads, state, params):
    y = jax.tree.map(lambda x, z: _between(state, x, z), params, state.z)
    steps, inner = tx.update(grads, state.inner, y)
    z = jax.tree.map(jnp.add, state.z, steps)
    highest = jnp.maximum(state.highest, curve(state.count))
    weight = jnp.square(highest)
    total = state.total + weight
    share = jnp.where(total > 0, weight / jnp.where(total > 0, total, 1), 0)
    updates = jax.tree.map(lambda x, z: share * (z - x), params, z)
    own = state.count + 1, highest, total, state.b1
    return updates, State(*own, z, inner)

  return optax.GradientTransformation(init, update)


def at(params, opt):
  """Returns the parameters where gradients are to be taken.

  Args:
    params: tree of arrays.
    opt: an optimizer's state; where none is averaged, they are `params`.
  """
  is_ours = lambda x: isinstance(x, State)
  found = filter(is_ours, jax.tree.leaves(opt, is_leaf=is_ours))
  flat = tree.flatten(params)
  for state in found:
    for name, z in tree.flatten(state.z).items():
      if not isinstance(z, optax.MaskedNode):
        flat[name] = _between(state, flat[name], z)
  return tree.unflatten(flat)


def _between(state, x, z):
  return x + (1 - state.b1) * (z - x)
