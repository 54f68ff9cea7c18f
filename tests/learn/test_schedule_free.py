"""Schedule-free descent beside optax's, and where its gradients are taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from pg import train, tree
from pg.learn import optim, schedule_free
from pg.models import paligemma
from tests.learn import test_optim
from tests.support import toy

GOAL = {"a": jnp.array([3.0, -1.0]), "b": jnp.array([[0.5]])}


def gradients(params):
  return jax.tree.map(lambda x, y: x - y, params, GOAL)


@pytest.mark.parametrize("warmup", (0, 3))
def test_it_is_what_optax_has(warmup):
  """Theirs keeps y and computes x when it is asked for; ours keeps x."""
  curve = lambda n: jnp.minimum(1.0, n / warmup) if warmup else jnp.float32(1)
  base = optax.chain(
    optax.scale_by_rms(0.9, eps_in_sqrt=False, bias_correction=True),
    optax.add_decayed_weights(0.1),
    optax.scale(0.3),
    optax.scale_by_learning_rate(curve),
  )
  # Of the first step theirs is called with 1.
  theirs = contrib.schedule_free(base, lambda n: curve(n - 1), b1=0.8)
  ours = schedule_free.averaged(base, 0.8, curve)
  y = x = jax.tree.map(jnp.ones_like, GOAL)
  their, own = theirs.init(y), ours.init(x)
  for _ in range(8):
    steps, their = theirs.update(gradients(y), their, y)
    y = optax.apply_updates(y, steps)
    here = gradients(schedule_free.at(x, own))
    steps, own = ours.update(here, own, x)
    x = optax.apply_updates(x, steps)
    want = contrib.schedule_free_eval_params(their, y)
    for have, wanted in ((x, want), (schedule_free.at(x, own), y)):
      for name, value in wanted.items():
        np.testing.assert_allclose(have[name], value, rtol=1e-5, atol=1e-6)
  assert np.abs(x["a"] - 1).max() > 0.1


def test_a_step_takes_its_gradient_between_both(monkeypatch):
  cfg, rows = toy.config(), toy.batch([((True,), 3, 4)] * 2, text_len=9)
  rows["source"] = np.zeros(2, np.int32)
  params = toy.params(paligemma.shapes(cfg))
  c = test_optim.options(
    optimizer="schedule_free",
    b1=0.6,
    lr=0.05,
    warmup=0,
    wd_mult=((".*", 0.0),),
    schedule=(("llm/.*", "constant"), (".*", None)),
  )
  tx, frozen = optim.make(c, params, 10), optim.frozen(params, c.schedule)
  step = functools.partial(
    train.update, cfg=cfg, tx=tx, is_frozen=frozen, label_smoothing=0.0, seed=0
  )
  step = jax.jit(step)
  state = dict(params=params, opt=tx.init(params), step=jnp.int32(0))
  for _ in range(2):
    state, measured = step(state, rows)
  y = schedule_free.at(state["params"], state["opt"])
  flat, at = tree.flatten(state["params"]), tree.flatten(y)
  moved = {k for k in flat if (flat[k] != at[k]).any()}
  assert moved and all(k.startswith("llm/") for k in moved)
  _, measured = step(state, rows)
  plain = optax.sgd(0.0)
  there = dict(params=y, opt=plain.init(y), step=jnp.int32(0))
  _, want = jax.jit(functools.partial(step.__wrapped__, tx=plain))(there, rows)
  assert float(measured["train/loss"]) == pytest.approx(
    float(want["train/loss"]), rel=1e-5
  )
  there = dict(there, params=state["params"])
  _, other = jax.jit(functools.partial(step.__wrapped__, tx=plain))(there, rows)
  assert abs(float(other["train/loss"]) - float(want["train/loss"])) > 1e-4


def test_a_schedule_that_decays_is_refused():
  c = test_optim.options(optimizer="schedule_free")
  with pytest.raises(ValueError, match="schedule 'cosine' of '.*wanted 'const"):
    optim.make(c, test_optim.arrays(test_optim.PARAMS), 10)
