"""Steps whose numbers are not finite: they end the run, or are skipped."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pg import progress

SKIPPED, IN_ROW = "train/skipped", "train/skipped_in_row"


class State(NamedTuple):
  """The state of `skipping`."""

  skipped: jax.Array  # i32[], steps of the run
  in_row: jax.Array  # i32[], those up to now
  inner: optax.OptState


def skipping(tx):
  """Takes no step where gradients or the step are not finite, and counts them.

  Args:
    tx: optax.GradientTransformation.
  """

  def init(params):
    return State(jnp.int32(0), jnp.int32(0), tx.init(params))

  def update(grads, state, params=None):
    updates, inner = tx.update(grads, state.inner, params)
    norms = optax.tree.norm(grads), optax.tree.norm(updates)
    fine = jnp.isfinite(jnp.array(norms)).all()
    keep = lambda new, old: jnp.where(fine, new, old)
    updates = jax.tree.map(lambda x: keep(x, jnp.zeros_like(x)), updates)
    return updates, State(
      state.skipped + ~fine,
      keep(0, state.in_row + 1),
      jax.tree.map(keep, inner, state.inner),
    )

  return optax.GradientTransformation(init, update)


def counts(opt):
  """Returns {metric: i32[]} of an optimizer's state, empty where none skips."""
  if not isinstance(opt, State):
    return {}
  return {SKIPPED: opt.skipped, IN_ROW: opt.in_row}


def check(step, measured, manager, policy):
  """Raises FloatingPointError when a measurement of a step is not finite.

  The loss is that of the parameters before the step; the norm of the update
  tells whether those after it may be kept.

  Args:
    step: int.
    measured: {name: f32[]}, of `train.update`.
    manager: saver.Manager of the run; it is closed before the error.
    policy: the config's `nonfinite`; what is skipped is said.
  """
  told = {k: v for k, v in measured.items() if k.count("/") == 1}  # of all
  values = jax.device_get(told)
  bad = [k for k, v in values.items() if not np.isfinite(v)]
  in_row = values.get(IN_ROW, 0)
  if not bad and not in_row:
    return
  limit = policy.max_in_row if policy.policy == "skip" else 0
  # Where only the update is not, it was set to 0.
  said = f"{bad[0]} is {values[bad[0]]}" if bad else "the update is not finite"
  said += f" at step {step}"
  if 0 < in_row <= limit:
    progress.say(f"{said}: it is skipped, {values[SKIPPED]} so far")
    return
  manager.close()
  row = f" and in {limit} steps before it" if limit else ""
  last = manager.latest()
  kept = "nothing was saved yet"
  if last is not None:
    kept = f"the last good checkpoint is of step {last}"
  raise FloatingPointError(
    f"{said}{row}; {kept}. Try a smaller lr or a longer warmup"
  )
