"""One step by hand, schedules at their corners, and what freezing means."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from optax import contrib

from pg import schema, tree
from pg.learn import accumulate, optim, schedule
from pg.models import paligemma, variants
from tests.support import toy

TOTAL = 10
PARAMS = {
  "img": {"head": {"kernel": [1.0, -2.0], "bias": [0.5]}},
  "llm": {"scale": [4.0]},
}
# Gradients of three steps; the first has norm 5.
GRADIENTS = (
  {
    "img": {"head": {"kernel": [0.0, 3.0], "bias": [0.0]}},
    "llm": {"scale": [4.0]},
  },
  {
    "img": {"head": {"kernel": [0.1, 0.2], "bias": [-0.3]}},
    "llm": {"scale": [0.1]},
  },
  {
    "img": {"head": {"kernel": [0.5, 0.1], "bias": [0.4]}},
    "llm": {"scale": [-2.0]},
  },
)


def arrays(values):
  return tree.map_named(lambda _, x: jnp.array(x), values)


def options(**changes):
  values = dict(lr=0.1, wd=0.01, warmup=2, batch_size=1, grad_clip=1.0)
  values |= dict(
    optimizer="adam", moment_dtype="float32", ema=0.0, b1=0.9, b2=0.99
  )
  values |= dict(schedule=((".*", "cosine"),))
  values |= dict(nonfinite=dict(policy="stop"))
  values |= dict(lr_mult=((".*", 1.0),), wd_mult=toy.DECAYED)
  return ml_collections.ConfigDict(values | changes)


def steps(c, gradients=GRADIENTS):
  """Yields parameters and state after each step."""
  params = arrays(PARAMS)
  tx = optim.make(c, params, TOTAL)
  is_frozen = optim.frozen(params, c.schedule)
  state = tx.init(params)
  update = jax.jit(tx.update)
  for grads in map(arrays, gradients):
    updates, state = update(grads, state, params)
    params = jax.tree.map(
      lambda p, u, f: p if f else p + u, params, updates, is_frozen
    )
    yield tree.flatten(params), state


def by_hand(c, gradients=GRADIENTS):
  """Yields the flat parameters after each step, from the formula."""
  p = {k: np.array(v) for k, v in tree.flatten(PARAMS).items()}
  free = [k for k in p if tree.match(c.schedule, k)]
  m, v = ({k: np.zeros_like(x) for k, x in p.items()} for _ in range(2))
  for t, grads in enumerate(gradients):
    g = {k: np.array(x) for k, x in tree.flatten(grads).items()}
    norm = np.sqrt(sum(np.sum(g[k] ** 2) for k in free))
    for k in free:
      x = g[k] / max(1.0, norm / c.grad_clip) if c.grad_clip else g[k]
      m[k] = c.b1 * m[k] + (1 - c.b1) * x
      v[k] = c.b2 * v[k] + (1 - c.b2) * x**2
      m_hat, v_hat = m[k] / (1 - c.b1 ** (t + 1)), v[k] / (1 - c.b2 ** (t + 1))
      adam = m_hat / (np.sqrt(v_hat) + 1e-8)
      step = adam if c.optimizer == "adam" else x
      rule = tree.match(c.schedule, k)
      s = float(schedule.make(rule, TOTAL, int, c.warmup)(t))
      lr, wd = c.lr * tree.match(c.lr_mult, k), c.wd * tree.match(c.wd_mult, k)
      p[k] = p[k] - s * (lr * step + wd * p[k])
    yield p


@pytest.mark.parametrize(
  "change",
  (
    dict(),
    dict(grad_clip=0.0),
    dict(warmup=0, schedule=(("llm/.*", "rsqrt"), (".*", "linear"))),
    dict(lr_mult=(("img/.*", 0.5), (".*", 2.0)), wd_mult=((".*", 3.0),)),
    dict(schedule=(("img/.*/bias", None), (".*", "constant"))),
    dict(optimizer="sgd"),
  ),
  ids=lambda change: ",".join(change) or "default",
)
def test_steps_equal_the_formula(change):
  c = options(**change)
  for (have, _), want in zip(steps(c), by_hand(c), strict=True):
    for name in want:
      np.testing.assert_allclose(have[name], want[name], rtol=1e-5)


def test_weight_decay_follows_the_schedule_but_not_the_learning_rate():
  zero = [jax.tree.map(lambda x: 0.0 * x, arrays(g)) for g in GRADIENTS]
  for lr in (0.1, 0.0):
    decayed = [p["img/head/kernel"][0] for p, _ in steps(options(lr=lr), zero)]
    # Warm-up factors 0, 0.5, 1; wd 0.01.
    np.testing.assert_allclose(decayed, [1, 0.995, 0.995 * 0.99], rtol=1e-6)


def test_without_weight_decay_parameters_are_not_read():
  c = options(wd=0.0, wd_mult=((".*", 1.0),))
  tx = optim.make(c, arrays(PARAMS), TOTAL)
  tx.update(arrays(GRADIENTS[0]), tx.init(arrays(PARAMS)))
  tx = optim.make(options(), arrays(PARAMS), TOTAL)
  with pytest.raises(ValueError, match="params"):  # else the above is empty
    tx.update(arrays(GRADIENTS[0]), tx.init(arrays(PARAMS)))


def test_by_default_only_kernels_decay():
  zero = [jax.tree.map(lambda x: 0.0 * x, arrays(g)) for g in GRADIENTS]
  *_, (params, _) = steps(options(), zero)
  start = {k: jnp.array(v) for k, v in tree.flatten(PARAMS).items()}
  changed = [k for k in params if not jnp.array_equal(params[k], start[k])]
  assert changed == ["img/head/kernel"]


def test_plain_descent_keeps_only_a_count():
  *_, (_, state) = steps(options(optimizer="sgd"))
  assert [x.shape for x in jax.tree.leaves(state)] == [()]


MATRIX = {"llm": {"layers": {"mlp": {"linear": jnp.ones((4, 6)) / 3}}}}


@pytest.mark.parametrize(
  "name, want",
  (
    ("adam", optax.adam(0.1, 0.9, 0.99)),
    ("adamw", optax.adamw(0.1, 0.9, 0.99, weight_decay=0.01)),
    ("lion", optax.lion(0.1, 0.9, 0.99, weight_decay=0.0)),
    ("momentum", optax.sgd(0.1, momentum=0.9)),
    ("sgd", optax.sgd(0.1)),
    (
      "muon",
      contrib.muon(
        0.1, beta=0.9, adam_b1=0.9, adam_b2=0.99, consistent_rms=0.2
      ),
    ),
    (
      "adafactor",
      optax.adafactor(0.1, multiply_by_parameter_scale=False),
    ),
  ),
)
def test_an_optimizer_is_the_one_that_optax_calls_so(name, want):
  wd = 0.01 if name == "adamw" else 0.0
  c = options(optimizer=name, wd=wd, warmup=0, grad_clip=0.0)
  with c.unlocked():
    c.schedule, c.wd_mult = ((".*", "constant"),), ((".*", 1.0),)
  tx = optim.make(c, MATRIX, TOTAL)
  have = expected = MATRIX
  state, other = tx.init(have), want.init(expected)
  rng = np.random.default_rng(0)
  for _ in range(3):
    grads = jax.tree.map(lambda p: jnp.float32(rng.normal(size=p.shape)), have)
    updates, state = tx.update(grads, state, have)
    have = optax.apply_updates(have, updates)
    updates, other = want.update(grads, other, expected)
    expected = optax.apply_updates(expected, updates)
    leaves = jax.tree.leaves(have), jax.tree.leaves(expected)
    np.testing.assert_allclose(*leaves[0], *leaves[1], rtol=1e-5)
  assert set(schema.choices(schema.KEYS["optimizer"])) == set(optim.OPTIMIZERS)


def test_what_is_kept_of_each_parameter():
  kept = {}
  shapes = {"llm": {"layers": {"mlp": {"linear": jnp.zeros((128, 256))}}}}
  for name in optim.OPTIMIZERS:
    for dtype in ("float32", "bfloat16"):
      c = options(optimizer=name, moment_dtype=dtype, wd_mult=((".*", 1.0),))
      with c.unlocked():
        c.schedule = ((".*", "constant"),)
      tx = optim.make(c, shapes, TOTAL)
      state = jax.tree.leaves(jax.eval_shape(tx.init, shapes))
      bytes_ = sum(x.size * x.dtype.itemsize for x in state)
      kept[name, dtype] = round(bytes_ / (128 * 256 * 4), 1)
  by_dtype = lambda dtype: {n: x for (n, d), x in kept.items() if d == dtype}
  two = dict(adam=2, adamw=2, lion=1, momentum=1, muon=1, sgd=0, adafactor=0)
  assert by_dtype("float32") == two | dict(schedule_free=2)
  half = {name: x / 2 for name, x in two.items()}
  # What steps move is kept as it is, beside the average.
  assert by_dtype("bfloat16") == half | dict(schedule_free=1.5)


@pytest.mark.parametrize("variant", ("pg1_3b", "pg2_3b", "nano"))
def test_muon_has_every_matrix_of_every_layer_and_nothing_else(variant):
  shapes = paligemma.shapes(variants.VARIANTS[variant])
  dims = tree.flatten(optim._matrices(shapes))
  for name, leaf in tree.flatten(shapes).items():
    inside = "/layers/" in name or "/encoderblock/" in name
    is_matrix = inside and not name.endswith(("/scale", "/bias"))
    assert (dims[name] is not None) == is_matrix, name
    if is_matrix:
      # What is summed over and what comes out: the width is one of the two.
      width = 1152 if name.startswith("img/") else shapes_width(shapes)
      width = width if variant != "nano" else 96
      num = [np.prod([leaf.shape[d] for d in axes]) for axes in dims[name]]
      assert width in num, name
      stack = leaf.size // np.prod(num)
      assert stack in (leaf.shape[0], leaf.shape[0] * leaf.shape[1]), name


def shapes_width(shapes):
  return shapes["llm"]["embedder"]["input_embedding"].shape[1]


def test_muon_takes_the_layers_of_a_stack_one_by_one():
  name = ("llm", "layers", "attn", "q_einsum", "w")
  nest = lambda x: functools.reduce(lambda y, k: {k: y}, reversed(name), x)
  c = options(optimizer="muon", wd_mult=((".*", 1.0),))
  rng = np.random.default_rng(0)
  w, g = (jnp.float32(rng.normal(size=(2, 3, 8, 4))) for _ in range(2))
  tx = optim.make(c, nest(w), TOTAL)
  (have,) = jax.tree.leaves(tx.update(nest(g), tx.init(nest(w)), nest(w))[0])
  for layer in range(2):
    (alone,) = jax.tree.leaves(
      tx.update(
        nest(g[layer : layer + 1]),
        tx.init(nest(w[layer : layer + 1])),
        nest(w[layer : layer + 1]),
      )[0]
    )
    np.testing.assert_allclose(have[layer], alone[0], atol=1e-6)


def test_an_unknown_optimizer_is_named():
  with pytest.raises(ValueError, match='optimizer "smd"; did you mean "sgd"'):
    optim.make(options(optimizer="smd"), arrays(PARAMS), TOTAL)


FROZEN = (("img/.*", None), (".*", "constant"))


def test_what_is_frozen_stays_and_has_no_moments():
  c = options(schedule=FROZEN, wd_mult=((".*", 1.0),))
  *_, (params, state) = steps(c)
  for name, start in tree.flatten(PARAMS).items():
    same = np.array_equal(params[name], np.float32(start))
    assert same == name.startswith("img/"), name
  moments = [x for x in jax.tree.leaves(state) if x.ndim]
  assert [x.shape for x in moments] == [(1,), (1,)]  # mu, nu of llm/scale


def test_what_is_frozen_does_not_count_in_the_clipping_norm():
  huge = [jax.tree.map(lambda x: x, g) for g in GRADIENTS]
  for g in huge:
    g["img"] = {"head": {"kernel": [1e9, 1e9], "bias": [1e9]}}
  c = options(schedule=FROZEN)
  for (have, _), (want, _) in zip(steps(c, huge), steps(c), strict=True):
    np.testing.assert_array_equal(have["llm/scale"], want["llm/scale"])


def test_no_gradient_flows_into_what_is_frozen():
  params = arrays(PARAMS)
  is_frozen = optim.frozen(params, FROZEN)

  def loss(p, rows, rng):
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(p))

  _, grads = accumulate.value_and_grad(loss, params, is_frozen, (), None, 1)
  grads = tree.flatten(grads)
  felt = [k for k in grads if grads[k].any()]
  assert felt == ["llm/scale"]
  # So the norm is of what is not frozen.
  want = np.linalg.norm(grads["llm/scale"])
  assert float(optax.tree.norm(grads)) == pytest.approx(want)


def test_an_unknown_schedule_gets_a_suggestion():
  with pytest.raises(
    ValueError, match='schedule "cosin"; did you mean "cosine"'
  ):
    optim.make(options(schedule=((".*", "cosin"),)), arrays(PARAMS), TOTAL)


def test_parameters_have_the_schedules_of_their_groups():
  late = dict(kind="constant", delay=2, warmup=0)
  c = options(schedule=(("img/.*", late), (".*", "constant")), warmup=0)
  zero = {k: jnp.array(v) for k, v in tree.flatten(PARAMS).items()}
  moved = []
  for params, _ in steps(c):
    moved.append([k for k in params if not np.array_equal(params[k], zero[k])])
  assert moved[:2] == [["llm/scale"], ["llm/scale"]]
  assert len(moved[2]) == 3


@pytest.mark.parametrize("key", ("schedule", "lr_mult", "wd_mult"))
def test_a_parameter_without_a_rule_is_an_error(key):
  c = options(**{key: (("img/.*", None if key == "schedule" else 1.0),)})
  with pytest.raises(ValueError, match=f"{key}: no rule .* llm/scale; add"):
    optim.make(c, arrays(PARAMS), TOTAL)
  c[key] = (("llm/.*", c[key][0][1]),)
  names = "img/head/bias, img/head/kernel; add"
  with pytest.raises(ValueError, match=f"{key}: no rule .* {names}"):
    optim.make(c, arrays(PARAMS), TOTAL)


@pytest.mark.parametrize("key", ("schedule", "lr_mult", "wd_mult"))
def test_a_rule_that_nothing_matches_is_an_error(key):
  value = "cosine" if key == "schedule" else 1.0
  c = options(**{key: (("image/.*", value), (".*", value))})
  with pytest.raises(
    ValueError, match=f"{key}: .* 'image/.*'; names look like"
  ):
    optim.make(c, arrays(PARAMS), TOTAL)


def test_a_rule_behind_one_that_takes_all_its_names_is_an_error():
  c = options(
    schedule=(("llm/.*", "cosine"), ("llm/scale", None), (".*", None))
  )
  with pytest.raises(
    ValueError, match="no parameter's first match is 'llm/sca"
  ):
    optim.make(c, arrays(PARAMS), TOTAL)


def test_rates_are_told_as_one_where_they_are_and_else_by_group():
  told = lambda **changes: optim.rates(options(**changes), PARAMS, TOTAL)
  (name,) = told()
  factor = schedule.make("cosine", TOTAL, int, 2)
  rate = told()[name]
  assert name == "train/lr"
  assert [rate(t) for t in (0, 1, 2, 5)] == pytest.approx(
    [0.1 * float(factor(t)) for t in (0, 1, 2, 5)]
  )
  assert list(told(schedule=FROZEN)) == ["train/lr"]
  mult = ((".*/bias", 0.0), ("img/.*", 0.5), (".*", 1.0))
  found = {name: rate(2) for name, rate in told(lr_mult=mult).items()}
  # Of the projector's kernel and bias the higher.
  assert found == pytest.approx(
    {"train/lr/projector": 0.05, "train/lr/llm": 0.1}
  )


def test_norms_of_groups_make_the_norm_of_all():
  grads = arrays(GRADIENTS[0])
  grads["img"]["embedding"] = jnp.array([12.0])
  free = jax.tree.map(lambda _: False, grads)
  norms = optim.group_norms(grads, free)
  assert {name: float(norm) for name, norm in norms.items()} == {
    "train/grad_norm/img": 12.0,
    "train/grad_norm/projector": 3.0,
    "train/grad_norm/llm": 4.0,
  }
  free["img"]["embedding"] = free["llm"]["scale"] = True
  assert list(optim.group_norms(grads, free)) == ["train/grad_norm/projector"]
