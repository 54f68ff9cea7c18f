"""Quantised weights: which, in what form, and that products are theirs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import tree
from pg.decode import loop
from pg.models import (
  int8,
  layers,
  lora,
  matrices,
  paligemma,
  quantize,
  variants,
)
from tests.support import toy

ROWS = [((True,), 3, 4), ((True,), 2, 2), ((False,), 4, 3)]
# Of 16 or more inputs, of which "int4:16" makes one group or several.
WIDE = dict(width=32, mlp_dim=48, head_dim=16)
LLMS = {
  "pg1": dataclasses.replace(toy.LLM, num_kv_heads=1, **WIDE),
  "pg2": dataclasses.replace(toy.LLM2, **WIDE),
  "all_kv_heads": dataclasses.replace(toy.LLM, num_kv_heads=4, **WIDE),
}
FORMATS = "int8", "int4", "nf4"
LINEAR = "llm/layers/mlp/linear"
# Ranks of weights whose inputs are one dimension, of two, and of a stack.
SHAPES = {
  LINEAR: (2, 32, 5),
  "llm/layers/attn/attn_vec_einsum/w": (2, 3, 32, 5),
  "llm/layers/attn/kv_einsum/w": (2, 2, 3, 32, 4),
  quantize.EMBEDDING: (7, 32),
}


def plain(params):
  """Returns parameters in which quantised weights are f32."""
  whole = lambda _, w: quantize.whole(w, "float32")
  return tree.map_named(whole, params)


def logits(cfg, rows, params):
  params = lora.attach(cfg.lora, params)
  inputs = toy.inputs(rows)
  hidden = paligemma.PaliGemma(cfg).apply({"params": params}, **inputs)
  return toy.logits(cfg, params, hidden)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", FORMATS)
def test_each_value_is_the_nearest_that_its_scale_has(name, kind):
  w = np.random.default_rng(0).normal(size=SHAPES[name]).astype("f4")
  q = quantize.of_array(quantize.parse(kind), name, w)
  one = kind == "int8" or name == quantize.EMBEDDING
  assert q.values.dtype == (jnp.int8 if one else quantize.DTYPES[kind])
  kernel, inner = quantize.letters(name)
  axes = [w.ndim - len(kernel) + kernel.index(x) for x in inner]
  size = dict(enumerate(w.shape))
  want = size | {i: 1 for i in axes} if one else size | {axes[-1]: 1}
  assert q.scale.shape == tuple(want.values())
  known = range(-128, 128) if one else range(-8, 8)
  known = np.array(quantize.NF4 if kind == "nf4" and not one else known, "f4")
  every = known * q.scale[..., None]
  want = np.abs(every - w[..., None]).min(axis=-1)
  have = np.abs(quantize.whole(q, "float32") - w)
  np.testing.assert_allclose(have, want, atol=1e-6)
  assert have.max() < np.abs(w).max() * (0.004 if one else 0.16)


def test_a_scale_is_of_a_group_of_inputs():
  w = np.ones((1, 64, 2), np.float32)
  w[0, 32:, 1] = 100.0
  q = quantize.of_array(quantize.parse("int4:32"), LINEAR, w)
  assert q.scale.shape == (1, 2, 2)
  np.testing.assert_allclose(quantize.whole(q, "float32"), w, rtol=0.08)
  q = quantize.of_array(quantize.parse("int4:64"), LINEAR, w)
  assert not quantize.whole(q, "float32")[0, :32, 1].any()


@pytest.mark.parametrize("kind", FORMATS)
def test_zeros_stay_zeros(kind):
  w = np.zeros(SHAPES[LINEAR], np.float32)
  q = quantize.of_array(quantize.parse(kind), LINEAR, w)
  assert not quantize.whole(q, "float32").any()


def test_an_embedding_is_quantised_in_pieces_as_in_one(monkeypatch):
  w = np.random.default_rng(0).normal(size=(11, 32)).astype("f4")
  how = quantize.parse("int8")
  want = quantize.of_array(how, quantize.EMBEDDING, w)
  monkeypatch.setattr(quantize, "_PIECE", 100)
  have = quantize.of_array(how, quantize.EMBEDDING, w)
  jax.tree.map(np.testing.assert_array_equal, have, want)
  have = quantize.of_array(how, quantize.EMBEDDING, jnp.asarray(w))
  jax.tree.map(np.testing.assert_array_equal, have, want)


@pytest.mark.parametrize(
  "variant, num_bytes", (("pg1_3b", 2.93), ("pg2_10b", 9.67))
)
def test_all_matrices_are_quantised_and_nothing_else(variant, num_bytes):
  flat = tree.flatten(paligemma.shapes(variants.VARIANTS[variant]))
  how = quantize.parse("int8")
  found = {k: quantize.abstract(how, k, x) for k, x in flat.items()}
  quantized = {k for k, x in found.items() if quantize.is_quantized(x)}
  want = {k for k in flat if matrices.letters(k)} | {quantize.EMBEDDING}
  assert quantized == want
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(found))
  assert size / 1e9 == pytest.approx(num_bytes, abs=0.01)


def test_what_no_group_divides_is_int8():
  flat = tree.flatten(paligemma.shapes(variants.VARIANTS["pg1_3b"]))
  how = quantize.parse("int4")
  found = {k: quantize.abstract(how, k, x) for k, x in flat.items()}
  found = {k: x for k, x in found.items() if quantize.is_quantized(x)}
  coarse = {k for k, x in found.items() if x.values.dtype == jnp.int8}
  block = "img/Transformer/encoderblock"
  heads = f"{block}/MultiHeadDotProductAttention_0/out/kernel"  # of 72
  assert coarse == {quantize.EMBEDDING, heads}
  down = found[f"{block}/MlpBlock_0/Dense_1/kernel"].scale.shape
  assert down == (27, 4304 // 16, 1152)
  gate = found["llm/layers/mlp/gating_einsum"].scale.shape
  assert gate == (18, 2, 2048 // 64, 16384)


@pytest.mark.parametrize("kind, llm", tuple(zip(FORMATS, LLMS, strict=True)))
def test_a_model_computes_what_it_does_with_the_weights_they_stand_for(
  kind, llm
):
  cfg, rows = toy.config(LLMS[llm]), toy.batch(ROWS)
  params = toy.params(paligemma.shapes(cfg))
  group = "" if kind == "int8" else ":16"
  params = quantize.quantized(quantize.parse(kind + group), params)
  run = jax.jit(functools.partial(logits, cfg, rows))
  np.testing.assert_allclose(
    run(params), run(plain(params)), rtol=2e-5, atol=2e-5
  )
  prefill = jax.jit(functools.partial(loop.prefill, cfg))
  served = [
    prefill(loop.unroll(p, "float32"), rows)[0] for p in (params, plain(params))
  ]
  np.testing.assert_allclose(*served, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("rows", (1, 2, 3))
@pytest.mark.parametrize("kind", FORMATS)
def test_few_tokens_are_summed_on_a_gpu_as_many_are(kind, rows, monkeypatch):
  draw = np.random.default_rng(0)
  w = draw.normal(size=(1, 128, 48)).astype("f4")
  w = quantize.of_array(quantize.parse(kind), LINEAR, w)
  w = quantize.Quantized(*(x[0].T for x in (w.values, w.scale)))  # [out, in]
  x = draw.normal(size=(rows, 2, 128)).astype("f4")
  want = x @ quantize.whole(w, "float32").T
  np.testing.assert_allclose(layers.linear(x, w), want, rtol=1e-4, atol=1e-5)
  monkeypatch.setattr(layers, "platform", lambda: "gpu")
  np.testing.assert_allclose(layers.linear(x, w), want, rtol=1e-4, atol=1e-5)
  half = layers.linear(x.astype(jnp.bfloat16), w)
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float32(half), want, atol=0.3)


@pytest.mark.parametrize("tokens", ([[3]], [[3, 1]], [[3], [1]]))
def test_tokens_are_looked_up_in_a_quantised_embedding(tokens):
  table = np.random.default_rng(0).normal(size=(7, 32)).astype("f4")
  q = quantize.of_array(quantize.parse("int8"), quantize.EMBEDDING, table)
  have = quantize.rows(
    jax.tree.map(jnp.asarray, q), jnp.array(tokens), "float32"
  )
  np.testing.assert_array_equal(have, quantize.whole(q, "float32")[tokens])


def test_a_cpu_computes_int8_with_its_kernel(monkeypatch):
  if not int8.load():
    pytest.skip("no kernel: it needs AVX2 and a C++ compiler")
  cfg, rows = toy.config(), toy.batch(ROWS)
  params = toy.params(paligemma.shapes(cfg))
  params = quantize.quantized(quantize.parse("int8"), params)
  params = loop.unroll(params, "float32")
  prefill = lambda: jax.jit(lambda: loop.prefill(cfg, params, rows)[0])
  want = prefill()()
  monkeypatch.setenv("PG_INT8_KERNEL", "1")
  have = prefill()
  # Of each layer queries, keys and values are one, and out, gate, up, down; of
  # the tower's six; the projector's and the logits'.
  num = have.lower().as_text().count("@pg_int8_product(")
  depths = len(params["llm"]["layers"]), cfg.img.depth
  assert num == 5 * depths[0] + 6 * depths[1] + 2
  error = jnp.linalg.norm(have() - want) / jnp.linalg.norm(want)
  assert 0 < error < 0.02


def test_logits_of_int8_are_close():
  """A root mean square of 3 %, with weights drawn of a normal distribution."""
  cfg, rows = toy.config(), toy.batch(ROWS)
  params = toy.params(paligemma.shapes(cfg))
  run = jax.jit(functools.partial(logits, cfg, rows))
  want = run(params)
  far = {}
  for kind in FORMATS:
    have = run(quantize.quantized(quantize.parse(kind), params))
    far[kind] = float(jnp.linalg.norm(have - want) / jnp.linalg.norm(want))
  assert 0 < far["int8"] < 0.03
  assert 0.1 < max(far.values()) < 0.35


def test_activations_in_bfloat16_stay_so():
  cfg, rows = toy.config(dtype="bfloat16"), toy.batch(ROWS)
  params = toy.params(paligemma.shapes(cfg))
  run = jax.jit(functools.partial(logits, cfg, rows))
  want = run(plain(params))
  have = run(quantize.quantized(quantize.parse("int8"), params))
  assert have.dtype == jnp.float32
  assert float(jnp.abs(have - want).max() / jnp.abs(want).max()) < 0.05


def test_an_adapter_of_a_quantised_weight_is_added_to_what_it_stands_for():
  cfg, rows = toy.config(), toy.batch(ROWS)
  flat = tree.flatten(paligemma.shapes(cfg))
  targets = tuple(k for k in flat if matrices.letters(k))
  how = lora.Config(targets, 2, 3.0, dora=True)
  cfg = dataclasses.replace(cfg, lora=how)
  params = toy.params(paligemma.shapes(cfg))
  base = {k: v for k, v in params.items() if k != lora.ROOT}
  base = quantize.quantized(quantize.parse("nf4"), base)
  run = jax.jit(functools.partial(logits, cfg, rows))
  params = {**base, lora.ROOT: params[lora.ROOT]}
  want = run({**plain(base), lora.ROOT: params[lora.ROOT]})
  np.testing.assert_allclose(run(params), want, atol=1e-4)
  merged = lora.merged(how, params)
  one = jax.jit(
    functools.partial(logits, dataclasses.replace(cfg, lora=None), rows)
  )
  np.testing.assert_allclose(one(merged), want, atol=2e-4)
  served = loop.unroll(params, "float32", how)
  gate = served["llm"]["layers"][0]["mlp"]["gate"]["w"]
  assert gate.dtype == served["img"]["head"]["kernel"].dtype == jnp.int8
  want = loop.unroll(merged)["llm"]["layers"][0]["mlp"]["gate"]["w"]
  have = quantize.whole(gate, "float32")
  np.testing.assert_allclose(have, want, atol=0.005 * np.abs(want).max())
  start = lora.init(how, jax.random.key(0), base)
  length = start["llm"]["layers"]["mlp"]["linear"]["m"]
  w = quantize.whole(base["llm"]["layers"]["mlp"]["linear"], "float32")
  np.testing.assert_allclose(length, jnp.sqrt((w * w).sum(1)), rtol=1e-5)


@pytest.mark.parametrize("text", ("int5", "int4:", "int8:64", "int4:-1", ""))
def test_a_format_that_does_not_exist_is_refused(text):
  with pytest.raises(ValueError, match="wanted int8, int4 or nf4"):
    quantize.parse(text)


@pytest.mark.parametrize("group", (0, 48, 4096))
def test_groups_that_do_not_divide_are_refused_with_what_does(group):
  flat = tree.flatten(paligemma.shapes(variants.VARIANTS["pg1_3b"]))
  with pytest.raises(ValueError, match="inputs of llm/.*; try 16, 32, 64"):
    quantize.check(quantize.parse(f"nf4:{group}"), flat)
  quantize.check(quantize.parse("nf4:128"), flat)
