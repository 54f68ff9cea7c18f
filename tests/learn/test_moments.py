"""Moments in bfloat16: half the memory, right on average, the same twice."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg.learn import moments


def test_a_number_is_rounded_to_a_neighbour_and_is_right_on_average():
  # Between 1 and the next bfloat16, 1 + 2^-7; and its mirror image.
  for sign in (1.0, -1.0):
    x = jnp.full(100_000, sign * (1 + 2**-9))
    rounded = np.float32(moments.at_random(x, jnp.uint32(7)))
    assert set(np.abs(rounded).tolist()) == {1.0, 1 + 2**-7}
    assert np.mean(rounded) == pytest.approx(sign * (1 + 2**-9), abs=1e-4)
  # Neighbours, and two tensors, are not rounded alike.
  x = jnp.full((100, 1000), 1 + 2**-8)
  up = [np.float32(moments.at_random(x, jnp.uint32(s))) > 1 for s in (1, 2)]
  x, y = up
  pairs = (x[:, 1:], x[:, :-1]), (x[1:], x[:-1]), (x[1:, :-1], x[:-1, 1:])
  for one, other in (*pairs, (x, y)):
    assert np.mean(one == other) == pytest.approx(0.5, abs=0.01)
  exact = jnp.array([0.0, -0.0, 1.5, -(2.0**-20), 3e38])
  exact = exact.astype(jnp.bfloat16).astype(jnp.float32)
  again = moments.at_random(exact, jnp.uint32(1))
  np.testing.assert_array_equal(np.float32(again), exact)


def test_a_second_moment_does_not_stand_still():
  """A gradient that halves: bfloat16 to the nearest would never notice."""
  params = {"w": jnp.ones(1000)}
  exact = optax.scale_by_adam(b2=0.999)
  half = moments.rounded(exact)
  states = exact.init(params), half.init(params)
  updates = jax.jit(exact.update), jax.jit(half.update)
  for size in (1.0, 0.5):
    grads = {"w": jnp.full(1000, size)}
    for _ in range(300):
      steps, states = zip(
        *(u(grads, s) for u, s in zip(updates, states, strict=True))
      )
  mu, nu = states[1].inner.mu["w"], states[1].inner.nu["w"]
  assert mu.dtype == nu.dtype == jnp.bfloat16
  want = float(states[0].nu["w"][0])
  assert np.mean(np.float32(nu)) == pytest.approx(want, rel=2e-3)
  want = float(steps[0]["w"][0])
  assert np.mean(steps[1]["w"]) == pytest.approx(want, rel=5e-3)


def test_random_numbers_follow_from_the_number_of_the_step():
  params = {"w": jnp.zeros(64), "b": jnp.zeros(())}
  tx = moments.rounded(optax.scale_by_adam())
  grads = {"w": jnp.linspace(0.1, 0.7, 64), "b": jnp.float32(0.3)}
  _, first = tx.update(grads, tx.init(params))
  _, again = tx.update(grads, tx.init(params))
  _, second = tx.update(grads, first)
  same = lambda a, b: np.array_equal(a.inner.nu["w"], b.inner.nu["w"])
  assert same(first, again) and not same(first, second)
  # Counts and scalars stay what they are.
  assert first.inner.nu["b"].dtype == jnp.float32
  assert first.inner.count.dtype == jnp.int32
