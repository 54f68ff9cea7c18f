"""Gradient accumulation: a batch in parts, one after the other.

Where each example is a part, its gradient may be clipped before it is added.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from pg import sharding, tree
from pg.models import layers, quantize


def check(c, mesh):
  """Raises ValueError when a config's batch cannot be taken apart on a mesh."""
  sharding.check_batch(c.batch_size, mesh, c.num_microbatches)
  if not c.example_clip:
    return
  if c.num_microbatches > 1:
    raise ValueError(
      f"num_microbatches {c.num_microbatches} with example_clip, which takes"
      " one example at a time; wanted 1"
    )
  if any(mesh.shape[axis] > 1 for axis in sharding.BATCH):
    raise ValueError(
      "example_clip wants each example's whole gradient, but devices that share"
      " a batch add theirs up; train on one device or set example_clip to 0"
    )


def value_and_grad(
  loss_fn, params, is_frozen, rows, rng, num_parts, max_norm=None
):
  """Returns the loss of a batch, and its gradients.

  Activations are of one part at a time. Frozen parameters cost nothing: their
  gradients are zeros, and None those of quantised ones.

  Args:
    loss_fn: function (params, rows, rng) -> f32[], a sum over rows.
    params: tree of arrays.
    is_frozen: tree of bool like the parameters.
    rows: tree of arrays [B, ...].
    rng: key of `loss_fn`; of several parts each has its own.
    num_parts: int that divides B.
    max_norm: f32[], to which the gradient of each part is scaled down if its
      norm is larger; None is off.

  Returns:
    f32[], and a tree like the parameters.
  """
  # None is a tree without leaves.
  free = jax.tree.map(lambda f, p: None if f else p, is_frozen, params)
  choose = lambda f, x, y: y if f else x

  def loss(free, rows, rng):
    return loss_fn(jax.tree.map(choose, is_frozen, free, params), rows, rng)

  if num_parts == 1 and max_norm is None:
    value, grads = jax.value_and_grad(loss)(free, rows, rng)
  else:
    # To which each part adds its own, layer by layer: without a norm to clip
    # by, no part has gradients of all parameters beside them.
    sums = jax.tree.map(lambda p: jax.new_ref(jnp.zeros_like(p)), free)

    def add(total, part):
      i, rows = part
      of_part = lambda p: loss(p, rows, jax.random.fold_in(rng, i))
      value, pull = jax.vjp(of_part, free)
      one = jnp.ones_like(value)
      if max_norm is None:
        pull.with_refs(sums)(one)
      else:
        (grads,) = pull(one)
        # Of a norm of 0 the scale is 1.
        scale = jnp.minimum(1.0, max_norm / optax.tree.norm(grads))
        jax.tree.map(lambda s, g: s.addupdate(g * scale), sums, grads)
      return total + value, None

    parts = jax.tree.map(functools.partial(_split, num=num_parts), rows)
    numbered = jnp.arange(num_parts), parts
    value, _ = jax.lax.scan(add, jnp.float32(0), numbered)
    grads = jax.tree.map(jax.freeze, sums)
  zeros = tree.map_named(
    lambda _, p: None if quantize.is_quantized(p) else jnp.zeros_like(p), params
  )
  return value, jax.tree.map(choose, is_frozen, grads, zeros)


def _split(x, num):
  """Splits [B, ...] into [num, B / num, ...]; row i goes to part i % num.

  So each device has as many rows of every part, and keeps its rows.
  """
  x = layers.constrain(x.reshape(-1, num, *x.shape[1:]))
  return x.swapaxes(0, 1)
