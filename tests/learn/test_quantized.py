"""Adapters of quantised weights are trained as those of what they stand for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pg import sharding, train, tree
from pg.data import stream
from pg.evals import run as evals_run
from pg.learn import accumulate, optim, parts
from pg.learn import loss as loss_lib
from pg.learn import state as state_lib
from pg.models import lora, matrices, paligemma, quantize
from tests.support import toy

ROWS = [((True,), 3, 4), ((True,), 2, 2), ((False,), 4, 3), ((True,), 2, 5)] * 2
SCHEDULE = ((".*", "constant"),)
RULES = ((".*", "fsdp"),)


@pytest.fixture(scope="module")
def model():
  """A config with adapters, and f32 parameters on the host."""
  cfg = toy.config()
  flat = tree.flatten(paligemma.shapes(cfg))
  targets = tuple(k for k in flat if matrices.letters(k))
  cfg = toy.config(lora=lora.Config(targets, 2, 3.0))
  params = toy.params(paligemma.shapes(cfg))
  return cfg, jax.device_get(params)


def step(cfg, params, sizes, kind="float32"):
  """Returns the adapters, and measurements, after two steps; and the state."""
  num = 8 if sizes else 1
  mesh = sharding.make_mesh(sizes, devices=jax.devices()[:num])
  is_frozen = optim.frozen(paligemma.shapes(cfg), SCHEDULE)
  tx = optax.adam(0.01)
  tx = optax.masked(tx, jax.tree.map(lambda x: not x, is_frozen))
  shapes = state_lib.shapes(cfg, is_frozen, kind)
  where = state_lib.abstract(cfg, tx, mesh, RULES, shapes)
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=is_frozen,
    label_smoothing=0.0,
    seed=0,
    specs=parts.specs(cfg, mesh, RULES, shapes),
  )
  state = state_lib.of_params(params, tx)
  assert jax.tree.structure(state) == jax.tree.structure(where)
  state = jax.device_put(state, jax.tree.map(lambda x: x.sharding, where))
  with jax.set_mesh(mesh):
    rows, update = stream.put(toy.batch(ROWS), mesh), jax.jit(update)
    for _ in range(2):
      state, measured = update(state, rows)
    embedding = state["params"]["llm"]["embedder"]["input_embedding"]
    spec = jax.tree.map(lambda x: x.sharding.spec, embedding)
    nll = evals_run._score(cfg, mesh, spec)(state["params"], rows)
  measured["nll"] = nll
  return jax.device_get((state, measured))


def base(params, kind):
  """Returns parameters with quantised weights, and f32 ones alike."""
  how = quantize.parse(kind)
  own = {lora.ROOT: params[lora.ROOT]}
  rest = {k: v for k, v in params.items() if k != lora.ROOT}
  small = quantize.quantized(how, rest)
  whole = tree.map_named(lambda _, w: quantize.whole(w, "float32"), small)
  return {**small, **own}, {**whole, **own}


def check_same(have, want):
  assert have[1].keys() == want[1].keys()
  for key in ("train/loss", "train/grad_norm", "train/grad_norm/img", "nll"):
    np.testing.assert_allclose(have[1][key], want[1][key], rtol=2e-3)
  for name, x in tree.flatten(want[0]["params"][lora.ROOT]).items():
    y = tree.flatten(have[0]["params"][lora.ROOT])[name]
    np.testing.assert_allclose(y, x, rtol=2e-3, atol=5e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("int4", "nf4"))
def test_a_step_is_that_of_the_weights_they_stand_for(kind, model):
  cfg, params = model
  small, whole = base(params, kind)
  have, want = step(cfg, small, {}, kind), step(cfg, whole, {})
  check_same(have, want)
  # Nothing of them has changed, and the optimizer has nothing of them.
  for name, w in tree.flatten(small).items():
    if quantize.is_quantized(w):
      other = tree.flatten(have[0]["params"])[name]
      jax.tree.map(np.testing.assert_array_equal, other, w)
  count = lambda x: sum(y.size for y in jax.tree.leaves(x))
  assert count(have[0]["opt"]) == 2 * count(params[lora.ROOT]) + 1


@pytest.mark.slow
@pytest.mark.parametrize(
  "kind, sizes",
  (
    ("nf4", dict(fsdp=8)),
    ("int4", dict(replica=2, fsdp=2, tensor=2)),
  ),
)
def test_eight_devices_train_as_one_does(kind, sizes, model, monkeypatch):
  monkeypatch.setattr(sharding, "SMALL", 1)
  cfg, params = model
  small, _ = base(params, kind)
  have, want = step(cfg, small, sizes, kind), step(cfg, small, {}, kind)
  check_same(have, want)


def test_values_and_scales_are_split_alike(monkeypatch):
  monkeypatch.setattr(sharding, "SMALL", 1)
  mesh = jax.sharding.AbstractMesh((1, 2, 2, 1), sharding.AXES)
  how = quantize.parse("int4:16")
  name = "llm/layers/mlp/linear"
  shapes = {"llm": {"layers": {"mlp": {"linear": None}}}}
  for inputs, want in ((64, sharding.FSDP), (32, None)):
    x = jax.ShapeDtypeStruct((2, inputs, 4), jnp.float32)
    shapes = tree.unflatten({name: quantize.abstract(how, name, x)})
    spec = parts.specs(None, mesh, RULES, shapes)[name]
    assert spec.values[1] == sharding.FSDP
    assert spec.scale[1] == want


def test_a_quantised_vocabulary_has_the_loss_and_gradients_of_the_whole():
  rng = np.random.default_rng(0)
  table = rng.normal(size=(37, 16)).astype("f4")
  hidden = rng.normal(size=(3, 11, 16)).astype("f4")
  labels, weights = rng.integers(0, 37, (3, 11)), rng.uniform(size=(3, 11))
  q = quantize.of_array(quantize.parse("int8"), quantize.EMBEDDING, table)

  def loss(table, hidden):
    return loss_lib.weighted_nll(hidden, table, labels, weights, 2.0, 0.1)

  grad = jax.jit(jax.value_and_grad(loss, 1))
  have, want = grad(q, hidden), grad(quantize.whole(q, "float32"), hidden)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
    have,
    want,
  )


def test_microbatches_of_quantised_weights_add_up(model):
  cfg, params = model
  del cfg
  small, _ = base(params, "int8")
  w = small["llm"]["layers"]["mlp"]["linear"]
  tokens = np.random.default_rng(0).normal(size=(8, 3, 24)).astype("f4")

  def loss(params, rows, rng):
    del rng
    y = rows @ quantize.whole(params["w"], "float32")[0]
    return jnp.sum(jnp.sin(y * params["free"]))

  params = dict(w=w, free=np.float32(0.3))
  how = dict(w=True, free=False), tokens, jax.random.key(0)
  one, two = (accumulate.value_and_grad(loss, params, *how, n) for n in (1, 2))
  assert one[1]["w"] is two[1]["w"] is None
  np.testing.assert_allclose(one[1]["free"], two[1]["free"], rtol=1e-5)
