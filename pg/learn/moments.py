"""Optimizer state in half the memory: bfloat16, rounded at random.

To the nearest number a second moment with b2 = 0.999 would stand still: its
steps, a thousandth, are below bfloat16's 1/256. Rounded up as often as a value
is close to the number above, it is right on average.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class State(NamedTuple):
  """The state of `rounded`."""

  count: jax.Array  # i32[], steps taken; the random numbers follow from it
  inner: optax.OptState


def rounded(tx):
  """Keeps in bfloat16 what an optimizer has of a parameter's shape.

  Args:
    tx: optax.GradientTransformation, computed in float32 as before.
  """

  def init(params):
    # Counts have no dimensions.
    shapes = {p.shape for p in jax.tree.leaves(params)} - {()}
    small = lambda x: x.astype(jnp.bfloat16) if x.shape in shapes else x
    return State(jnp.int32(0), jax.tree.map(small, tx.init(params)))

  def update(grads, state, params=None):
    leaves, structure = jax.tree.flatten(state.inner)
    is_half = [x.dtype == jnp.bfloat16 for x in leaves]
    wide = [x.astype(jnp.float32) if h else x for x, h in zip(leaves, is_half)]
    updates, inner = tx.update(grads, structure.unflatten(wide), params)
    rng = jax.random.fold_in(jax.random.key(0), state.count)
    new = [
      at_random(x, jax.random.fold_in(rng, i)) if h else x
      for i, (x, h) in enumerate(zip(structure.flatten_up_to(inner), is_half))
    ]
    return updates, State(state.count + 1, structure.unflatten(new))

  return optax.GradientTransformation(init, update)


def at_random(x, rng):
  """Rounds f32[...] to one of the two bf16[...] around each, right on average.

  Args:
    x: f32[...], finite.
    rng: key.
  """
  # A bfloat16 is the upper half of a float32's bits.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  bits += jax.random.bits(rng, x.shape, jnp.uint16)
  upper = (bits >> 16).astype(jnp.uint16)
  return jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
