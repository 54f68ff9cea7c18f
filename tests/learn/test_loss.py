"""The loss equals the plain formula, chunked or not, values and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import sharding
from pg.learn import loss as loss_lib
from pg.models import attention, gemma, paligemma
from tests.support import toy

B, L, D, V = 4, 13, 8, 37  # L is no multiple of the 8 columns of a chunk


def naive(hidden, table, labels, weights, cap=0.0, label_smoothing=0.0):
  """Returns f32[B]: the textbook's smoothed cross entropy, all logits."""
  logits = attention.softcap(hidden @ table.T, cap)
  target = jax.nn.one_hot(labels, V)
  target = target * (1 - label_smoothing) + (1 - target) * label_smoothing / (
    V - 1
  )
  nll = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
  return jnp.sum(nll * weights, axis=1)


@pytest.fixture(scope="module")
def case():
  """Inputs whose targets have holes; one row has none, one is full."""
  rng = np.random.default_rng(0)
  mask = np.zeros((B, L), bool)
  mask[0, [2, 3, 7, 12]] = True
  mask[1, 5:] = True
  mask[3] = True
  return dict(
    hidden=rng.normal(size=(B, L, D)).astype(np.float32),
    table=rng.normal(size=(V, D)).astype(np.float32),
    labels=rng.integers(0, V, (B, L)),
    weights=np.where(mask, rng.uniform(0.5, 1.5, (B, L)), 0).astype(np.float32),
  )


def value_and_gradients(function, case, cap, label_smoothing):
  rest = case["labels"], case["weights"], cap, label_smoothing
  fn = lambda hidden, table: 3 * jnp.sum(function(hidden, table, *rest))
  fn = jax.jit(jax.value_and_grad(fn, (0, 1)))
  value, gradients = fn(case["hidden"], case["table"])
  return value, *gradients


@pytest.mark.parametrize(
  "cap, label_smoothing", ((0.0, 0.0), (0.0, 0.1), (2.0, 0.0), (2.0, 0.1))
)
def test_loss_and_gradients_equal_the_plain_formula(case, cap, label_smoothing):
  have = value_and_gradients(loss_lib.weighted_nll, case, cap, label_smoothing)
  want = value_and_gradients(naive, case, cap, label_smoothing)
  for x, y in zip(have, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def tied_nll(hidden, table, labels, weights, cap=0.0, label_smoothing=0.0):
  """A loss of a model that looks up words, and has other parameters."""
  tokens, last = labels % 5, hidden[:, 0, :3] * 1.5  # several of each token
  x, head, last = loss_lib.tied(table, tokens, weights, last, "float32")
  nll = loss_lib.weighted_nll(
    hidden, head, labels, weights, cap, label_smoothing
  )
  return nll + jnp.sum(jnp.sin(x)) + jnp.sum(jnp.cos(last))


def plain_nll(hidden, table, labels, *rest):
  nll = jnp.sum(naive(hidden, table, labels, *rest))
  nll += jnp.sum(jnp.sin(table[labels % 5]))
  return nll + jnp.sum(jnp.cos(hidden[:, 0, :3] * 1.5))


def few_targets():
  """Returns inputs that are less than a gradient by the table."""
  rng, wide = np.random.default_rng(1), 16 * D
  weights = np.zeros((B, L), np.float32)
  weights[0, [1, 12]] = weights[2, 3:] = 0.5
  return dict(
    hidden=rng.normal(size=(B, L, wide)).astype(np.float32) / 4,
    table=rng.normal(size=(V, wide)).astype(np.float32),
    labels=rng.integers(0, V, (B, L)),
    weights=weights,
  )


@pytest.mark.parametrize("few", (True, False))
@pytest.mark.parametrize("label_smoothing, cap", ((0.0, 0.0), (0.1, 2.0)))
def test_a_tied_table_has_one_gradient(case, label_smoothing, cap, few):
  case = few_targets() if few else case
  have = value_and_gradients(tied_nll, case, cap, label_smoothing)
  want = value_and_gradients(plain_nll, case, cap, label_smoothing)
  for x, y in zip(have, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def test_few_targets_keep_gradients_by_logits_until_the_end(case):
  held = []
  for inputs in (few_targets(), case):
    fn = lambda *args: jax.grad(tied_nll, 1)(*args)
    text = jax.jit(fn).lower(*inputs.values()).as_text()
    barrier = re.search(r"optimization_barrier .* : (.*)", text)
    held.append(barrier and re.findall(r"tensor<([0-9x]*)", barrier[1]))
  # With them goes the gradient of what is to be first.
  assert held == [[f"{B}x{L}x{16 * D}x", f"{B}x{L}x{V}x", "", f"{B}x3x"], None]


def test_what_is_looked_up_adds_to_the_heads_gradient(case):
  """There is no second table to add."""

  def look_up(table, tokens):
    return loss_lib.tied(table, tokens, case["weights"], 0.0, "float32")[:2]

  def loss(look_up, table):
    x, head = look_up(table, case["labels"] % 5)
    return jnp.sum(jnp.sin(x)) + jnp.sum(jnp.cos(head))

  both = (lambda table, tokens: (table[tokens], table)), look_up
  programs = [
    str(jax.make_jaxpr(jax.grad(functools.partial(loss, x)))(case["table"]))
    for x in both
  ]
  assert ["add_any" in x for x in programs] == [True, False]


@pytest.mark.parametrize("columns", (1, 3))
def test_the_size_of_a_chunk_changes_nothing(case, columns, monkeypatch):
  want = value_and_gradients(naive, case, 2.0, 0.1)
  monkeypatch.setattr(loss_lib, "MAX_LOGITS", columns * B * V)
  have = value_and_gradients(loss_lib.weighted_nll, case, 2.0, 0.1)
  for x, y in zip(have, want, strict=True):
    np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def logits_in(function, *args):
  """Returns the leading dimensions of all f32[..., V] in a program."""
  text = jax.jit(lambda *args: function(*args)).lower(*args).as_text()
  return set(re.findall(rf"tensor<([0-9x]+)x{V}x", text))


def test_a_chunk_holds_as_many_logits_as_a_device_may(case, monkeypatch):
  fn = lambda c: jax.grad(loss_lib.weighted_nll)(
    c["hidden"], c["table"], c["labels"], c["weights"]
  )
  assert logits_in(fn, case) == {f"{B}x8"}
  monkeypatch.setattr(loss_lib, "MAX_LOGITS", B * V * 2 + 1)
  assert logits_in(fn, case) == {f"{B}x2"}
  monkeypatch.setattr(loss_lib, "MAX_LOGITS", 1)
  assert logits_in(fn, case) == {f"{B}x1"}
  # What counts is the part of the batch that a device has.
  monkeypatch.setattr(loss_lib, "MAX_LOGITS", B * V * 2 // 4 + 1)
  with jax.set_mesh(sharding.make_mesh(dict(fsdp=4, tensor=2))):
    assert logits_in(fn, case) == {f"{B}x2"}


def test_training_never_holds_the_logits_of_all_positions():
  cfg = paligemma.Config(
    toy.IMG, gemma.Config(**{**vars(toy.LLM), "vocab_size": V})
  )
  batch = toy.batch([((True,), 3, 9)] * B, text_len=L + 1, vocab_size=V)

  def loss(params, batch):
    inputs, labels, mask = loss_lib.targets(batch)
    hidden = paligemma.PaliGemma(cfg).apply({"params": params}, **inputs)
    table = params["llm"]["embedder"]["input_embedding"]
    return loss_lib.weighted_nll(hidden, table, labels, mask.astype(float))

  found = logits_in(jax.grad(loss), paligemma.shapes(cfg), batch)
  assert found == {f"{B}x8"}


def test_without_targets_loss_and_gradients_are_zero(case):
  nothing = {**case, "weights": np.zeros((B, L), np.float32)}
  for x in value_and_gradients(loss_lib.weighted_nll, nothing, 0.0, 0.1):
    assert not np.any(x)


def test_gradients_of_half_precision_states_stay_half(case):
  half = {**case, "hidden": jnp.bfloat16(case["hidden"])}
  have = value_and_gradients(loss_lib.weighted_nll, half, 0.0, 0.0)
  want = value_and_gradients(naive, case, 0.0, 0.0)
  assert have[1].dtype == jnp.bfloat16 and have[2].dtype == jnp.float32
  for x, y in zip(have, want, strict=True):
    np.testing.assert_allclose(jnp.float32(x), y, rtol=0.03, atol=0.15)


def test_row_nll_is_each_rows_mean_over_its_targets(case):
  mask = case["weights"] > 0
  fn = jax.jit(functools.partial(loss_lib.row_nll, cap=2.0))
  have = fn(case["hidden"], case["table"], case["labels"], mask)
  total = naive(case["hidden"], case["table"], case["labels"], mask, cap=2.0)
  want = total / np.maximum(mask.sum(axis=1), 1)
  np.testing.assert_allclose(have, want, rtol=1e-5)
  assert have[2] == 0  # a row without targets


def test_smoothing_puts_the_rest_on_all_other_words():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
  nll = loss_lib.token_nll(logits, jnp.array([1]), label_smoothing=0.2)
  want = -(0.1 * np.log(0.5) + 0.8 * np.log(0.3) + 0.1 * np.log(0.2))
  np.testing.assert_allclose(nll, [want], rtol=1e-6)


def test_short_answers_weigh_as_much_as_long_ones():
  mask = jnp.array([[0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]) > 0
  real = jnp.array([True, True, True, False])
  weights = loss_lib.mean_weights(mask, real)
  want = [[0, 1 / 3, 0, 0], [1 / 12] * 4, [0] * 4, [0] * 4]
  np.testing.assert_allclose(weights, want, rtol=1e-6)
  # Neither a row without targets nor a batch without rows divides by zero.
  nobody = loss_lib.mean_weights(mask, jnp.zeros(4, bool))
  np.testing.assert_array_equal(nobody, np.zeros((4, 4)))


def test_a_position_predicts_the_token_behind_it():
  row = dict(
    tokens=[[2, 10, 3, 20, 1, 0]],  # bos prefix "\n" suffix eos pad
    mask_input=[[1, 1, 1, 1, 1, 0]],
    mask_ar=[[0, 0, 0, 1, 1, 1]],
    mask_loss=[[0, 0, 0, 1, 1, 0]],
  )
  batch = {k: np.array(v) for k, v in row.items()}
  batch |= dict(image="pixels", mask_image="shown", index=np.arange(1))
  inputs, labels, mask = loss_lib.targets(batch)
  assert inputs.pop("image") == "pixels"
  assert inputs.pop("mask_image") == "shown"
  assert {k: v.tolist() for k, v in inputs.items()} == dict(
    tokens=[[2, 10, 3, 20, 1]],
    mask_input=[[1, 1, 1, 1, 1]],
    mask_ar=[[0, 0, 0, 1, 1]],
  )
  assert labels.tolist() == [[10, 3, 20, 1, 0]]
  assert mask.tolist() == [[0, 0, 1, 1, 0]]
