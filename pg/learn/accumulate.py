"""Gradient accumulation: a batch in parts, one after the other."""

import functools

import jax
import jax.numpy as jnp

from pg.models import layers


def value_and_grad(loss_fn, params, is_frozen, rows, rng, num_parts):
  """Returns the loss of a batch, and its gradients.

  Activations are of one part at a time. Frozen parameters cost nothing: their
  gradients are zeros.

  Args:
    loss_fn: function (params, rows, rng) -> f32[], a sum over rows.
    params: tree of arrays.
    is_frozen: tree of bool like the parameters.
    rows: tree of arrays [B, ...].
    rng: key of `loss_fn`; of several parts each has its own.
    num_parts: int that divides B.

  Returns:
    f32[], and a tree like the parameters.
  """
  # None is a tree without leaves.
  free = jax.tree.map(lambda p, f: None if f else p, params, is_frozen)
  choose = lambda f, x, y: y if f else x

  def loss(free, rows, rng):
    return loss_fn(jax.tree.map(choose, is_frozen, free, params), rows, rng)

  step = jax.value_and_grad(loss)
  if num_parts == 1:
    value, grads = step(free, rows, rng)
  else:

    def add(sums, part):
      i, rows = part
      values = step(free, rows, jax.random.fold_in(rng, i))
      return jax.tree.map(jnp.add, sums, values), None

    parts = jax.tree.map(functools.partial(_split, num=num_parts), rows)
    zeros = jnp.float32(0), jax.tree.map(jnp.zeros_like, free)
    numbered = jnp.arange(num_parts), parts
    (value, grads), _ = jax.lax.scan(add, zeros, numbered)
  zeros = jax.tree.map(jnp.zeros_like, params)
  return value, jax.tree.map(choose, is_frozen, grads, zeros)


def _split(x, num):
  """Splits [B, ...] into [num, B / num, ...]; row i goes to part i % num.

  So each device has as many rows of every part, and keeps its rows.
  """
  x = layers.constrain(x.reshape(-1, num, *x.shape[1:]))
  return x.swapaxes(0, 1)
