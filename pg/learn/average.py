"""The exponential moving average of the parameters, beside them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from pg import tree


class State(NamedTuple):
  """The state of `averaged`."""

  count: jax.Array  # i32[], steps taken
  ema: optax.Params  # f32, of the parameters that are trained
  inner: optax.OptState


def averaged(tx, decay):
  """Keeps the average of what an optimizer makes of the parameters.

  After n steps it moves by the larger of 1 - decay and 9 / (10 + n), so that it
  has forgotten where it started from in short runs, too.

  Args:
    tx: optax.GradientTransformation; its steps stay what they are.
    decay: float in (0, 1).
  """

  def init(params):
    # Copies, as both are donated to the first step.
    ema = jax.tree.map(jnp.copy, params)
    return State(jnp.int32(0), ema, tx.init(params))

  def update(grads, state, params):
    updates, inner = tx.update(grads, state.inner, params)
    count = state.count + 1
    rate = jnp.maximum(1 - decay, 9 / (10 + count.astype(jnp.float32)))
    ema = jax.tree.map(
      lambda m, p, u: m + rate * (p + u - m), state.ema, params, updates
    )
    return updates, State(count, ema, inner)

  return optax.GradientTransformation(init, update)


def of(state):
  """Returns the averaged parameters of a train state; None where none are.

  What is frozen is the parameter itself.
  """
  is_ours = lambda x: isinstance(x, State)
  found = [x for x in jax.tree.leaves(state["opt"], is_leaf=is_ours)]
  found = [x for x in found if is_ours(x)]
  if not found:
    return None
  flat = tree.flatten(state["params"])
  for name, x in tree.flatten(found[0].ema).items():
    if not isinstance(x, optax.MaskedNode):
      flat[name] = x
  return tree.unflatten(flat)
