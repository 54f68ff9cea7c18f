"""A batch in parts is the batch: loss, gradients, on one device and on four."""

import functools
import re
import types

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


def step(num_microbatches, num_devices=1, example_clip=0.0):
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
    example_clip=example_clip,
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


def test_each_examples_gradient_is_clipped_before_the_mean():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(5, 3)), rng.normal(size=5) * 5
  params = {"w": jnp.ones(3), "b": jnp.float32(0.5), "fixed": jnp.float32(2)}
  real = np.array([1, 1, 0, 1, 1])

  def loss(params, x, y):
    return (params["fixed"] * (x @ params["w"] + params["b"]) - y) ** 2

  each = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, y)
  norms = np.sqrt((each["w"] ** 2).sum(axis=1) + each["b"] ** 2)
  max_norm = float(np.median(norms))
  scale = np.minimum(1, max_norm / norms) * real / 4
  assert 0 < (norms[real > 0] > max_norm).sum() < 4

  def total(params, rows, rng):
    x, y, weights = rows
    return jnp.sum(jax.vmap(loss, (None, 0, 0))(params, x, y) * weights)

  is_frozen = {"w": False, "b": False, "fixed": True}
  rows = tuple(map(jnp.array, (x, y, real / 4)))
  args = params, is_frozen, rows, jax.random.key(0), 5, max_norm / 4
  value, grads = accumulate.value_and_grad(total, *args)
  assert value == pytest.approx(float(total(params, rows, None)), rel=1e-6)
  np.testing.assert_allclose(grads["w"], scale @ each["w"], rtol=1e-5)
  np.testing.assert_allclose(grads["b"], scale @ each["b"], rtol=1e-5)
  assert grads["fixed"] == 0


def test_a_step_clips_each_example_and_counts_those_that_are_real(whole):
  # Of five of eight rows the gradient is not 0; with padding seven are real.
  compiled, args = step(1, example_clip=1e-3)
  end, measured = compiled(*args)
  np.testing.assert_allclose(
    measured["train/loss"], whole[1]["train/loss"], rtol=1e-5
  )
  assert 0 < measured["train/grad_norm"] <= 5 / 7 * 1e-3 * 1.0001
  compiled, args = step(1, example_clip=1e9)
  _, measured = compiled(*args)
  norms = measured["train/grad_norm"], whole[1]["train/grad_norm"]
  np.testing.assert_allclose(*norms, rtol=1e-4)


def test_what_cannot_be_clipped_is_refused():
  one, four = (
    sharding.make_mesh({"fsdp": -1}, jax.devices()[:n]) for n in (1, 4)
  )
  options = dict(batch_size=8, num_microbatches=1, example_clip=1.0)
  accumulate.check(types.SimpleNamespace(**options), one)
  with pytest.raises(ValueError, match="train on one device or set example_"):
    accumulate.check(types.SimpleNamespace(**options), four)
  options["num_microbatches"] = 2
  with pytest.raises(ValueError, match="one example at a time; wanted 1"):
    accumulate.check(types.SimpleNamespace(**options), one)
  options["example_clip"] = 0.0
  accumulate.check(types.SimpleNamespace(**options), four)
  options["num_microbatches"] = 3
  with pytest.raises(ValueError, match="divisible by 3 microbatches; try 9"):
    accumulate.check(types.SimpleNamespace(**options), one)


def test_parts_draw_different_numbers():
  draw = lambda params, rows, rng: jnp.sum(jax.random.normal(rng, rows.shape))
  args = {}, {}, jnp.zeros((4, 3)), jax.random.key(0)
  value = lambda num: float(accumulate.value_and_grad(draw, *args, num)[0])
  one = float(jnp.sum(jax.random.normal(jax.random.key(0), (4, 3))))
  assert value(1) == pytest.approx(one)
  parts = [jax.random.fold_in(jax.random.key(0), i) for i in range(2)]
  two = sum(float(jnp.sum(jax.random.normal(k, (2, 3)))) for k in parts)
  assert value(2) == pytest.approx(two)


def test_parts_have_no_second_copy_of_the_gradients():
  params = {"w": jnp.zeros((16, 128, 128))}

  def loss(params, rows, rng):
    layer = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None))
    return jnp.sum(jax.lax.scan(layer, rows, params["w"])[0] ** 2)

  def step(params, rows):
    args = params, {"w": False}, rows, jax.random.key(0), 2
    return accumulate.value_and_grad(loss, *args)

  compiled = jax.jit(step).lower(params, jnp.ones((4, 128))).compile()
  size = params["w"].nbytes
  assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * size
