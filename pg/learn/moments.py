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

  count: jax.Array  # i32[], steps taken; what is rounded up follows from it
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
    seed = state.count.astype(jnp.uint32) * jnp.uint32(len(leaves))
    new = [
      at_random(x, _mixed(seed + jnp.uint32(i))) if h else x
      for i, (x, h) in enumerate(zip(structure.flatten_up_to(inner), is_half))
    ]
    return updates, State(state.count + 1, structure.unflatten(new))

  return optax.GradientTransformation(init, update)


def at_random(x, seed):
  """Rounds f32[...] to one of the two bf16[...] around each, right on average.

  Args:
    x: f32[...], finite.
    seed: u32[].
  """
  # A hash of where an element is: each device makes those of its own part, and
  # a compiler is through in no time, unlike with jax.random (minutes for 3B).
  at = jnp.full(x.shape, seed)
  for axis, size in enumerate(x.shape):
    at = at * jnp.uint32(size)
    at += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
  # A bfloat16 is the upper half of a float32's bits.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
  upper = (bits + (_mixed(at) >> 16)) >> 16
  return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)


def _mixed(x):
  """Maps u32[...] to numbers of which every bit depends on every bit of it.

  It is the end of MurmurHash3.
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
