"""Steps that are not finite: not taken, counted, said, and not for ever."""

import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from pg.learn import finite

PARAMS = {"w": jnp.array([1.0, 2.0])}
SKIP = ml_collections.ConfigDict(dict(policy="skip", max_in_row=2))
STOP = ml_collections.ConfigDict(dict(policy="stop", max_in_row=2))
NAN, INF = float("nan"), float("inf")


def test_a_step_that_is_not_finite_changes_nothing_but_the_counts():
  tx, plain = finite.skipping(optax.adam(0.1)), optax.adam(0.1)
  state, want = tx.init(PARAMS), plain.init(PARAMS)
  seen = []
  # The norm of the fourth overflows.
  for size in (1.0, NAN, INF, 1e30, 2.0, NAN):
    grads = {"w": jnp.array([size, 1.0])}
    before = state.inner
    updates, state = jax.jit(tx.update)(grads, state, PARAMS)
    if size in (1.0, 2.0):
      wanted, want = plain.update(grads, want, PARAMS)
      np.testing.assert_allclose(updates["w"], wanted["w"], rtol=1e-6)
    else:
      assert not updates["w"].any()
      for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(state.inner)):
        np.testing.assert_array_equal(x, y)
    seen.append(tuple(int(x) for x in finite.counts(state).values()))
  assert seen == [(0, 0), (1, 1), (2, 2), (3, 3), (3, 0), (4, 1)]


def check(measured, policy):
  closed = []
  manager = types.SimpleNamespace(close=lambda: closed.append(1), latest=int)
  try:
    finite.check(7, measured, manager, policy)
  finally:
    assert len(closed) <= 1
  return closed


def measured(in_row, loss=NAN):
  return {
    "train/loss": jnp.float32(loss),
    finite.SKIPPED: jnp.int32(5),
    finite.IN_ROW: jnp.int32(in_row),
  }


def test_what_is_skipped_is_said_and_too_many_in_a_row_end_the_run(capsys):
  check(measured(0, loss=1.0), SKIP)
  assert not capsys.readouterr().err
  check(measured(2), SKIP)
  said = capsys.readouterr().err
  assert "train/loss is nan at step 7: it is skipped, 5 so far" in said
  with pytest.raises(FloatingPointError, match="at step 7 and in 2 steps befo"):
    check(measured(3), SKIP)
  # What is measured of a step that was not taken may all be finite.
  check(measured(1, loss=1.0), SKIP)
  said = capsys.readouterr().err
  assert "the update is not finite at step 7: it is skipped, 5 so far" in said
  with pytest.raises(
    FloatingPointError, match="is not finite at step 7 and in"
  ):
    check(measured(3, loss=1.0), SKIP)
  # Of a step that was taken no number may be nan.
  with pytest.raises(FloatingPointError, match="train/loss is nan at step 7"):
    check(measured(0), SKIP)


def test_without_a_checkpoint_none_is_named():
  manager = types.SimpleNamespace(close=int, latest=lambda: None)
  with pytest.raises(FloatingPointError, match="7; nothing was saved yet. Try"):
    finite.check(7, {"train/loss": jnp.float32(NAN)}, manager, STOP)


def test_by_default_the_first_one_ends_the_run():
  with pytest.raises(FloatingPointError, match="step 7; the last good check"):
    check({"train/loss": jnp.float32(INF)}, STOP)
