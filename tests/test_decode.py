"""What is written one token at a time is what the model says all at once."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg.decode import beam, loop, sampling
from pg.models import gemma, paligemma
from tests import toy

V, L, A = 5, 8, 6  # words, prompt buffer, longest answer
CFG = toy.config(dataclasses.replace(toy.LLM2, vocab_size=V))
NEVER = -1  # an eos that no word is
# Whether the image is shown, lengths of the prefix and of a given start.
ROWS = (
  ((True,), 3, 0),
  ((True,), 8, 0),
  ((False,), 1, 0),
  ((True,), 2, 3),
  ((False,), 4, 4),
  ((True,), 1, 0),
)


@pytest.fixture(scope="module")
def params():
  return loop.unroll(toy.params(paligemma.shapes(CFG), seed=2))


@pytest.fixture(scope="module")
def batch():
  return toy.batch(ROWS, text_len=L, vocab_size=V)


@pytest.fixture(scope="module")
def greedy(params):
  """Answers of a batch, as numpy: (batch, eos, real) -> loop.Answer."""

  @toy.jit
  def generate(params, batch, eos, real):
    return loop.generate(CFG, params, batch, max_len=A, eos=eos, real=real)

  def decode(batch, eos=NEVER, real=None, params=params):
    real = np.ones(len(batch["tokens"]), bool) if real is None else real
    return loop.Answer(*map(np.asarray, generate(params, batch, eos, real)))

  return decode


@pytest.fixture(scope="module")
def scores():
  """log p of every word behind each answer token, by the training forward.

  The function takes (params, batch, answers i32[B, A']) and returns
  f32[B, A' + 1, V]: the first is behind the prompt alone.
  """
  scanned = toy.params(paligemma.shapes(CFG), seed=2)

  @toy.jit
  def forward(batch):
    apply = functools.partial(
      paligemma.PaliGemma(CFG).apply, {"params": scanned}
    )
    logits = apply(apply(**batch), method="logits")
    return jax.nn.log_softmax(logits)

  def score(batch, answers):
    num_rows, num_new = answers.shape
    length = batch["mask_input"].sum(axis=1)
    rows = toy.batch(
      [(shown, 0, 0) for shown in batch["mask_image"]], text_len=L + A
    )
    rows["image"] = batch["image"]
    for b, n in enumerate(length):
      rows["tokens"][b, :n] = batch["tokens"][b, :n]
      rows["tokens"][b, n : n + num_new] = answers[b]
      rows["mask_input"][b] = np.arange(L + A) < n + num_new
      rows["mask_ar"][b, :n] = batch["mask_ar"][b, :n]
    logp = np.asarray(forward(toy.inputs(rows)))
    at = length[:, None] - 1 + np.arange(num_new + 1)
    return logp[np.arange(num_rows)[:, None], at]

  return score


def test_greedy_words_are_the_likeliest_ones_of_teacher_forcing(
  greedy, scores, batch
):
  answer = greedy(batch)
  logp = scores(batch, answer.tokens)[:, :-1]
  np.testing.assert_array_equal(answer.tokens, logp.argmax(axis=-1))
  np.testing.assert_allclose(answer.logp, logp.max(axis=-1), atol=1e-5)
  assert len(np.unique(answer.tokens)) > 2  # not the same word again and again


def test_neighbours_and_places_in_a_batch_change_nothing(greedy, batch):
  want, order = greedy(batch), [4, 2, 0, 5, 1, 3]
  moved = greedy({k: v[order] for k, v in batch.items()})
  np.testing.assert_array_equal(moved.tokens, want.tokens[order])
  np.testing.assert_allclose(moved.logp, want.logp[order], atol=1e-6)
  others = toy.batch([((True,), 5, 1)] * 6, text_len=L, vocab_size=V, seed=9)
  mixed = {k: np.concatenate([v[:2], others[k][2:]]) for k, v in batch.items()}
  np.testing.assert_array_equal(greedy(mixed).tokens[:2], want.tokens[:2])


def test_padding_and_batch_size_change_nothing(greedy, batch):
  want = greedy(batch)
  some = {k: v[2:5] for k, v in batch.items()}
  for key in ("tokens", "mask_input", "mask_ar"):
    pad = dict(tokens=3, mask_input=False, mask_ar=True)[key]
    some[key] = np.pad(some[key], ((0, 0), (0, 3)), constant_values=pad)
  have = greedy(some)
  np.testing.assert_array_equal(have.tokens, want.tokens[2:5])
  np.testing.assert_allclose(have.logp, want.logp[2:5], atol=1e-5)


@pytest.mark.parametrize("eos", range(1, V))
def test_an_answer_ends_at_its_first_eos_and_is_zero_behind(greedy, batch, eos):
  endless, have = greedy(batch), greedy(batch, eos)
  assert (endless.tokens == eos).any()
  for b, row in enumerate(endless.tokens):
    n = list(row).index(eos) + 1 if eos in row else A
    np.testing.assert_array_equal(have.tokens[b], [*row[:n], *[0] * (A - n)])
    want = [*endless.logp[b, :n], *[0] * (A - n)]
    np.testing.assert_allclose(have.logp[b], want, atol=1e-6)


def test_nobody_waits_for_rows_that_are_not_real(greedy, batch):
  real = np.arange(len(ROWS)) < 3
  want, have = greedy(batch), greedy(batch, real=real)
  np.testing.assert_array_equal(have.tokens[:3], want.tokens[:3])
  assert not have.tokens[3:].any() and not have.logp[3:].any()


def test_cast_and_unrolled_weights_are_the_scanned_ones():
  scanned = toy.params(paligemma.shapes(CFG))
  layers = loop.unroll(scanned, jnp.bfloat16)["llm"]["layers"]
  want = scanned["llm"]["layers"]["mlp"]["linear"]
  assert len(layers) == CFG.llm.depth
  for i, layer in enumerate(layers):
    linear = layer["mlp"]["linear"]
    np.testing.assert_array_equal(linear, want[i].astype(jnp.bfloat16))


# One compiled loop.


def test_decoding_is_one_while_loop_that_never_calls_back(params, batch):
  greedy = functools.partial(loop.generate, CFG, max_len=A, eos=1)
  beams = functools.partial(beam.search, CFG, max_len=A, eos=1, num_beams=2)
  for function in (greedy, beams):
    program = str(jax.make_jaxpr(function)(params, batch))
    assert program.count("while[") == 1
    assert "callback" not in program


# Beams.


@pytest.fixture(scope="module")
def search(params):
  """Beam search of answers of four words: (batch, eos, num_beams, params)."""

  @functools.partial(toy.jit, static_argnums=3)
  def run(params, batch, eos, num_beams):
    return beam.search(
      CFG, params, batch, max_len=4, eos=eos, num_beams=num_beams
    )

  def find(batch, eos, num_beams, params=params):
    return map(np.asarray, run(params, batch, eos, num_beams))

  return find


def all_answers(scores, batch, eos):
  """Returns {row: {answer: log p}} of all answers of up to four words."""
  words = [w for w in range(V) if w != eos]
  paths = np.array(list(itertools.product(words, repeat=3)))
  table = []
  for b in range(len(batch["tokens"])):
    rows = {k: np.repeat(v[b : b + 1], len(paths), 0) for k, v in batch.items()}
    logp, found = scores(rows, paths), {}
    for path, at in zip(paths, logp, strict=True):
      so_far = 0.0
      for t in range(4):
        found[*map(int, path[:t]), eos] = so_far + at[t, eos]
        so_far += at[t, path[t]] if t < 3 else 0
    table.append(found)
  return table


@pytest.fixture(scope="module")
def some(batch):
  return {k: v[[0, 3, 4]] for k, v in batch.items()}


@pytest.mark.parametrize("eos", (1, 4))
def test_enough_beams_find_the_best_of_all_answers(search, scores, some, eos):
  tokens, logp = search(some, eos, 4**3)
  for row, score, table in zip(tokens, logp, all_answers(scores, some, eos)):
    best = max(table, key=table.get)
    np.testing.assert_array_equal(row, [*best, *[0] * (4 - len(best))])
    np.testing.assert_allclose(score, table[best], atol=1e-5)


@pytest.mark.parametrize("eos", (1, 4))
def test_one_beam_is_the_greedy_path_ended_at_its_best(
  search, scores, some, eos
):
  tokens, logp = search(some, eos, 1)
  for row, score, table in zip(tokens, logp, all_answers(scores, some, eos)):
    path, ended = (), {}
    for _ in range(4):
      ended[*path, eos] = table[*path, eos]
      step = {
        w: max(v for k, v in table.items() if k[: len(path) + 1] == (*path, w))
        for w in range(V)
        if w != eos and len(path) < 3
      }
      del step
      path = path
    del row, score
