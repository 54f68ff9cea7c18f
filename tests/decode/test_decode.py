"""What is written one token at a time is what the model says all at once."""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg.decode import beam, loop, sampling
from pg.models import paligemma
from tests.support import toy

V, L, MAX_LEN = 5, 8, 6  # words, text tokens of the prompt, longest answer
CFG = toy.config(dataclasses.replace(toy.LLM2, vocab_size=V, final_softcap=8.0))
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


@functools.cache
def scanned():
  """Parameters of a model that repeats itself little and is rather sure."""
  params = toy.params(paligemma.shapes(CFG), seed=5)
  params["llm"]["embedder"]["input_embedding"] *= 0.5
  params["llm"]["final_norm"]["scale"] += 4
  return params


@pytest.fixture(scope="module")
def params():
  return jax.jit(loop.unroll)(scanned())


@pytest.fixture(scope="module")
def batch():
  return toy.batch(ROWS, text_len=L, vocab_size=V)


@pytest.fixture(scope="module")
def greedy(params):
  """Answers of a batch, as numpy: (batch, eos, real) -> loop.Answer."""

  @jax.jit
  def generate(params, batch, eos, real):
    return loop.generate(
      CFG, params, batch, max_len=MAX_LEN, eos=eos, real=real
    )

  def decode(batch, eos=NEVER, real=None, params=params):
    real = np.ones(len(batch["tokens"]), bool) if real is None else real
    return loop.Answer(*map(np.asarray, generate(params, batch, eos, real)))

  return decode


@pytest.fixture(scope="module")
def scores():
  """log p of every word after each answer token, by the training forward.

  The function takes (batch, answers i32[B, n]) and returns
  f32[B, n + 1, V]: the first follows the prompt alone.
  """

  @jax.jit
  def forward(batch):
    hidden = paligemma.PaliGemma(CFG).apply({"params": scanned()}, **batch)
    return jax.nn.log_softmax(toy.logits(CFG, scanned(), hidden))

  def score(batch, answers):
    num_rows, num_new = answers.shape
    length = batch["mask_input"].sum(axis=1)
    rows = toy.batch(
      [(shown, 0, 0) for shown in batch["mask_image"]], text_len=L + MAX_LEN
    )
    rows["image"] = batch["image"]
    for b, n in enumerate(length):
      rows["tokens"][b, :n] = batch["tokens"][b, :n]
      rows["tokens"][b, n : n + num_new] = answers[b]
      rows["mask_input"][b] = np.arange(L + MAX_LEN) < n + num_new
      rows["mask_ar"][b, :n] = batch["mask_ar"][b, :n]
    full = {k: np.resize(v, (64, *v.shape[1:])) for k, v in rows.items()}
    logp = np.asarray(forward(toy.inputs(full)))[:num_rows]
    at = length[:, None] - 1 + np.arange(num_new + 1)
    return logp[np.arange(num_rows)[:, None], at]

  return score


def test_of_a_prompt_the_last_layer_computes_only_the_last_token(params, batch):
  prefill = jax.jit(loop.prefill, static_argnums=0)
  text = prefill.lower(CFG, params, batch).as_text()
  D, F, B = CFG.llm.width, CFG.llm.mlp_dim, len(ROWS)
  T = CFG.img.num_tokens + L
  # Gate and up.
  product = rf"dot_general.*tensor<{F}x{D}xf32>, tensor<{D}x({B * T}|{B})xf32>"
  want = [str(B * T)] * 2 * (CFG.llm.depth - 1) + [str(B)] * 2
  assert re.findall(product, text) == want


def test_unrolling_casts_products_and_not_the_scales_of_norms():
  params = toy.params(paligemma.shapes(toy.config()))
  llm = loop.unroll(params, "bfloat16")["llm"]
  assert llm["layers"][0]["mlp"]["down"]["w"].dtype == "bfloat16"
  assert llm["layers"][0]["pre_ffw_norm"]["scale"].dtype == "float32"
  assert llm["final_norm"]["scale"].dtype == "float32"


def test_greedy_words_are_the_likeliest_ones_of_teacher_forcing(
  greedy, scores, batch
):
  answer = greedy(batch)
  logp = scores(batch, answer.tokens)[:, :-1]
  np.testing.assert_array_equal(answer.tokens, logp.argmax(axis=-1))
  np.testing.assert_allclose(answer.logp, logp.max(axis=-1), atol=1e-5)
  assert len(np.unique(answer.tokens)) > 2  # not the same word again and again


def test_weights_as_they_are_trained_write_the_same(greedy, batch):
  want, have = greedy(batch), greedy(batch, params=scanned())
  np.testing.assert_array_equal(have.tokens, want.tokens)
  np.testing.assert_allclose(have.logp, want.logp, atol=1e-5)


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
    n = list(row).index(eos) + 1 if eos in row else MAX_LEN
    np.testing.assert_array_equal(
      have.tokens[b], [*row[:n], *[0] * (MAX_LEN - n)]
    )
    want = [*endless.logp[b, :n], *[0] * (MAX_LEN - n)]
    np.testing.assert_allclose(have.logp[b], want, atol=1e-6)


def test_nobody_waits_for_rows_that_are_not_real(greedy, batch):
  real = np.arange(len(ROWS)) < 3
  want, have = greedy(batch), greedy(batch, real=real)
  np.testing.assert_array_equal(have.tokens[:3], want.tokens[:3])
  assert not have.tokens[3:].any() and not have.logp[3:].any()


def test_unrolled_layers_are_the_scanned_ones_cast():
  stacked = np.arange(6.0, dtype=np.float32).reshape(3, 2) + 1 / 512
  gates = np.stack([stacked, -stacked], axis=1)[..., None]  # [depth, 2, D, F]
  layers = dict(w=stacked, mlp=dict(gating_einsum=gates))
  tree = dict(img=stacked, llm=dict(layers=layers, norm=stacked))
  have = loop.unroll(tree, jnp.bfloat16)
  assert have["img"] is stacked  # the tower casts its own
  assert have["llm"]["norm"].dtype == jnp.bfloat16
  assert len(have["llm"]["layers"]) == 3
  for layer, want in zip(have["llm"]["layers"], stacked, strict=True):
    np.testing.assert_array_equal(layer["w"], jnp.bfloat16(want))
    gate, up = (layer["mlp"][name]["w"] for name in ("gate", "up"))
    np.testing.assert_array_equal(gate, jnp.bfloat16(want)[None])  # [F, D]
    np.testing.assert_array_equal(up, jnp.bfloat16(-want)[None])


# Several answers to a row, stops, and answers that are given.


def test_all_answers_to_a_row_continue_its_prompt(params, scores, batch):
  rules = loop.Rules(NEVER, sampling.Sampler(temperature=1.0, seed=3))

  @functools.partial(jax.jit, static_argnums=1)
  def draw(params, num):
    logits, prompt = loop.prefill(CFG, params, batch)
    ids = batch["index"]
    state = loop.begin(CFG, logits, prompt, rules, MAX_LEN, num=num, ids=ids)
    return loop.advance(CFG, params, prompt, state, rules, MAX_LEN, ids).answer

  tokens, logp = map(np.asarray, draw(params, 3))
  np.testing.assert_array_equal(tokens[:, :1], draw(params, 1).tokens)
  for answers, likely in zip(tokens.swapaxes(0, 1), logp.swapaxes(0, 1)):
    want = scores(batch, answers)[:, :-1]
    want = np.take_along_axis(want, answers[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(likely, want, atol=1e-5)
  different = (tokens[:, 0] != tokens[:, 1]).any(axis=-1)
  assert different.mean() > 0.8


@pytest.fixture(scope="module")
def steps(params):
  """Greedy answers by `advance` in steps: (batch, stop, untils) -> tokens."""
  prefill = jax.jit(functools.partial(loop.prefill, CFG))
  begin = jax.jit(functools.partial(loop.begin, CFG), static_argnums=3)
  advance = jax.jit(functools.partial(loop.advance, CFG))

  def decode(batch, stop, untils):
    rules = loop.Rules(stop)
    logits, prompt = prefill(params, batch)
    state = begin(logits, prompt, rules, MAX_LEN)
    for until in untils:
      state = advance(params, prompt, state, rules, until)
      yield np.asarray(state.answer.tokens[:, 0])

  return decode


def test_answers_that_grow_in_steps_are_those_written_at_once(
  steps, greedy, batch
):
  want = greedy(batch).tokens
  for until, tokens in zip((1, 3, 6), steps(batch, NEVER, (1, 3, 6))):
    np.testing.assert_array_equal(tokens[:, :until], want[:, :until])
    assert not tokens[:, until:].any()


def test_an_answer_ends_at_any_of_several_tokens(steps, greedy, batch):
  endless = greedy(batch).tokens
  (tokens,) = steps(batch, np.array([2, 4]), (MAX_LEN,))
  ends = np.isin(endless, (2, 4))
  assert (ends.any(axis=1).sum() > 2) and (endless == 4).any()
  for row, want, end in zip(tokens, endless, ends, strict=True):
    n = end.argmax() + 1 if end.any() else MAX_LEN
    np.testing.assert_array_equal(row, [*want[:n], *[0] * (MAX_LEN - n)])


def test_given_answers_are_as_likely_as_by_teacher_forcing(
  params, scores, batch
):
  answers = np.random.default_rng(2).integers(1, V, (len(ROWS), 3, 4))
  answers[:, 1, 2:] = 0

  @jax.jit
  def score(params, batch):
    return loop.score(CFG, params, *loop.prefill(CFG, params, batch), answers)

  have = np.asarray(score(params, batch))
  assert not have[:, 1, 2:].any()
  for i, size in enumerate((4, 2, 4)):
    words = answers[:, i, :size]
    want = scores(batch, words)[:, :-1]
    want = np.take_along_axis(want, words[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(have[:, i, :size], want, atol=1e-5)


def test_image_tokens_stand_for_their_image(params, greedy, batch):
  tokens = loop.embed_images(CFG, params, batch["image"])
  want = jax.jit(functools.partial(loop.prefill, CFG))(params, batch)
  have = loop.prefill(CFG, params, {**batch, "image": tokens})
  np.testing.assert_allclose(have[0], want[0], atol=1e-5)


def test_keys_and_values_in_8_bits_change_little(params, scores, batch):
  @functools.partial(jax.jit, static_argnums=1)
  def read(params, int8):
    logits, prompt = loop.prefill(CFG, params, batch, int8=int8)
    answers = np.full((len(ROWS), 1, 3), 2)
    return loop.score(CFG, params, logits, prompt, answers), prompt

  (want, _), (have, prompt) = read(params, False), read(params, True)
  k, _ = prompt.keys[0]
  assert k.values.dtype == np.int8 and np.abs(k.values).max() == 127
  off = np.abs(np.asarray(have) - np.asarray(want))
  assert 0 < off.max() < 0.05


def test_one_program_serves_all_temperatures_and_seeds(params, batch):
  @jax.jit
  def first(params, rules):
    logits, prompt = loop.prefill(CFG, params, batch)
    return loop.begin(CFG, logits, prompt, rules, 2).answer.tokens

  for options in ((1.0, 1), (0.5, 1), (0.5, 7)):
    temperature, seed = options
    rules = loop.Rules(NEVER, sampling.Sampler(temperature, seed=seed))
    first(params, rules)
  assert first._cache_size() == 1


# One compiled loop.


def test_decoding_is_one_while_loop_that_never_calls_back(params, batch):
  greedy = functools.partial(loop.generate, CFG, max_len=MAX_LEN, eos=1)
  beams = functools.partial(
    beam.search, CFG, max_len=MAX_LEN, eos=1, num_beams=2
  )
  for function in (greedy, beams):
    program = str(jax.make_jaxpr(function)(params, batch))
    assert program.count("while[") == 1
    assert "callback" not in program


# Beams.


@pytest.fixture(scope="module")
def search(params):
  """Beam search of answers of four words: (batch, eos, num_beams, params)."""

  @functools.partial(jax.jit, static_argnums=3)
  def run(params, batch, eos, num_beams):
    return beam.search(
      CFG, params, batch, max_len=4, eos=eos, num_beams=num_beams
    )

  def find(batch, eos, num_beams, params=params):
    return map(np.asarray, run(params, batch, eos, num_beams))

  return find


def next_words(scores, batch, eos):
  """Returns for each row {words so far, up to three, no eos: log p [V]}."""
  words = [w for w in range(V) if w != eos]
  paths = np.array(list(itertools.product(words, repeat=3)))
  tables = []
  for b in range(len(batch["tokens"])):
    rows = {k: np.repeat(v[b : b + 1], len(paths), 0) for k, v in batch.items()}
    logp = scores(rows, paths)
    tables.append(
      {
        tuple(map(int, path[:t])): logp[i, t]
        for i, path in enumerate(paths)
        for t in range(4)
      }
    )
  return tables


def plain_search(table, eos, num_beams):
  """Returns log p and words of the best answer, by lists and sorting."""
  live, best = [(0.0, ())], (-np.inf, ())
  for _ in range(4):
    ended = [(p + table[path][eos], (*path, eos)) for p, path in live]
    best = max(best, *ended)
    words = [w for w in range(V) if w != eos]
    more = [(p + table[x][w], (*x, w)) for p, x in live for w in words]
    live = sorted(more, reverse=True)[:num_beams]
  return best


def test_forbidden_words_are_in_no_beam(params, scores, batch):
  search = functools.partial(
    beam.search, CFG, max_len=4, eos=1, num_beams=2, forbidden=(3,)
  )
  found = map(np.asarray, jax.jit(search)(params, batch))
  for row, score, table in zip(*found, next_words(scores, batch, 1)):
    for logp in table.values():
      logp[3] = -np.inf
    want, words = plain_search(table, 1, 2)
    np.testing.assert_array_equal(row, [*words, *[0] * (4 - len(words))])
    np.testing.assert_allclose(score, want, atol=1e-5)


def test_beams_that_may_not_end_are_cut(params, scores, batch):
  search = functools.partial(beam.search, CFG, max_len=4, eos=1, num_beams=64)
  tokens, score = jax.jit(functools.partial(search, forbidden=(1,)))(
    params, batch
  )
  tables = next_words(scores, batch, 1)
  for row, logp, table in zip(np.asarray(tokens), score, tables, strict=True):
    likely = {
      (*words, w): sum(table[words[:t]][x] for t, x in enumerate((*words, w)))
      for words in table
      for w in range(V)
      if len(words) == 3 and w != 1
    }
    assert tuple(row) == max(likely, key=likely.get)
    np.testing.assert_allclose(logp, max(likely.values()), atol=1e-5)


@pytest.mark.parametrize("num_beams", (1, 2, 4**3))
def test_beams_find_what_the_plain_algorithm_finds(
  search, scores, batch, num_beams
):
  for eos in range(1, V):
    found = search(batch, eos, num_beams)
    tables = next_words(scores, batch, eos)
    for row, score, table in zip(*found, tables, strict=True):
      want, words = plain_search(table, eos, num_beams)
      np.testing.assert_array_equal(row, [*words, *[0] * (4 - len(words))])
      np.testing.assert_allclose(score, want, atol=1e-5)


def test_enough_beams_find_the_best_of_all_answers(search, scores, batch):
  for eos in range(1, V):
    _, found = search(batch, eos, 4**3)
    for score, table in zip(found, next_words(scores, batch, eos)):
      answers = [
        sum(table[path[:t]][w] for t, w in enumerate(path)) + after[eos]
        for path, after in table.items()
      ]
      assert len(answers) == 1 + 4 + 4**2 + 4**3
      np.testing.assert_allclose(score, max(answers), atol=1e-5)


def test_one_beam_is_greedy_where_it_is_sure(search, greedy, params, batch):
  scale = params["llm"]["final_norm"]["scale"] + 12
  llm = {**params["llm"], "final_norm": {"scale": scale}}
  sure, num_compared = {**params, "llm": llm}, 0
  for eos in range(1, V):
    want = greedy(batch, eos, params=sure)
    have, _ = search(batch, eos, 1, params=sure)
    for b in np.flatnonzero((want.tokens[:, :4] == eos).any(axis=1)):
      if want.logp[b].sum() > np.log(0.5):  # no other answer is likelier
        np.testing.assert_array_equal(have[b], want.tokens[b, :4])
        num_compared += 1
  assert num_compared > 3


# Sampling.

LOGITS = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32))


@functools.partial(jax.jit, static_argnums=1)
def choose(logits, sampler, ids, step):
  return sampling.choose(logits, sampler, ids, step)


def draws(num_draws=2000, logits=LOGITS, **options):
  """Returns how often each word is drawn, by rows that are alike."""
  sampler = sampling.Sampler(**options)
  rows = np.repeat(logits, num_draws, axis=0)
  words = choose(rows, sampler, np.arange(num_draws), 3)
  return np.bincount(words, minlength=logits.shape[1]) / num_draws


def test_words_are_drawn_as_often_as_they_are_likely():
  np.testing.assert_allclose(
    draws(temperature=1.0), [0.4, 0.3, 0.2, 0.1], atol=0.03
  )
  squared = np.array([0.4, 0.3, 0.2, 0.1]) ** 2
  want = squared / squared.sum()
  np.testing.assert_allclose(draws(temperature=0.5), want, atol=0.03)


def test_a_low_temperature_and_a_top_of_one_are_greedy():
  greedy = [1, 0, 0, 0]
  assert draws().tolist() == greedy
  assert draws(temperature=1e-3).tolist() == greedy
  assert draws(temperature=5.0, top_k=1).tolist() == greedy
  assert draws(temperature=1.0, top_p=0.01).tolist() == greedy


@pytest.mark.parametrize(
  "options, kept",
  ((dict(top_k=1), [1]), (dict(top_k=3), [1, 2, 3]), (dict(top_p=0.4), [1, 2])),
)
def test_of_equally_likely_words_the_first_are_kept(options, kept):
  logits = np.log([[0.1, 0.225, 0.225, 0.225, 0.225]]).astype(np.float32)
  found = draws(logits=logits, temperature=1.0, **options)
  assert np.flatnonzero(found).tolist() == kept


@pytest.mark.parametrize(
  "options, kept",
  (
    (dict(top_k=2), 2),
    (dict(top_k=9), 4),
    (dict(top_p=0.39), 1),
    (dict(top_p=0.41), 2),  # the fewest that reach it
    (dict(top_p=0.69), 2),
    (dict(top_p=0.71), 3),
    (dict(top_p=0.95), 4),
    (dict(top_k=3, top_p=0.7), 2),  # of 4/9, 3/9, 2/9
  ),
)
def test_exactly_the_right_words_are_kept(options, kept):
  order = [2, 0, 3, 1]
  found = draws(logits=LOGITS[:, order], temperature=1.0, **options)
  want = [i < kept for i in order]
  assert (found > 0).tolist() == want


def test_a_draw_depends_on_seed_id_and_step_only():
  rows, ids = np.repeat(LOGITS, 64, axis=0), np.arange(64)
  draw = lambda ids, step, seed: np.asarray(
    choose(rows, sampling.Sampler(1.0, seed=seed), ids, step)
  )
  want = draw(ids, 5, 7)
  np.testing.assert_array_equal(draw(ids[::-1], 5, 7)[::-1], want)
  for other in (draw(ids + 64, 5, 7), draw(ids, 6, 7), draw(ids, 5, 8)):
    assert 0.1 < np.mean(other == want) < 0.6  # 0.3 where independent


@pytest.mark.parametrize(
  "options",
  (
    dict(temperature=-1),
    dict(temperature=np.nan),
    dict(temperature=np.inf),
    dict(top_k=-1),
    dict(top_p=0),
    dict(top_p=2),
  ),
)
def test_a_sampler_that_makes_no_sense_is_an_error(options):
  with pytest.raises(
    ValueError, match="wanted 0 <= temperature < inf, top_k >="
  ):
    sampling.Sampler(**options)


@pytest.fixture(scope="module")
def sampled(params):
  """Answers drawn from all words but 3: batch -> loop.Answer."""
  sampler = sampling.Sampler(temperature=2.0, seed=1)
  decode = functools.partial(loop.generate, CFG, max_len=MAX_LEN, eos=NEVER)
  decode = functools.partial(decode, sampler=sampler, forbidden=(3,))
  decode = jax.jit(decode)
  return lambda batch: loop.Answer(*map(np.asarray, decode(params, batch)))


def test_forbidden_words_are_never_chosen(sampled, greedy, batch):
  assert (greedy(batch).tokens == 3).any()
  tokens = sampled(batch).tokens
  assert sorted(np.unique(tokens)) == [0, 1, 2, 4]


def test_log_probabilities_are_those_of_all_words_and_no_temperature(
  sampled, scores, batch
):
  tokens, logp = sampled(batch)
  want = scores(batch, tokens)[:, :-1]
  want = np.take_along_axis(want, tokens[..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(logp, want, atol=1e-5)


def test_what_a_row_draws_follows_its_index(sampled, batch):
  want, order = sampled(batch), [4, 2, 0, 5, 1, 3]
  moved = sampled({k: v[order] for k, v in batch.items()})
  np.testing.assert_array_equal(moved.tokens, want.tokens[order])
  renamed = sampled({**batch, "index": batch["index"] + 100})
  assert (renamed.tokens != want.tokens).any(axis=1).all()
