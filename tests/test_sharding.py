"""Where arrays live, and that nothing else depends on it."""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from pg import sharding, train, tree
from pg.data import stream
from pg.decode import loop
from pg.learn import loss as loss_lib
from pg.learn import optim, parts
from pg.learn import state as state_lib
from pg.models import layers, paligemma, variants
from pg.plan import hlo
from tests.support import toy

FSDP = sharding.FSDP


def abstract(x, y, replica=1, tensor=1):
  return AbstractMesh((replica, x, y, tensor), sharding.AXES)


# The mesh.


@pytest.mark.parametrize(
  "sizes, dims",
  (
    (dict(fsdp=-1), (1, 2, 4, 1)),
    (dict(fsdp=8), (1, 2, 4, 1)),
    (dict(replica=2, fsdp=4), (2, 2, 2, 1)),
    (dict(replica=-1, fsdp=2, tensor=2), (2, 1, 2, 2)),
    (dict(tensor=8), (1, 1, 1, 8)),
  ),
)
def test_sizes_become_axes_and_fsdp_becomes_two(sizes, dims):
  mesh = sharding.make_mesh(sizes)
  assert mesh.axis_names == sharding.AXES
  assert mesh.devices.shape == dims
  with jax.set_mesh(mesh):
    assert layers.num_batch_shards() == math.prod(dims[:3])


class Chip:
  """A device of a slice, as far as a mesh looks at it."""

  platform, device_kind, process_index, core_on_chip = "tpu", "TPU v5e", 0, 0

  def __init__(self, number):
    self.id, self.slice_index = number, number // 4
    self.coords = (number % 2, number // 2 % 2, 0)


@pytest.mark.parametrize(
  "sizes, dims, across",
  (
    (dict(fsdp=-1), (2, 2, 2, 1), {0, 1}),
    (dict(fsdp=-1, tensor=2), (2, 1, 2, 2), {0, 1}),
    (dict(replica=4, fsdp=-1), (4, 1, 2, 1), {0, 1}),
    (dict(replica=1, fsdp=-1), (1, 2, 4, 1), {1}),
  ),
)
def test_slices_are_replicas_unless_told_otherwise(sizes, dims, across):
  chips = [Chip(i) for i in range(8)]
  grid = sharding.make_mesh(sizes, chips).devices
  assert grid.shape == dims
  where = np.vectorize(lambda chip: chip.slice_index)(grid)
  if 0 in across:  # each replica lies in one slice
    assert all(len(np.unique(one)) == 1 for one in where)
  for axis in set(range(4)) - across:
    assert (where.min(axis) == where.max(axis)).all()


@pytest.mark.parametrize(
  "sizes, message",
  (
    (dict(fdsp=8), 'unknown mesh axis "fdsp"; did you mean "fsdp"?'),
    (dict(fsdp=4), "'fsdp': 4.* wants 4 devices; there are 8; set one size to"),
    (dict(fsdp=3, tensor=-1), "wants 6 devices; there are 8"),
    (dict(fsdp=16, tensor=-1), "there are 8"),
    (dict(fsdp=-1, tensor=-1), "wants 64 devices; there are 8"),
    (dict(fsdp=-2, tensor=-4), "there are 8"),
    (dict(fsdp=0, tensor=-1), "wants 0 devices; there are 8"),
  ),
)
def test_sizes_that_do_not_fit_the_devices_are_an_error(sizes, message):
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(sizes)


def test_a_batch_that_does_not_divide_is_an_error_with_numbers_and_a_fix():
  mesh = abstract(8, 8)
  sharding.check_batch(256, mesh)
  sharding.check_batch(8, abstract(2, 4, tensor=4))  # which shares no batch
  with pytest.raises(ValueError) as error:
    sharding.check_batch(250, mesh)
  assert str(error.value) == (
    "batch_size 250 is not divisible by the 64 devices that share a batch; try"
    " 256"
  )
  with pytest.raises(ValueError, match="batch_size 3 .* try 64"):
    sharding.check_batch(3, mesh)
  sharding.check_batch(512, mesh, 4)
  with pytest.raises(ValueError) as error:
    sharding.check_batch(320, mesh, 4)
  assert str(error.value) == (
    "batch_size 320 is not divisible by the 64 devices that share a batch, each"
    " with 4 microbatches; try 256"
  )


# Rules.


def fsdp(shape, mesh, name="w"):
  return sharding.spec(name, shape, mesh, ((".*", "fsdp"),))


def test_the_largest_dimension_that_divides_is_split():
  spec = functools.partial(fsdp, mesh=abstract(2, 4))
  assert spec((2048, 16384)) == PartitionSpec(None, FSDP)
  assert spec((2048, 16385)) == PartitionSpec(FSDP, None)
  assert spec((18, 2, 2048, 257)) == PartitionSpec(None, None, FSDP, None)


@pytest.mark.parametrize(
  "shape, want",
  (
    ((27, 1152, 4304), (None, "fsdp_x", "fsdp_y")),
    ((27, 4304, 1152), (None, "fsdp_x", "fsdp_y")),
    ((27, 1152, 16, 72), (None, "fsdp_x", "fsdp_y", None)),
    ((1, 4096, 1152), (None, "fsdp_x", "fsdp_y")),
    ((257152, 2304), ("fsdp_x", "fsdp_y")),
    # One dimension would leave slices of 64.
    ((18, 2, 2048, 16384), (None, None, "fsdp_x", "fsdp_y")),
    ((46, 2, 4608, 36864), (None, None, None, FSDP)),
  ),
)
def test_two_dimensions_are_split_where_one_leaves_narrow_slices(shape, want):
  assert fsdp(shape, abstract(16, 16)) == PartitionSpec(*want)


def test_what_is_small_or_does_not_divide_is_copied():
  mesh = abstract(2, 4)
  assert not any(fsdp((1023, 1024), mesh))
  assert any(fsdp((1024, 1024), mesh))
  assert not any(fsdp((1031, 1033), mesh))


# What names and shapes become on 2 x 4 devices, times 4 over `tensor`.
TENSOR_PARALLEL = (
  ("llm/embedder/input_embedding", (257152, 2048), ("tensor", FSDP)),
  ("llm/layers/attn/q_einsum/w", (18, 8, 2048, 256), (None, "tensor", FSDP)),
  # The single head of keys and values is everybody's.
  (
    "llm/layers/attn/kv_einsum/w",
    (18, 2, 1, 2048, 256),
    (None, None, None, FSDP),
  ),
  (
    "llm/layers/mlp/gating_einsum",
    (18, 2, 2048, 16384),
    (None, None, FSDP, "tensor"),
  ),
  ("llm/layers/mlp/linear", (18, 16384, 2048), (None, "tensor", FSDP)),
  (
    "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel",
    (27, 1152, 4304),
    (None, FSDP, "tensor"),
  ),
)


@pytest.mark.parametrize("name, shape, want", TENSOR_PARALLEL)
def test_heads_mlp_and_vocabulary_are_split_over_tensor(name, shape, want):
  spec = fsdp(shape, abstract(2, 4, tensor=4), name)
  assert tuple(spec)[: len(want)] == want
  assert not any(spec[len(want) :])


def test_layers_lie_whole_where_their_number_divides():
  names = "llm/layers/w", "img/Transformer/encoderblock/w"
  for name in names:
    spec = fsdp((2**10, 3, 2**10), abstract(1, 2), name)
    assert spec == PartitionSpec(None, None, "fsdp_y")
  assert fsdp((2**10, 3, 2**10), abstract(1, 2))[0]


@functools.cache
def full_size(variant):
  return tree.flatten(paligemma.shapes(variants.VARIANTS[variant]))


def num_parts(spec, mesh):
  axes = [x if isinstance(x, tuple) else (x,) for x in spec if x]
  return math.prod(mesh.shape[a] for x in axes for a in x)


RELEASED = ("pg1_3b", "pg2_3b", "pg2_10b", "pg2_28b")


@pytest.mark.parametrize(
  "sizes",
  (
    (1, 8, 1),
    (1, 16, 1),
    (1, 64, 1),
    (1, 256, 1),
    (1, 512, 1),
    (1, 1024, 1),
    (4, 256, 1),
    (1, 128, 8),
    (2, 32, 16),
    (1, 2, 4),
    (1, 1, 4),
  ),
)
@pytest.mark.parametrize("variant", RELEASED)
def test_less_than_a_percent_of_a_model_is_copied(variant, sizes):
  replica, size, tensor = sizes
  mesh = abstract(*sharding.halves(size), replica, tensor)
  total = copied = 0
  for name, leaf in full_size(variant).items():
    total += leaf.size
    spec = fsdp(leaf.shape, mesh, name)
    NamedSharding(mesh, spec).shard_shape(leaf.shape)  # it divides
    if num_parts(spec, mesh) == 1:
      copied += leaf.size
    elif leaf.size >= sharding.SMALL:  # what is not small has all of fsdp
      assert num_parts(spec, mesh) % size == 0, (name, spec)
  assert 0 < copied < 0.01 * total


@pytest.mark.parametrize("variant", RELEASED)
def test_decoding_in_parallel_copies_next_to_nothing_of_the_decoder(variant):
  cfg, mesh = variants.VARIANTS[variant], abstract(1, 1, tensor=8)
  shapes = {"llm": paligemma.shapes(cfg)["llm"]}
  shapes = jax.eval_shape(loop.unroll, shapes)["llm"]
  flat = tree.flatten({k: v for k, v in shapes.items() if k != "layers"})
  for i, layer in enumerate(shapes["layers"]):
    flat |= tree.flatten(layer, f"layers/{i}")
  copied = 0
  for name, leaf in flat.items():
    spec = sharding.serving_spec(f"llm/{name}", leaf.shape, mesh)
    NamedSharding(mesh, spec).shard_shape(leaf.shape)
    copied += leaf.size * (num_parts(spec, mesh) == 1)
  assert 0 < copied < 1e-3 * sum(leaf.size for leaf in flat.values())


def test_the_first_rule_of_a_name_decides():
  rules = (
    ("llm/.*", (None, "tensor", FSDP)),
    ("img/head/.*", "replicate"),
    (".*", "fsdp"),
  )
  spec = lambda name: sharding.spec(name, (2048, 2048), abstract(2, 4), rules)
  assert spec("llm/w") == PartitionSpec(None, "tensor", FSDP)
  assert spec("img/head/kernel") == PartitionSpec()
  assert spec("img/w") == PartitionSpec(FSDP, None)


def test_a_rule_that_splits_the_layers_of_a_stack_is_an_error():
  rules = ((".*", (FSDP, None)),)
  mesh = abstract(2, 4)
  assert sharding.spec("w", (64, 8), mesh, rules) == PartitionSpec(FSDP, None)
  with pytest.raises(ValueError, match="its layers.*begin it with None"):
    sharding.spec("llm/layers/mlp/linear", (64, 8), mesh, rules)


def test_an_unknown_strategy_gets_a_suggestion():
  with pytest.raises(ValueError, match='strategy "fdsp"; did you mean "fsdp"'):
    sharding.spec("w", (8, 8), abstract(2, 4), ((".*", "fdsp"),))


# A step on one device and on eight.


class Step(NamedTuple):
  """A step that was taken."""

  start: dict  # the state before
  end: dict
  measured: dict
  moved: dict  # {collective: bytes} of a device


def step(sizes, devices=None):
  """Takes a Step whose "optimizer" keeps the gradient as its state."""
  llm = dataclasses.replace(toy.LLM, dropout=0.3)
  cfg = dataclasses.replace(toy.config(llm), remat="nothing")
  tx, rules = optax.trace(decay=0.0), ((".*", "fsdp"),)
  mesh = sharding.make_mesh(sizes, devices)
  place = state_lib.abstract(cfg, tx, mesh, rules)
  params = toy.params(paligemma.shapes(cfg))
  start = jax.tree.map(
    lambda x, at: jax.device_put(x, at.sharding),
    state_lib.of_params(params, tx),
    place,
  )
  rows = [((b != 1,), 1 + b % 3, b % 5) for b in range(8)]
  batch = toy.batch(rows, text_len=9)
  batch["index"][6] = -1  # a padding example
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=optim.frozen(params, ((".*", "cosine"),)),
    label_smoothing=0.1,
    seed=0,
    specs=parts.specs(cfg, mesh, rules),
  )
  batch = stream.put(batch, mesh)
  with jax.set_mesh(mesh):
    program = jax.jit(update).lower(start, batch).compile()
    end, measured = program(start, batch)
  same = lambda x, want: x.sharding.is_equivalent_to(want.sharding, x.ndim)
  assert all(jax.tree.leaves(jax.tree.map(same, end, start)))
  moved = hlo.collectives(hlo.parse(program.as_text()))
  return Step(start, end, measured, {k: n for k, (_, n) in moved.items()})


@pytest.fixture(scope="module")
def alone():
  return step({}, jax.devices()[:1])


# How many bytes a device of replica x fsdp x tensor moves in it, at most:
# weights twice, their gradients once (reduced where weights are copied); and
# words looked up, what the loss sums, and sums over `tensor`.
MOVED = {
  (1, 8, 1): {
    "all-gather": 38592,
    "reduce-scatter": 38208,
    "all-reduce": 5108,
    "all-to-all": 1024,
  },
  (2, 2, 2): {
    "all-gather": 17472,
    "reduce-scatter": 16576,
    "all-reduce": 40084,
    "all-to-all": 2048,
  },
  (1, 2, 4): {
    "all-gather": 22688,
    "reduce-scatter": 15168,
    "all-reduce": 67248,
    "all-to-all": 4096,
  },
}


@pytest.mark.parametrize("sizes", MOVED)
def test_a_step_on_eight_devices_is_the_step_on_one(sizes, alone, monkeypatch):
  monkeypatch.setattr(sharding, "SMALL", 1)
  replica, fsdp, tensor = sizes
  taken = step(dict(replica=replica, fsdp=fsdp, tensor=tensor))
  # What one device holds of the state, before and after.
  for state in (taken.start, taken.end):
    total = sum(x.size for x in jax.tree.leaves(state))
    part = sum(x.addressable_data(0).size for x in jax.tree.leaves(state))
    assert part < 2.4 * total / (fsdp * tensor)
  for key, value in alone.measured.items():
    np.testing.assert_allclose(taken.measured[key], value, rtol=1e-5)
  have = tree.flatten(jax.device_get(taken.end["opt"].trace))
  for name, gradient in tree.flatten(alone.end["opt"].trace).items():
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(have[name], gradient, atol=1e-5 * scale + 1e-7)
  assert not alone.moved
  assert taken.moved.keys() == MOVED[sizes].keys()
  for kind, size in taken.moved.items():
    # Norms and counts that are measured are in it, too.
    assert size < 1.05 * MOVED[sizes][kind], (kind, taken.moved)


@pytest.mark.parametrize("spec", ((FSDP, None), (None, FSDP)))
def test_the_loss_moves_weights_and_no_rows_between_devices(spec):
  mesh = sharding.make_mesh(dict(fsdp=8))
  place = lambda shape, *spec: jax.ShapeDtypeStruct(
    shape, np.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec))
  )
  rows = functools.partial(place, (8, 20), sharding.BATCH)
  hidden, table = place((8, 20, 64), sharding.BATCH), place((512, 64), *spec)
  loss = lambda h, e, y, w: loss_lib.weighted_nll(h, e, y.astype(int), w)
  fn = jax.jit(jax.value_and_grad(loss, (0, 1)))
  with jax.set_mesh(mesh):
    text = fn.lower(hidden, table, rows(), rows()).compile().as_text()
  moved = re.findall(r"= (.*) (?:all-|reduce-scatter|collective)[a-z]*\(", text)
  moved = set(re.findall(r"[a-z0-9]+\[[0-9,]*\]", " ".join(moved)))
  # Weights, their gradient, the loss, how many chunks there are.
  assert moved == {"f32[512,64]", "f32[]", "s32[]"}


def test_a_batch_is_split_by_rows():
  mesh = sharding.make_mesh(dict(replica=2, fsdp=2, tensor=2))
  x = np.arange(24.0, dtype=np.float32).reshape(8, 3)
  (out,) = stream.put(dict(x=x), mesh).values()
  np.testing.assert_array_equal(out, x)
  assert {s.data.shape for s in out.addressable_shards} == {(2, 3)}


def test_without_a_mesh_nothing_is_constrained():
  x = jnp.ones((3, 2))
  assert layers.constrain(x) is x
