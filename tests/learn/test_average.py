"""The average of parameters is that of the formula, and changes no step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg.learn import average

PARAMS = {"a": {"w": jnp.array([1.0, 2.0])}, "b": jnp.array([3.0])}


def test_the_average_forgets_its_start_and_is_that_of_trained_parameters():
  free = {"a": {"w": True}, "b": False}
  tx = optax.masked(average.averaged(optax.scale(-1.0), 0.7), free)
  params, opt = PARAMS, tx.init(PARAMS)
  mean = np.array([1.0, 2.0])
  for n in range(1, 60):
    grads = {"a": {"w": jnp.array([0.1, -0.1])}, "b": jnp.zeros(1)}
    updates, opt = jax.jit(tx.update)(grads, opt, params)
    np.testing.assert_array_equal(updates["a"]["w"], -grads["a"]["w"])
    params = optax.apply_updates(params, updates)
    rate = max(0.3, 9 / (10 + n))
    mean = mean + rate * (np.array(params["a"]["w"]) - mean)
    have = average.of(dict(params=params, opt=opt))
    np.testing.assert_allclose(have["a"]["w"], mean, rtol=1e-5)
    assert have["b"] is params["b"]
  # It has caught up with a line: 0.1 a step, 0.7 / 0.3 steps late.
  assert float(params["a"]["w"][0] - mean[0]) == pytest.approx(
    -0.7 / 3, rel=0.01
  )


def test_without_an_average_there_is_none():
  tx = optax.scale_by_adam()
  assert average.of(dict(params=PARAMS, opt=tx.init(PARAMS))) is None
