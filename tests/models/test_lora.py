"""Adapters compute what weights with them added do, and alone are trained."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from pg import sharding, train, tree
from pg.learn import optim, parts
from pg.learn import state as state_lib
from pg.models import lora, matrices, paligemma, variants
from tests.support import toy

ROWS = [((True,), 3, 4), ((True,), 2, 2), ((False,), 4, 3), ((True,), 2, 5)] * 2
LLMS = {
  "pg1": dataclasses.replace(toy.LLM, num_kv_heads=1),
  "pg2": toy.LLM2,
  "all_kv_heads": dataclasses.replace(toy.LLM, num_kv_heads=4),
}
KINDS = dict(
  lora={}, rank_stabilized=dict(rank_stabilized=True), dora=dict(dora=True)
)
SCHEDULE = ((".*", "constant"),)


def options(**how):
  """Returns the keys of a config that describe adapters."""
  values = dict(rank=2, targets=".*", alpha=3.0, dropout=0.0)
  values |= dict(rank_stabilized=False, dora=False) | how
  return ml_collections.ConfigDict(dict(lora=values, schedule=SCHEDULE))


def config(llm=toy.LLM, cfg=None, **how):
  cfg = cfg or toy.config(llm)
  how = lora.from_config(options(**how), paligemma.shapes(cfg))
  return dataclasses.replace(cfg, lora=how)


def hidden(cfg, params, rows, rng=None):
  params = lora.attach(cfg.lora, params, rng)
  inputs = toy.inputs(rows)
  return paligemma.PaliGemma(cfg).apply({"params": params}, **inputs)


def test_every_matrix_of_both_towers_and_the_projector_can_be_adapted():
  cfg = config(cfg=variants.VARIANTS["pg1_3b"], rank=8)
  flat = tree.flatten(paligemma.shapes(cfg))
  layers = ("llm/layers/", "img/Transformer/encoderblock/", "img/head/")
  want = {k for k in flat if k.startswith(layers)}
  want = {k for k in want if not k.endswith(("/scale", "/bias"))}
  assert set(cfg.lora.targets) == want
  assert {lora.target(k) for k in flat} - set(flat) == set()
  own = {k: x.shape for k, x in flat.items() if k.startswith("lora/")}
  assert len(own) == 2 * len(want)
  gate = "lora/llm/layers/mlp/gating_einsum"
  assert own[f"{gate}/a"] == (18, 2, 2048, 8)
  assert own[f"{gate}/b"] == (18, 2, 8, 16384)
  # As PEFT counts them: r (in + out) for each matrix.
  per_layer = 2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 16384)
  image = 4 * (1152 + 1152) + 2 * (1152 + 4304)
  numbers = sum(np.prod(x) for x in own.values())
  assert numbers == 8 * (18 * per_layer + 27 * image + 1152 + 2048)


@pytest.mark.parametrize("llm, kind", tuple(zip(LLMS, KINDS, strict=True)))
def test_an_adapter_beside_a_weight_computes_as_one_added_to_it(llm, kind):
  cfg = config(LLMS[llm], **KINDS[kind])
  params = toy.params(paligemma.shapes(cfg))
  rows = toy.batch(ROWS)
  have = jax.jit(functools.partial(hidden, cfg))(params, rows)
  merged = lora.merged(cfg.lora, params)
  assert lora.ROOT not in merged
  plain = dataclasses.replace(cfg, lora=None)
  want = jax.jit(functools.partial(hidden, plain))(merged, rows)
  np.testing.assert_allclose(have, want, atol=2e-4)
  without = {k: v for k, v in params.items() if k != lora.ROOT}
  base = jax.jit(functools.partial(hidden, plain))(without, rows)
  assert np.abs(have - base).max() > 0.1


def test_a_weight_is_merged_as_its_formula_says():
  draw = np.random.default_rng(0).normal
  w, a, b = (
    draw(size=(3, 2, 5, 7)),
    draw(size=(3, 2, 5, 4)),
    draw(size=(3, 2, 4, 7)),
  )
  m = draw(size=(3, 2, 7))
  dims = matrices.letters("llm/layers/mlp/gating_einsum")
  w, a, b, m = (np.float32(x) for x in (w, a, b, m))
  want = w + 0.5 * a @ b
  have = lora.merge(0.5, dims, w, dict(a=a, b=b))
  np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
  want = m[..., None, :] * want / np.linalg.norm(want, axis=-2, keepdims=True)
  have = lora.merge(0.5, dims, w, dict(a=a, b=b, m=m))
  np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
  half = lora.merge(
    0.5, dims, jnp.bfloat16(w), dict(a=jnp.array(a), b=jnp.array(b))
  )
  assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize("kind", ("lora", "dora"))
def test_at_first_nothing_changes(kind):
  cfg = config(**KINDS[kind])
  params = jax.jit(functools.partial(paligemma.init, cfg))(jax.random.key(0))
  rows = toy.batch(ROWS)
  own = tree.flatten(params[lora.ROOT])
  assert all(x.any() for k, x in own.items() if k.endswith(("/a", "/m")))
  assert not any(x.any() for k, x in own.items() if k.endswith("/b"))
  without = {k: v for k, v in params.items() if k != lora.ROOT}
  plain = dataclasses.replace(cfg, lora=None)
  want = jax.jit(functools.partial(hidden, plain))(without, rows)
  have = jax.jit(functools.partial(hidden, cfg))(params, rows)
  np.testing.assert_allclose(have, want, atol=1e-5)


def test_what_an_adapter_adds_is_scaled_by_its_rank():
  assert config(rank=2, alpha=3.0).lora.scale == 1.5
  stable = config(rank=4, alpha=3.0, rank_stabilized=True)
  assert stable.lora.scale == 1.5


def test_dropout_is_of_the_adapter_alone_and_each_layer_has_its_own():
  cfg = config(dropout=0.5)
  params, rows = toy.params(paligemma.shapes(cfg)), toy.batch(ROWS)
  run = jax.jit(functools.partial(hidden, cfg))
  first, again, other = (
    run(params, rows, jax.random.key(i)) for i in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 0.1
  assert np.abs(first - run(params, rows)).max() > 0.1
  box = tree.flatten(lora.attach(cfg.lora, params, jax.random.key(0)))
  keys = box["llm/layers/mlp/gating_einsum"].value.key
  assert keys.shape == (cfg.llm.depth, 2)
  assert len(np.unique(jax.random.key_data(keys).reshape(-1, 2), axis=0)) == 4
  silent = {
    **params,
    lora.ROOT: jax.tree.map(jnp.zeros_like, params[lora.ROOT]),
  }
  np.testing.assert_array_equal(
    run(silent, rows, jax.random.key(0)), run(silent, rows)
  )


def step(cfg, mesh, state, rows, num_steps=2):
  """Returns the state, and measurements, after steps of plain descent."""
  rules = ((".*", "fsdp"),)
  is_frozen = optim.frozen(paligemma.shapes(cfg), SCHEDULE)
  tx = optax.masked(optax.sgd(0.1), jax.tree.map(lambda x: not x, is_frozen))
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=is_frozen,
    label_smoothing=0.0,
    seed=0,
    specs=parts.specs(cfg, mesh, rules),
  )
  state = state_lib.of_params(state, tx)
  where = state_lib.abstract(cfg, tx, mesh, rules)
  state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, where))
  with jax.set_mesh(mesh):
    for _ in range(num_steps):
      state, measured = jax.jit(update)(state, rows)
  return jax.device_get(state["params"]), jax.device_get(measured)


@pytest.mark.parametrize("how", (dict(dropout=0.3), dict(dora=True)))
def test_eight_devices_train_adapters_as_one_does(how, monkeypatch):
  monkeypatch.setattr(sharding, "SMALL", 1)
  cfg = config(**how)
  params, rows = toy.params(paligemma.shapes(cfg)), toy.batch(ROWS)
  params = jax.device_get(params)
  one = sharding.make_mesh(dict(fsdp=1), devices=jax.devices()[:1])
  want, loss = step(cfg, one, params, rows)
  for sizes in (dict(fsdp=8), dict(replica=2, fsdp=2, tensor=2)):
    have, other = step(cfg, sharding.make_mesh(sizes), params, rows)
    assert other["train/loss"] == pytest.approx(loss["train/loss"], rel=1e-4)
    for name, x in tree.flatten(want[lora.ROOT]).items():
      y = tree.flatten(have[lora.ROOT])[name]
      np.testing.assert_allclose(y, x, rtol=2e-3, atol=2e-4, err_msg=name)


def test_adapters_alone_are_trained():
  cfg = config()
  params, rows = toy.params(paligemma.shapes(cfg)), toy.batch(ROWS)
  one = sharding.make_mesh(dict(fsdp=1), devices=jax.devices()[:1])
  found, measured = step(cfg, one, jax.device_get(params), rows, num_steps=1)
  for name, x in tree.flatten(found).items():
    same = np.array_equal(x, tree.flatten(params)[name])
    assert same != name.startswith("lora/"), name
  groups = {k for k in measured if k.startswith("train/grad_norm/")}
  assert groups == {f"train/grad_norm/{x}" for x in ("img", "llm", "projector")}


def test_what_the_schedule_freezes_has_no_adapter():
  c = options()
  c.schedule = (("img/.*", None), (".*", "cosine"))
  found = lora.from_config(c, paligemma.shapes(toy.config()))
  assert found.towers == {"llm"}
  c.lora.rank = 0
  assert lora.from_config(c, paligemma.shapes(toy.config())) is None


@pytest.mark.parametrize(
  "how, said",
  (
    (dict(targets="llm/layers/q_proj"), "none of"),
    (dict(targets="q_einsum"), "llm/layers/attn/q_einsum/w"),
    (dict(rank=17), "rank 17 is above the 16 of img/"),
  ),
)
def test_what_makes_no_sense_is_refused(how, said):
  with pytest.raises(ValueError, match=said):
    config(**how)


def test_adapters_of_what_is_frozen_are_refused():
  c = options(targets="img/.*")
  c.schedule = (("img/.*", None), (".*", "cosine"))
  with pytest.raises(ValueError, match="`schedule` freezes all"):
    lora.from_config(c, paligemma.shapes(toy.config()))
