"""Products in float16: nothing overflows, and small gradients do not vanish."""

import dataclasses
import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg import train, tree
from pg.decode import loop
from pg.learn import loss
from pg.models import layers, lora, paligemma, variants
from tests.support import toy

ROWS = [((True,), 3, 4), ((True,), 2, 2), ((False,), 4, 3)]
ADAPTERS = lora.Config(
  ("llm/layers/attn/attn_vec_einsum/w", "llm/layers/mlp/linear"), 2, 4e3
)
LLMS = {"pg1": toy.LLM, "pg2": toy.LLM2}


def cast(llm, dtype):
  return variants.with_dtype(toy.config(llm), dtype)


def large(params):
  """Returns parameters whose residual streams exceed float16."""
  factors = {
    "img/Transformer/encoderblock/MlpBlock_0/Dense_1/bias": 1e5,
    "llm/layers/attn/attn_vec_einsum/w": 3e4,
    "llm/layers/mlp/linear": 1e2,
  }
  return tree.map_named(lambda k, x: x * factors.get(k, 1.0), params)


def hidden(cfg, params, rows):
  model, params = paligemma.PaliGemma(cfg), lora.attach(cfg.lora, params)
  return model.apply({"params": params}, **toy.inputs(rows))


@pytest.mark.parametrize("how", (None, ADAPTERS))
@pytest.mark.parametrize("llm", LLMS)
def test_a_stream_beyond_float16_is_computed_as_in_float32(llm, how):
  config = lambda dtype: dataclasses.replace(cast(LLMS[llm], dtype), lora=how)
  rows, cfg = toy.batch(ROWS), config("float16")
  params = large(toy.params(paligemma.shapes(cfg)))
  narrow = toy.config(LLMS[llm], dtype="float16", lora=how)
  assert not np.isfinite(hidden(narrow, params, rows)).all()
  want = hidden(config("float32"), params, rows)
  have = hidden(cfg, params, rows)
  assert have.dtype == jnp.float16
  real = rows["mask_input"]
  error = np.linalg.norm((have - want)[real]) / np.linalg.norm(want[real])
  assert error < 0.01


def test_a_gate_beyond_float16_is_its_largest_number():
  rows, cfg = toy.batch(ROWS), cast(toy.LLM, "float16")
  params = toy.params(paligemma.shapes(cfg))
  factors = {"llm/layers/mlp/gating_einsum": 3e2}
  params = tree.map_named(lambda k, x: x * factors.get(k, 1.0), params)
  assert np.isfinite(hidden(cfg, params, rows)).all()


@pytest.mark.parametrize("llm", LLMS)
def test_answers_begin_as_training_computes_them(llm):
  rows, cfg = toy.batch(ROWS), cast(LLMS[llm], "float16")
  rows = {**rows, "mask_ar": np.zeros_like(rows["mask_ar"])}
  params = large(toy.params(paligemma.shapes(cfg)))
  served = loop.unroll(params, cfg.dtype)
  have, prompt = jax.jit(functools.partial(loop.prefill, cfg))(served, rows)
  assert {x.dtype for x in jax.tree.leaves(prompt.keys)} == {jnp.float16.dtype}
  last = rows["mask_input"].sum(1) - 1
  x = hidden(cfg, params, rows)[np.arange(len(last)), last]
  want = toy.logits(cfg, params, x[:, None])[:, 0]
  np.testing.assert_allclose(have, want, atol=0.02 * np.abs(want).max())


def gradients(cfg, params, rows):
  """Returns what a step of plain descent of 1e6 subtracts, by name."""
  frozen = jax.tree.map(lambda _: False, params)
  tx = optax.sgd(1e6)
  state = dict(params=params, opt=tx.init(params), step=jnp.int32(0))
  step = functools.partial(
    train.update, cfg=cfg, tx=tx, is_frozen=frozen, label_smoothing=0.0, seed=0
  )
  rows = dict(rows, source=np.zeros(len(ROWS), np.int32))
  new, measured = jax.jit(step)(state, rows)
  found = jax.tree.map(lambda x, y: x - y, params, new["params"])
  return tree.flatten(found), measured


def test_gradients_below_float16s_smallest_number_are_those_of_float32(
  monkeypatch,
):
  rows, weights = toy.batch(ROWS, text_len=9), loss.mean_weights
  params = toy.params(paligemma.shapes(toy.config()))
  # Each token counts as little as one of many.
  monkeypatch.setattr(loss, "mean_weights", lambda *x: 1e-6 * weights(*x))
  of = lambda dtype: gradients(cast(toy.LLM, dtype), params, rows)
  (want, one), (have, other) = of("float32"), of("float16")
  monkeypatch.setattr(loss, "SCALES", {})
  lost, _ = of("float16")
  same = functools.partial(pytest.approx, rel=1e-2)
  for name in ("train/loss", "train/grad_norm"):
    assert float(other[name]) == same(float(one[name])), name
  far = lambda x, name: np.linalg.norm(x[name] - want[name])
  for name in ("llm/layers/mlp/linear", "llm/layers/attn/q_einsum/w"):
    length = np.linalg.norm(want[name])
    assert far(have, name) < 0.05 * length, name
    assert far(lost, name) > 0.2 * length, name


def test_products_of_16_bits_have_operands_of_16_bits_both_ways():
  """Of float32 they would be TF32 on a GPU, at half the speed."""
  x, w = jnp.ones((3, 4), jnp.float16), jnp.ones((5, 4), jnp.float16)
  total = lambda x, w: layers._widening("TD,FD->TF", x, w).sum()
  module = jax.jit(jax.grad(total, argnums=(0, 1))).lower(x, w).as_text()
  products = re.findall(r"dot_general.*: \((.*)\) ->", module)
  assert len(products) == 2
  assert not any("f32" in operands for operands in products)


def test_a_gpu_without_bfloat16_computes_in_float16():
  device = lambda **keys: SimpleNamespace(**keys)
  for capability, want in (("7.5", "float16"), ("8.0", "bfloat16")):
    gpu = device(platform="gpu", compute_capability=capability)
    assert variants.compute_dtype("auto", gpu) == want
    assert variants.compute_dtype("f32", gpu) == "float32"
  assert variants.compute_dtype(None, device(platform="tpu")) == "bfloat16"
  assert variants.compute_dtype("auto", device(platform="cpu")) == "float32"
  cfg = variants.from_config(dict(variant="nano", dtype="float16"))
  assert cfg.img.float32_stream and cfg.llm.float32_stream
  cfg = variants.from_config(dict(variant="nano", dtype="bfloat16"))
  assert not cfg.img.float32_stream and not cfg.llm.float32_stream
