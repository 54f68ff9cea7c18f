"""A batch in parts is the batch: loss, gradients, on one device and on four."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg import sharding, train, tree
from pg.data import stream
from pg.learn import accumulate, optim
from pg.learn import state as state_lib
from pg.models import paligemma
from tests.support import toy

FROZEN = (("img/Transformer/.*", None), (".*", "cosine"))


def step(num_microbatches, num_devices=1):
  """Returns a compiled step, and its arguments.

  The "optimizer" keeps the gradient as its state. Of eight rows one is padding
  and two have no target, so that parts of the batch differ in how many count.
  """
  cfg, tx = toy.config(), optax.trace(decay=0.0)
  mesh = sharding.make_mesh({"fsdp": -1}, jax.devices()[:num_devices])
  params = toy.params(paligemma.shapes(cfg))
  place = state_lib.abstract(cfg, tx, mesh, ((".*", "fsdp"),))
  start = jax.tree.map(
    lambda x, at: jax.device_put(x, at.sharding),
    state_lib.of_params(params, tx),
    place,
  )
  rows = [((True,), 1 + b % 3, b % 5) for b in range(8)]
  batch = toy.batch(rows, text_len=9)
  batch["index"][6] = -1
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=optim.frozen(params, FROZEN),
    label_smoothing=0.1,
    seed=0,
    num_microbatches=num_microbatches,
  )
  with jax.set_mesh(mesh):
    args = start, stream.put(batch, mesh)
    return jax.jit(update).lower(*args).compile(), args


@pytest.fixture(scope="module")
def whole():
  compiled, args = step(1)
  return compiled(*args)


@pytest.mark.parametrize("num, num_devices", ((4, 1), (2, 4)))
def test_a_step_in_parts_is_the_step_of_the_whole_batch(
  num, num_devices, whole, monkeypatch
):
  monkeypatch.setattr(sharding, "SMALL", 1)
  compiled, args = step(num, num_devices)
  end, measured = compiled(*args)
  want, want_measured = whole
  for key, value in want_measured.items():
    np.testing.assert_allclose(measured[key], value, rtol=1e-5)
  have = tree.flatten(jax.device_get(end["opt"].trace))
  for name, gradient in tree.flatten(want["opt"].trace).items():
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(have[name], gradient, atol=1e-5 * scale + 1e-7)
    assert have[name].any() != name.startswith("img/Transformer"), name
  # Rows stay where they are: no device sends pixels or tokens.
  moved = re.findall(
    r"= (.*) (?:all-|reduce-scatter|collective)[a-z-]*\(", compiled.as_text()
  )
  assert (num_devices > 1) == bool(moved)
  assert not re.findall(r"u8\[", " ".join(moved))


def test_parts_draw_different_numbers():
  draw = lambda params, rows, rng: jnp.sum(jax.random.normal(rng, rows.shape))
  args = {}, {}, jnp.zeros((4, 3)), jax.random.key(0)
  value = lambda num: float(accumulate.value_and_grad(draw, *args, num)[0])
  one = float(jnp.sum(jax.random.normal(jax.random.key(0), (4, 3))))
  assert value(1) == pytest.approx(one)
  parts = [jax.random.fold_in(jax.random.key(0), i) for i in range(2)]
  two = sum(float(jnp.sum(jax.random.normal(k, (2, 3)))) for k in parts)
  assert value(2) == pytest.approx(two)
