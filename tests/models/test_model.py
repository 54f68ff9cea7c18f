"""What the model computes: names and sizes, who sees whom, precision."""

import dataclasses
import functools
import math
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import sharding, tree
from pg.learn import loss as loss_lib
from pg.models import (
  attention,
  gemma,
  layers,
  lora,
  paligemma,
  siglip,
  variants,
)
from tests.support import paths, toy

RELEASED = paths.GOLDEN / "names.txt"
FULL_SIZE = ("pg1_3b", "pg2_3b", "pg2_10b", "pg2_28b")
# Which images are shown, lengths of prefix and suffix.
ROWS = (
  ((True, True), 3, 4),
  ((True, False), 3, 4),
  ((False, True), 5, 2),
  ((False, False), 1, 3),
  ((True, True), 8, 0),
  ((True, False), 0, 8),
)


@functools.cache
def released():
  """Returns {variant: (number of parameters, {name: shape})}."""
  table, image = {}, {}
  for line in RELEASED.read_text().splitlines():
    if line.startswith("#"):
      continue
    name, numbers = line.split()
    if "/" not in name:
      names = dict(image)
      table[name] = int(numbers), names
      continue
    names[name] = tuple(map(int, numbers.split(",")))
    if name.startswith("img/"):
      image.setdefault(name, names[name])
  return table


def shapes(cfg):
  return {k: v.shape for k, v in tree.flatten(paligemma.shapes(cfg)).items()}


@pytest.mark.parametrize("variant", FULL_SIZE)
def test_parameters_are_those_of_the_released_files(variant):
  count, want = released()[variant]
  have = shapes(variants.VARIANTS[variant])
  assert have == want
  assert sum(map(math.prod, have.values())) == count


@pytest.mark.parametrize("res, num_tokens", ((448, 1024), (896, 4096)))
def test_resolution_changes_only_the_position_table(res, num_tokens):
  cfg = variants.from_config(dict(variant="pg1_3b", res=res))
  want = released()["pg1_3b"][1]
  assert shapes(cfg) == {**want, "img/pos_embedding": (1, num_tokens, 1152)}


# Who sees whom.


@pytest.fixture(scope="module")
def model():
  """A config without a window, parameters, and a batch of two images."""
  cfg = toy.config(dataclasses.replace(toy.LLM2, window=None))
  params = toy.params(paligemma.shapes(cfg))
  return cfg, params, toy.batch(ROWS, num_images=2)


def hidden_states(cfg, params, batch):
  """Returns what the model returns, [B, L, D], and the decoder, [B, T, D]."""
  text, seen = paligemma.PaliGemma(cfg).apply(
    {"params": params},
    **toy.inputs(batch),
    capture_intermediates=lambda module, _: module.name == "llm",
    mutable="intermediates",
  )
  return text, seen["intermediates"]["llm"]["__call__"][0]


@pytest.fixture(scope="module")
def forward(model):
  """The hidden states [B, T, D] of the batch with some keys changed."""
  cfg, params, batch = model
  fn = jax.jit(functools.partial(hidden_states, cfg, params))
  return lambda changes: np.asarray(fn({**batch, **changes})[1])


def masks_of(cfg, batch):
  """Returns valid [B, T] and mask [B, T, T] of images and text."""
  I = cfg.img.num_tokens
  shown = np.repeat(batch["mask_image"], I, axis=1)
  valid = np.concatenate([shown, batch["mask_input"]], axis=1)
  ar = np.concatenate([np.zeros_like(shown), batch["mask_ar"]], axis=1)
  tokens = attention.Tokens.of(valid, ar)
  return valid, np.asarray(attention.visible(tokens, tokens))


def influence(cfg, params, batch):
  """Returns bool[B, T, T]: the gradient of a position by a key is not zero.

  By each image's pixels, and by the embeddings of a row's tokens, which are all
  different. The model takes pixels as floats, too.
  """
  r = jnp.asarray(np.random.default_rng(1).normal(size=cfg.llm.width))

  def outputs(image, table, row):  # -> [T]
    embedder = {"input_embedding": table}
    changed = {**params, "llm": {**params["llm"], "embedder": embedder}}
    one = {k: v[None] for k, v in {**row, "image": image}.items()}
    return hidden_states(cfg, changed, one)[1][0] @ r

  def one(row):
    table = params["llm"]["embedder"]["input_embedding"]
    by = jax.jacrev(outputs, (0, 1))
    by_image, by_table = by(row["image"].astype(jnp.float32), table, row)
    image = jnp.abs(by_image).sum((2, 3, 4))  # [T, F]
    text = jnp.abs(by_table).sum(2)[:, row["tokens"]]  # [T, L]
    image = jnp.repeat(image, cfg.img.num_tokens, axis=1)
    return jnp.concatenate([image, text], axis=1) != 0

  return jax.jit(jax.vmap(one))(toy.inputs(batch))


def test_gradients_flow_exactly_where_the_mask_says(model):
  cfg, params, batch = model
  valid, mask = masks_of(cfg, batch)
  have = np.asarray(influence(cfg, params, batch))
  for b in range(len(have)):  # nobody reads what stands at padding
    np.testing.assert_array_equal(have[b][valid[b]], mask[b][valid[b]])


def test_prefix_and_images_see_each_other_and_the_suffix_is_causal():
  cfg, batch = toy.config(), toy.batch(ROWS, num_images=2)
  _, mask = masks_of(cfg, batch)
  for (images, prefix, suffix), rows in zip(ROWS, mask):
    shown = np.flatnonzero(np.repeat(images, cfg.img.num_tokens))
    start = 2 * cfg.img.num_tokens
    given = [*shown, *range(start, start + prefix)]
    answer = range(start + prefix, start + prefix + suffix)
    want = np.zeros_like(rows)
    want[np.ix_(given, given)] = True
    for q in answer:
      want[q, given] = True
      want[q, answer.start : q + 1] = True
    np.testing.assert_array_equal(rows, want)


def test_even_layers_are_the_local_ones():
  cfg = dataclasses.replace(toy.LLM2, window=1)
  ar = jnp.ones((1, 4), bool)
  args = jnp.zeros((1, 4, cfg.width)), attention.Tokens.of(ar, ar), 0
  block = gemma.Block(cfg)
  params = toy.params(
    jax.eval_shape(block.init, jax.random.key(0), *args)["params"]
  )
  x = jax.random.normal(jax.random.key(1), (1, 4, cfg.width))
  apply = lambda block: jax.jit(
    lambda layer: block.apply({"params": params}, x, args[1], layer)[0]
  )
  near = apply(block)
  wide = apply(gemma.Block(dataclasses.replace(cfg, window=None)))(0)
  assert not np.allclose(near(0), wide)
  for layer, want in enumerate((near(0), wide, near(0))):
    np.testing.assert_array_equal(near(layer), want)


def test_what_stands_at_padding_changes_nothing(forward, model):
  cfg, _, batch = model
  valid, _ = masks_of(cfg, batch)
  tokens = np.where(batch["mask_input"], batch["tokens"], 23)
  unseen = ~batch["mask_image"][..., None, None, None]
  image = np.where(unseen, 255 - batch["image"], batch["image"])
  assert (tokens != batch["tokens"]).any() and (image != batch["image"]).any()
  want, have = forward({}), forward(dict(tokens=tokens, image=image))
  np.testing.assert_array_equal(have[valid], want[valid])
  # The same change where it is shown is felt.
  assert not np.allclose(forward(dict(image=255 - image))[0], want[0])


def test_a_missing_image_is_as_if_there_were_none(forward, model):
  cfg, params, batch = model
  L = batch["tokens"].shape[1]
  fn = jax.jit(functools.partial(hidden_states, cfg, params))
  real = batch["mask_input"]
  for which in (0, 1):
    only = np.tile(np.arange(2) == which, (len(ROWS), 1))
    have = forward(dict(mask_image=only))[:, -L:]
    single = {**batch, "image": batch["image"][:, [which]]}
    text, every = fn({**single, "mask_image": only[:, [which]]})
    np.testing.assert_allclose(have[real], text[real], atol=2e-5)
    np.testing.assert_array_equal(text, every[:, -L:])


# Parts.


def test_rope_depends_on_differences_of_positions_only():
  q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 16))
  at = lambda x, p: gemma.rope(x, jnp.array([[p]]))
  product = lambda m, n: float(jnp.sum(at(q, m) * at(k, n)))
  assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
  assert product(7, 3) != pytest.approx(product(3, 7), abs=1e-2)
  np.testing.assert_array_equal(at(q, 0), q)


def test_rope_rotates_pairs_of_halves_by_base_ten_thousand():
  x = jax.random.normal(jax.random.key(0), (1, 3, 2, 8))
  positions = np.array([[0, 1, 50]])
  angle = positions[..., None, None] * 1e4 ** (-np.arange(4) / 4)
  z = (np.asarray(x[..., :4]) + 1j * np.asarray(x[..., 4:])) * np.exp(
    1j * angle
  )
  want = np.concatenate([z.real, z.imag], axis=-1)
  np.testing.assert_allclose(gemma.rope(x, positions), want, atol=1e-5)


def test_vocabulary_logits_are_soft_capped():
  x, table = jnp.full((1, 4), 3.0), jnp.eye(4)
  plain = gemma.vocabulary_logits(x, table, 0.0)
  capped = gemma.vocabulary_logits(x, table, 2.0)
  np.testing.assert_allclose(capped, 2 * np.tanh(np.asarray(plain) / 2), 1e-6)


# Where training from scratch starts.


def drawn(part):
  """Returns a part of freshly drawn parameters, by its flat name."""
  init = functools.partial(paligemma.init, toy.config())
  return jax.jit(lambda key: tree.flatten(init(key))[part])(jax.random.key(0))


def test_an_untrained_tower_tells_the_decoder_nothing():
  assert not drawn("img/head/kernel").any()
  assert not drawn("img/head/bias").any()


def test_layers_start_different_and_scaled_by_what_they_add_up():
  first, second = drawn("llm/layers/mlp/linear")  # [F, D] each
  assert not np.allclose(first, second)
  spread = float(np.std([first, second])) * toy.LLM.mlp_dim**0.5
  assert spread == pytest.approx(0.88, abs=0.05)  # a normal cut at 2 sigma


def test_positions_start_as_sines_and_cosines_of_column_and_row():
  (table,) = siglip.sincos_2d(None, (1, 9, 8))
  col, row = 2, 1
  angles = [(at * f) for at in (col, row) for f in (1, 1e-4)]
  want = np.array([[np.sin(a), np.cos(a)] for a in angles])
  want = np.concatenate([want[:2].T.reshape(-1), want[2:].T.reshape(-1)])
  np.testing.assert_allclose(table[3 * row + col], want, atol=1e-6)


# Every field of a Config changes something.

CHANGES = dict(
  img=dict(
    width=32,
    depth=2,
    mlp_dim=32,
    num_heads=4,
    patch=2,
    res=12,
    float32_stream=True,
  ),
  llm=dict(
    width=32,
    depth=1,
    mlp_dim=32,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    vocab_size=32,
    post_norms=True,
    attn_softcap=5.0,
    final_softcap=5.0,
    query_scale=0.3,
    window=2,
    dropout=0.5,
    float32_stream=True,
  ),
  top=dict(
    dtype="bfloat16",
    remat="nothing",
    lora=lora.Config(("img/head/kernel",), rank=2, alpha=1.0),
  ),
)


def program(cfg):
  """Returns what the model's parameters are and what it computes, as text."""
  shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
  rows = toy.batch(ROWS[:1], num_images=2)
  rows["image"] = np.zeros((1, 1, cfg.img.res, cfg.img.res, 3), np.uint8)
  rows["mask_image"] = np.ones((1, 1), bool)
  model = paligemma.PaliGemma(cfg, train=True)

  def run(params, batch, rng):
    params = lora.attach(cfg.lora, params)
    hidden = model.apply({"params": params}, **batch, rngs={"dropout": rng})
    return toy.logits(cfg, params, hidden)

  shapes = paligemma.shapes(cfg)
  batch = jax.tree.map(shape, toy.inputs(rows))
  return str(jax.make_jaxpr(run)(shapes, batch, jax.random.key(0)))


@pytest.fixture(scope="module")
def unchanged():
  return program(toy.config())


@pytest.mark.parametrize(
  "part, field",
  [
    *(("img", f.name) for f in dataclasses.fields(siglip.Config)),
    *(("llm", f.name) for f in dataclasses.fields(gemma.Config)),
    *(
      ("top", f.name)
      for f in dataclasses.fields(paligemma.Config)
      if f.name not in CHANGES
    ),
  ],
)
def test_every_field_changes_what_is_computed(part, field, unchanged):
  cfg, change = toy.config(), {field: CHANGES[part][field]}
  if part == "top":
    changed = dataclasses.replace(cfg, **change)
  else:
    inner = dataclasses.replace(getattr(cfg, part), **change)
    changed = dataclasses.replace(cfg, **{part: inner})
  assert program(changed) != unchanged


def test_the_same_fields_give_the_same_program(unchanged):
  assert program(toy.config()) == unchanged  # else the test above is empty


@pytest.mark.parametrize("key", ("res", "dtype", "remat", "dropout", "window"))
def test_a_model_key_of_a_config_file_reaches_its_field(key):
  value = dict(res=96, dtype="bfloat16", remat="dots", dropout=0.1, window=7)
  cfg = variants.from_config(dict(variant="nano", **{key: value[key]}))
  found = {**vars(cfg.img), **vars(cfg.llm), **vars(cfg)}
  assert found[key] == value[key] != {**vars(base().img)}.get(key)
  same = variants.from_config({"variant": "nano", key: None})
  assert same == base()


def base():
  return variants.VARIANTS["nano"]


def test_final_softcap_is_the_variants_unless_it_is_said():
  get = lambda **c: variants.from_config(c, vocab_size=7).llm
  assert get(variant="pg2_3b").final_softcap == 30
  assert get(variant="pg2_3b", final_softcap=None).final_softcap == 30
  assert get(variant="pg2_3b", final_softcap=0.0).final_softcap == 0
  assert get(variant="pg2_3b").vocab_size == 7


# Precision, memory, dropout.


def gradient(cfg):
  """Returns a function of (params, batch): the gradient of the loss."""
  model = paligemma.PaliGemma(cfg)

  def loss(params, batch):
    inputs, labels, mask = loss_lib.targets(batch)
    hidden = model.apply({"params": params}, **inputs)
    weights = loss_lib.mean_weights(mask, batch["index"] >= 0)
    table = params["llm"]["embedder"]["input_embedding"]
    return loss_lib.weighted_nll(hidden, table, labels, weights)

  return jax.grad(loss)


def products(cfg):
  """Returns the types of all products in the program of the gradient."""
  batch = toy.batch(ROWS, num_images=2)
  text = jax.jit(gradient(cfg)).lower(paligemma.shapes(cfg), batch).as_text()
  return re.findall(r"dot_general .* : (\(.*\) -> .*)", text)


def test_bfloat16_never_meets_a_product_on_a_cpu():
  found = products(toy.config(dtype="bfloat16"))
  assert len(found) > 30 and not any("bf16" in line for line in found)


@pytest.mark.parametrize("rows", [1, 3, layers.FEW_ROWS + 1])
def test_a_matrix_of_out_and_in_is_a_linear_layer_of_any_rows(rows):
  rng = np.random.default_rng(0)
  x, w = (rng.standard_normal(s, np.float32) for s in ((1, rows, 8), (6, 8)))
  y = jax.jit(layers.linear)(x, w)
  np.testing.assert_allclose(y, x @ w.T, rtol=1e-5, atol=1e-5)
  # Few rows go after the matrix, which XLA is not to turn round again.
  text = jax.jit(layers.linear).lower(x, w).compile().as_text()
  assert (f"f32[6,{rows}]" in text) == (rows == 3)


@pytest.mark.parametrize("rows", [1, 3, layers.FEW_ROWS + 1])
@pytest.mark.parametrize("out", [None, jnp.float32])
def test_weights_kept_in_bfloat16_are_read_as_they_are(rows, out):
  rng = np.random.default_rng(0)
  x, w = (
    jnp.asarray(rng.standard_normal(s, np.float32), jnp.bfloat16)
    for s in ((1, rows, 8), (6, 8))
  )
  program = jax.jit(functools.partial(layers.linear, out=out))
  want = np.float32(x) @ np.float32(w).T
  y = program(x, w)
  assert y.dtype == (out or jnp.bfloat16)
  error = 1e-5 if out else 0.01  # of sums in float32; of what they become
  np.testing.assert_allclose(np.float32(y), want, rtol=error, atol=error)
  y = jax.jit(lambda x, w: layers.dense("...D,DF->...F", x, w))(x, w.T)
  np.testing.assert_allclose(np.float32(y), want, rtol=0.01, atol=0.01)
  # A product of one row is slow, and one of more rows with wide weights.
  text = program.lower(x, w).as_text()
  assert ("dot_general" in text) == (rows > 1)
  assert "tensor<6x8xf32>" not in text


def test_bfloat16_operands_are_summed_in_float32_where_asked(monkeypatch):
  x = jax.ShapeDtypeStruct((2, 4), jnp.bfloat16)
  w = jax.ShapeDtypeStruct((4, 8), jnp.float32)
  program = lambda **kw: str(
    jax.make_jaxpr(lambda x, w: layers.dot("BD,DF->BF", x, w, **kw))(x, w)
  )
  monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
  assert "preferred_element_type=bfloat16" in program()
  assert "preferred_element_type=float32" in program(out=jnp.float32)
  assert "f32[2,4]" not in program(out=jnp.float32)  # not widened before


def test_gradients_of_products_in_float32_have_bfloat16_operands(monkeypatch):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.bfloat16)
  x, w, g = draw(2, 4), draw(8, 4), draw(2, 8).astype(jnp.float32)

  def gradients(x, w):
    f = lambda x, w: layers.dot("...D,VD->...V", x, w, out=jnp.float32)
    return jax.vjp(f, x, w)[1](g)

  want = jax.jit(gradients)(*(a.astype(jnp.float32) for a in (x, w)))
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  text = jax.jit(gradients).lower(x, w).as_text()
  found = re.findall(r"dot_general .* : (\(.*\)) ->", text)
  assert found and not any("f32" in operands for operands in found)
  for have, exact in zip(gradients(x, w), want, strict=True):
    assert have.dtype == jnp.bfloat16
    np.testing.assert_allclose(have.astype(jnp.float32), exact, rtol=0.01)


def test_products_follow_the_platform_of_the_mesh_that_is_compiled_for():
  x = jnp.ones((2, 4), jnp.bfloat16)
  tpu = jax.sharding.AbstractDevice("TPU v5e", None, platform="tpu")
  mesh = jax.sharding.AbstractMesh((1,), ("fsdp_x",), abstract_device=tpu)
  program = lambda: str(
    jax.make_jaxpr(lambda x: layers.dense("...D,DF->...F", x[None], x.T))(x)
  )
  assert "preferred_element_type=float32" in program()
  with jax.sharding.use_abstract_mesh(mesh):
    assert "preferred_element_type=bfloat16" in program()


def test_float32_products_are_not_rounded_on_accelerators(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  x = jnp.ones((2, 4))
  text = str(jax.make_jaxpr(lambda x: layers.dot("BD,DF->BF", x, x.T))(x))
  assert "precision=(Precision.HIGHEST, Precision.HIGHEST)" in text


def test_bfloat16_is_close_to_float32(forward, model):
  cfg, params, batch = model
  half = dataclasses.replace(cfg, dtype="bfloat16")
  _, have = jax.jit(functools.partial(hidden_states, half, params))(batch)
  assert have.dtype == jnp.bfloat16
  valid, _ = masks_of(cfg, batch)
  error = np.abs(np.float32(have) - forward({}))[valid]
  assert 0 < error.mean() < 0.05


def test_remat_policies_keep_less_and_give_the_same_gradients():
  x = jax.random.normal(jax.random.key(0), (2, 4, toy.LLM.width))
  real = jnp.ones((2, 4), bool)
  tokens = attention.Tokens.of(real, ~real)
  results, num_products = [], []
  for name in layers.POLICIES:
    decoder = gemma.Decoder(toy.LLM, remat=name)
    args = jax.random.key(0), x, tokens
    params = toy.params(jax.eval_shape(decoder.init, *args)["params"])
    loss = lambda p, d=decoder: jnp.sum(d.apply({"params": p}, x, tokens) ** 2)
    fn = jax.jit(jax.grad(loss))
    num_products.append(fn.lower(params).as_text().count("dot_general"))
    results.append(tree.flatten(fn(params)))
  rows, nothing, attn_out, ffw, dots, everything = num_products
  assert rows == nothing > attn_out > ffw > everything
  assert nothing > dots > everything
  for other in results[:-1]:
    for name, want in results[-1].items():
      np.testing.assert_allclose(other[name], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
def test_a_mlp_in_turns_computes_what_it_does_at_once(monkeypatch, dtype):
  x = jax.random.normal(jax.random.key(0), (64, 5, 8), dtype)
  whole, by_rows = (
    gemma.Mlp(gemma.Config(width=8, mlp_dim=24), remat=remat)
    for remat in ("nothing", "rows")
  )
  params = toy.params(jax.eval_shape(whole.init, jax.random.key(0), x))
  params = jax.tree.map(lambda w: w.astype(dtype), params)

  def gradients(mlp, few_tokens):
    monkeypatch.setattr(layers, "CHUNK_TOKENS", few_tokens)
    # Under the policy of the layer, as in training.
    apply = jax.checkpoint(mlp.apply, policy=layers.POLICIES[mlp.remat])
    loss = lambda p, x: jnp.sum(jnp.square(apply(p, x).astype(jnp.float32)))
    fn = jax.jit(jax.grad(loss, (0, 1)))
    sizes = re.findall(r"tensor<(\d+)x5x24x", fn.lower(params, x).as_text())
    return max(map(int, sizes)), jax.tree.leaves(fn(params, x))

  num, want = gradients(whole, 1)
  assert num == 64
  for few_tokens, num_rows in ((1, 1), (21, 8), (999, 64)):
    num, have = gradients(by_rows, few_tokens)
    assert num == num_rows
    for x_have, x_want in zip(have, want, strict=True):
      assert x_have.dtype == x_want.dtype == dtype
      scale = np.abs(np.float32(x_want)).max()
      error = np.abs(np.float32(x_have) - np.float32(x_want)).max() / scale
      assert error < dict(float32=1e-6, bfloat16=0.01)[dtype]


def test_what_draws_is_not_computed_in_turns(monkeypatch):
  monkeypatch.setattr(layers, "CHUNK_TOKENS", 1)
  seen, x = [], jnp.zeros((4, 5, 8))
  for weights in (x, jax.random.key(0)):
    layers.by_rows(lambda x, w: seen.append(len(x)) or x, x, (x, weights))
  assert seen == [1, 4]


def test_a_mlp_in_turns_takes_each_devices_own_rows(monkeypatch):
  monkeypatch.setattr(layers, "CHUNK_TOKENS", 10)
  x = jax.random.normal(jax.random.key(0), (32, 5, 8))
  mlp = gemma.Mlp(gemma.Config(width=8, mlp_dim=24), remat="rows")
  params = toy.params(jax.eval_shape(mlp.init, jax.random.key(0), x))
  want = mlp.apply(params, x)
  mesh = sharding.make_mesh(dict(fsdp=8))
  place = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(sharding.BATCH)
  )
  with jax.set_mesh(mesh):
    compiled = jax.jit(mlp.apply).lower(params, jax.device_put(x, place))
    compiled = compiled.compile()
    have = compiled(params, jax.device_put(x, place))
  np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
  text = compiled.as_text()
  assert "f32[2,5,24]" in text or "f32[10,24]" in text
  assert "all-" not in text and "permute" not in text


def test_deep_stacks_compute_what_shallow_ones_do(monkeypatch):
  x = jax.random.normal(jax.random.key(0), (2, 4, toy.IMG.width))
  cfg = dataclasses.replace(toy.IMG, depth=2)
  tower = siglip.Transformer(cfg, "everything")
  params = toy.params(jax.eval_shape(tower.init, jax.random.key(0), x))
  loops, results = [], []
  for shallow in (0, 4):
    monkeypatch.setattr(layers, "SHALLOW", shallow)
    fn = jax.jit(lambda p: tower.apply(p, x))
    loops.append(fn.lower(params).as_text().count("stablehlo.while"))
    results.append(fn(params))
  assert loops == [1, 0]
  np.testing.assert_allclose(*results, atol=1e-5)


def test_there_is_dropout_only_in_training_and_where_it_is_asked_for():
  def draws(rate, *, train):
    cfg = toy.config(dataclasses.replace(toy.LLM, dropout=rate))
    apply = paligemma.PaliGemma(cfg, train=train).apply
    fn = lambda p, key: apply(
      {"params": p}, **toy.inputs(toy.batch(ROWS, 2)), rngs={"dropout": key}
    )
    text = str(jax.make_jaxpr(fn)(paligemma.shapes(cfg), jax.random.key(0)))
    return "random_bits" in text

  assert draws(0.5, train=True)
  assert not draws(0.0, train=True)
  assert not draws(0.5, train=False)


def test_dropout_without_a_key_is_an_error():
  cfg = toy.config(dataclasses.replace(toy.LLM, dropout=0.5))
  apply = paligemma.PaliGemma(cfg, train=True).apply
  args = {"params": paligemma.shapes(cfg)}, toy.inputs(toy.batch(ROWS, 2))
  with pytest.raises(flax.errors.InvalidRngError, match="dropout"):
    jax.eval_shape(lambda p, b: apply(p, **b), *args)


# Errors.


def test_an_image_of_another_size_says_what_to_set():
  cfg = toy.config()
  batch = toy.inputs(toy.batch(ROWS, 2))
  batch["image"] = np.zeros((len(ROWS), 2, 12, 8, 3), np.uint8)
  apply = paligemma.PaliGemma(cfg).apply
  with pytest.raises(ValueError, match="12x8 pixels .* 8x8; set .* `res`"):
    jax.eval_shape(
      lambda p, b: apply(p, **b), {"params": paligemma.shapes(cfg)}, batch
    )


def test_a_resolution_that_patches_do_not_divide_names_the_next_one():
  with pytest.raises(ValueError, match="res 230 .* 14 pixels .* try 224"):
    variants.from_config(dict(variant="pg1_3b", res=230))


@pytest.mark.parametrize(
  "model, near",
  (
    (
      dict(variant="pg2_3"),
      'unknown model variant "pg2_3"; did you mean "pg2_',
    ),
    (
      dict(variant="nano", drop=0.1),
      'model key "drop"; did you mean "dropout"',
    ),
  ),
)
def test_an_unknown_name_gets_a_suggestion(model, near):
  with pytest.raises(ValueError, match=near):
    variants.from_config(model)


def test_an_unknown_remat_policy_gets_a_suggestion():
  with pytest.raises(ValueError, match='"dot"; did you mean "dots"'):
    variants.from_config(dict(variant="nano", remat="dot"))
