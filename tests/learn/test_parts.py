"""What devices have a part of is computed with as if each had the whole."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from pg import sharding, train
from pg.learn import loss as loss_lib
from pg.learn import optim, parts
from pg.learn import state as state_lib
from pg.models import layers
from pg.plan import hlo
from tests.support import toy

B, L, D, V = 8, 11, 16, 24
NAME = parts.EMBEDDING
# Where the vocabulary [V, D] of 2 x 4 devices lies.
PLACES = (
  (sharding.FSDP, None),
  (None, sharding.FSDP),
  ("fsdp_y", "fsdp_x"),
  (None, None),
)


def nll(embedding, hidden, tokens, weights, cap, smoothing):
  """A loss with the vocabulary at both ends."""
  if isinstance(embedding, parts.Part):
    x = parts.look_up(embedding, tokens)
  else:
    x = embedding[tokens]
  return loss_lib.weighted_nll(
    hidden * jnp.sin(x), embedding, tokens, weights, cap, smoothing
  )


@pytest.mark.parametrize("platform", ("cpu", "tpu"))
@pytest.mark.parametrize("place", PLACES)
def test_a_vocabulary_in_parts_has_the_loss_and_gradients_of_the_whole(
  place, platform, monkeypatch
):
  # A TPU has a collective for each axis.
  monkeypatch.setattr(layers, "platform", lambda: platform)
  draw = np.random.default_rng(0)
  normal = lambda *shape: draw.normal(size=shape).astype(np.float32)
  params = {"llm": {"embedder": {"input_embedding": normal(V, D)}}}
  weights = draw.uniform(size=(B, L)) * (draw.uniform(size=(B, L)) < 0.7)
  weights[3] = 0
  rows = normal(B, L, D), draw.integers(0, V, (B, L)), weights.astype("f4")
  how = 3.0, 0.1

  def loss(params, *rows):
    return nll(params["llm"]["embedder"]["input_embedding"], *rows, *how)

  want, want_gradients = jax.jit(jax.value_and_grad(loss))(params, *rows)
  specs = {NAME: PartitionSpec(*place)}

  def own_loss(params, rows):
    params = parts.wrap(params, specs, "float32", "float32")
    return loss(params, *rows)

  is_frozen = jax.tree.map(lambda x: False, params)
  step = jax.value_and_grad(own_loss)
  run = parts.on_each_device(step, specs, is_frozen)
  with jax.set_mesh(sharding.make_mesh(dict(fsdp=8))):
    have, gradients = jax.jit(run)(params, rows)
  np.testing.assert_allclose(have, want, rtol=1e-5)
  for x, y in zip(
    jax.tree.leaves(gradients), jax.tree.leaves(want_gradients), strict=True
  ):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_rows_are_scored_without_moving_the_vocabulary_each_time(place):
  draw = np.random.default_rng(0)
  normal = lambda *shape: draw.normal(size=shape).astype(np.float32)
  hidden, table = normal(B, 20, D), normal(1024, D)
  labels, mask = draw.integers(0, 1024, (B, 20)), np.ones((B, 20), bool)
  mask[3], mask[4, 2:] = False, False
  rows = hidden, table, labels, mask
  nll = functools.partial(loss_lib.row_nll, cap=3.0)
  mesh = sharding.make_mesh(dict(fsdp=8))
  score = jax.jit(
    parts.on_own_rows(nll, mesh, PartitionSpec(*place), "float32"),
    in_shardings=[
      NamedSharding(mesh, PartitionSpec(*axes))
      for axes in ((sharding.BATCH,), place, *[(sharding.BATCH,)] * 2)
    ],
  )
  with jax.set_mesh(mesh):
    program = score.lower(*rows).compile()
    np.testing.assert_allclose(program(*rows), nll(*rows), rtol=1e-5)
  module = hlo.parse(program.as_text())
  moved = lambda num_chunks: sum(
    size for _, size in hlo.collectives(module, num_chunks).values()
  )
  assert moved(2) - moved(1) < table.nbytes / 4


@pytest.mark.parametrize("grad_dtype", ("float32", "bfloat16"))
def test_weights_travel_in_half_and_gradients_as_the_config_says(
  grad_dtype, monkeypatch
):
  monkeypatch.setattr(sharding, "SMALL", 1)
  cfg, tx, rules = (
    toy.config(dtype="bfloat16"),
    optax.sgd(1.0),
    [(".*", "fsdp")],
  )
  mesh = sharding.make_mesh(dict(fsdp=8))
  state = state_lib.abstract(cfg, tx, mesh, rules)
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=optim.frozen(state["params"], ((".*", "cosine"),)),
    label_smoothing=0.0,
    seed=0,
    specs=parts.specs(cfg, mesh, rules),
    grad_dtype=grad_dtype,
  )
  batch = toy.batch([((True,), 2, 3)] * 8, text_len=9)
  with jax.set_mesh(mesh):
    text = jax.jit(update).lower(state, batch).as_text()
  kind = r'"stablehlo.{}".*?-> tensor<(?:\d+x)+(\w+)>'
  count = lambda op: collections.Counter(
    re.findall(kind.format(op), text, re.DOTALL)
  )
  # Besides weights and gradients: the words looked up, sums of the loss.
  # Releases of jax differ in how many of weights and gradients there are.
  gathered = count("all_gather")
  assert gathered.pop("bf16") >= 26
  assert gathered == dict(f32=5, i32=2)
  own = {"float32": "f32", "bfloat16": "bf16"}[grad_dtype]
  scattered = count("reduce_scatter")
  assert scattered.pop(own) >= 28
  assert (
    scattered == {"float32": dict(bf16=1), "bfloat16": dict(f32=3)}[grad_dtype]
  )
