"""Constrained answers are those of a plain search among what is allowed."""

import functools

import jax
import numpy as np
import pytest

from pg.codecs import tokenizer
from pg.decode import beam, constraint, loop
from tests.decode.test_decode import (
  CFG,
  ROWS,
  V,
  batch,
  next_words,
  params,
  scores,
)
from tests.support import paths

__all__ = ("batch", "params", "scores")  # fixtures

FILES = [tokenizer.NANO]
if paths.GEMMA.exists():
  FILES.append(paths.GEMMA)
BOX = "<loc0001><loc0002><loc0003><loc1023>"
CODES = "<seg000>" * 15 + "<seg127>"


@pytest.fixture(scope="module", params=FILES, ids=lambda x: str(x)[-11:])
def tok(request):
  return tokenizer.Tokenizer(request.param)


def accepts(automaton, tok, text, end=True):
  """Returns whether a text is allowed, or the beginning of one."""
  node = int(automaton.start[0])
  for token in [*tok.encode(text), *[tok.eos] * end]:
    node = automaton.table[node, automaton.classes[token]]
    if node == constraint.NEVER:
      return False
  return True


@pytest.mark.parametrize(
  "options, good, bad",
  (
    (
      {},
      ["", f"{BOX} a red cat", f"{BOX} cat ; {BOX} dog ; {BOX} cat"],
      ["cat", BOX, f"{BOX} cat ; ", f"{BOX[:-9]} cat", f"{BOX}{CODES} cat"],
    ),
    (
      dict(labels=["cat", "cat tree", "dog"]),
      ["", f"{BOX} cat tree ; {BOX} cat", f"{BOX} dog"],
      [f"{BOX} tree", f"{BOX} cat dog", f"{BOX} cat ; {BOX}"],
    ),
    (
      dict(masks=True),
      [f"{BOX}{CODES} cat ; {BOX}{CODES} dog"],
      [f"{BOX} cat", f"{BOX}{CODES[:-8]} cat"],
    ),
    (
      dict(max_objects=2),
      ["", f"{BOX} cat", f"{BOX} cat ; {BOX} dog"],
      [f"{BOX} cat ; {BOX} cat ; {BOX} cat"],
    ),
    (
      dict(max_objects=1, labels=["cat", "dog"]),
      ["", f"{BOX} dog"],
      [f"{BOX} cat ; {BOX} cat"],
    ),
  ),
)
def test_the_grammar_of_objects(tok, options, good, bad):
  automaton = constraint.objects(tok, **options)
  for text in good:
    assert accepts(automaton, tok, text), text
    assert accepts(automaton, tok, text[: text.rfind(">") + 1], end=False)
  for text in bad:
    assert not accepts(automaton, tok, text), text
  assert automaton.table.size < 1000  # of a vocabulary of 257,152


@pytest.mark.parametrize(
  "options",
  (
    dict(labels=[]),
    dict(labels=["cat", " "]),
    dict(labels=["cat ; dog"]),
    dict(labels=["<loc0000>"]),
    dict(max_objects=0),
  ),
)
def test_a_grammar_that_makes_no_sense_is_an_error(options):
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  with pytest.raises(ValueError, match="wanted"):
    constraint.objects(tok, **options)


def test_one_of_a_list(tok):
  options = ["yes", "no", "yes and no", "nothing"]
  automaton = constraint.one_of(tok, options)
  assert all(accepts(automaton, tok, text) for text in options)
  for text in ("", "yes and", "not", "no no"):
    assert not accepts(automaton, tok, text)
  assert accepts(automaton, tok, "yes and", end=False)


def test_a_list_without_options_or_with_too_many_is_an_error(monkeypatch):
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  with pytest.raises(ValueError, match="no options"):
    constraint.one_of(tok, [])
  monkeypatch.setattr(constraint, "MAX_ENTRIES", 100)
  with pytest.raises(ValueError, match="fewer or shorter options"):
    constraint.one_of(tok, [str(i) for i in range(100)])


def test_regular_expressions(tok):
  automaton = constraint.regex(tok, "[0-9]+( cats?)?")
  for text in ("7", "12", "3 cats", "1 cat"):
    assert accepts(automaton, tok, text), text
  for text in ("", "cat", "3 c", "3 catss", "3 dogs"):
    assert not accepts(automaton, tok, text), text
  locations = constraint.regex(tok, "(<loc[0-9]{4}>){2}")
  assert accepts(locations, tok, BOX[:18]) and not accepts(locations, tok, BOX)


def test_no_regular_expression_is_an_error():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  with pytest.raises(ValueError, match="the expression '\\(': .*wanted a"):
    constraint.regex(tok, "(")


# In the compiled loop: words 1..4 of which 1 ends an answer.


@pytest.fixture(scope="module")
def automaton():
  """Allows 2 3 at most twice, or 4; every row starts at one of two nodes."""
  nodes = [
    [(2, 1), (4, 4)],
    [(3, 2)],
    [(1, 2), (2, 3)],
    [(3, 4)],
    [(1, 4)],
    [(np.array([3, 4]), 0)],  # one more before it
  ]
  found = constraint.build(nodes, V)
  start = np.where(np.arange(len(ROWS)) < 3, 0, 5).astype(np.int32)
  return found._replace(start=start)


def plain(automaton, table, start):
  """Returns the greedy answer among what is allowed, token by token."""
  node, words = start, ()
  while len(words) < 4 and 1 not in words:
    after = automaton.table[node, automaton.classes]
    logp = np.where(after == constraint.NEVER, -np.inf, table[words])
    words = (*words, int(logp.argmax()))
    node = after[words[-1]]
  return [*words, *[0] * (4 - len(words))]


def test_greedy_answers_keep_to_the_automaton(params, scores, batch, automaton):
  @jax.jit
  def generate(params, automaton):
    rules = loop.Rules(1, automaton=automaton)
    logits, prompt = loop.prefill(CFG, params, batch)
    state = loop.begin(CFG, logits, prompt, rules, 4)
    state = loop.advance(CFG, params, prompt, state, rules, 4)
    return jax.tree.map(lambda x: x[:, 0], state.answer)

  tokens, logp = map(np.asarray, generate(params, automaton))
  tables = next_words(scores, batch, 1)
  for row, table, start in zip(tokens, tables, automaton.start, strict=True):
    assert row.tolist() == plain(automaton, table, start)
  assert len(np.unique(tokens[:, 0])) > 1 and (tokens == 1).any()
  want = scores(batch, tokens)[:, :-1]  # of the whole vocabulary
  want = np.take_along_axis(want, tokens[..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(logp, np.where(tokens == 0, 0, want), atol=1e-5)


def test_enough_beams_find_the_best_allowed_answer(
  params, scores, batch, automaton
):
  search = functools.partial(beam.search, CFG, max_len=4, eos=1, num_beams=9)
  found = jax.jit(lambda p, a: search(p, batch, automaton=a))(params, automaton)
  allowed = {0: [(2, 3, 1), (4, 1)]}  # in four slots
  allowed[5] = [(w, *x) for w in (3, 4) for x in allowed[0]]
  tables = next_words(scores, batch, 1)
  for row, score, table, start in zip(
    *map(np.asarray, found), tables, automaton.start, strict=True
  ):
    likely = {
      words: sum(table[words[:t]][w] for t, w in enumerate(words))
      for words in allowed[start]
    }
    best = max(likely, key=likely.get)
    assert row.tolist() == [*best, *[0] * (4 - len(best))]
    np.testing.assert_allclose(score, likely[best], atol=1e-5)
