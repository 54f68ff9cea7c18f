"""One model with several adapters answers as each one's merged weights do."""

import dataclasses
import functools

import numpy as np
import pytest

from pg.ask import model as model_lib
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.decode import loop
from pg.models import bank, paligemma
from tests.ask.test_model import PROMPTS, photo, said
from tests.models import test_bank
from tests.support import toy

pytestmark = pytest.mark.usefixtures("one_device")
NAMES = (None, *test_bank.ADAPTERS)


@functools.cache
def models():
  """Returns a model with adapters, and {adapter: one of merged weights}."""
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  changes = dict(vocab_size=tok.vocab_size, final_softcap=0.0)
  cfg = toy.config(dataclasses.replace(toy.LLM2, **changes))
  params = toy.params(paligemma.shapes(cfg), seed=5)
  params["llm"]["embedder"]["input_embedding"] *= 0.5
  params["llm"]["final_norm"]["scale"] += 9
  form = prefix_lm.Form(tok, toy.IMG.res, 1, 12)
  pp = f"decode | resize({toy.IMG.res})"
  found = test_bank.adapters(params)
  read = test_bank.reader(params)
  make = functools.partial(model_lib.Model, cfg)
  one = make(loop.unroll(params), form, pp, bank=bank.make(cfg, found, read))
  merged = {
    name: make(loop.unroll(test_bank.merged(params, own)), form, pp)
    for name, own in found.items()
  }
  return one, merged | {None: make(loop.unroll(params), form, pp)}


def test_rows_of_a_batch_have_their_own_adapters():
  one, merged = models()
  assert one.adapters == NAMES[1:]
  order = [NAMES[i] for i in (1, 3, 0, 2)]
  examples = [(photo(1), PROMPTS[1], x) for x in order]
  got = list(one.answers(examples, batch_size=4, max_len=4))
  for name, answer in zip(order, got, strict=True):
    (want,) = merged[name].predict(photo(1), PROMPTS[1], max_len=4)
    assert answer.tokens == want.tokens
    np.testing.assert_allclose(answer.logp, want.logp, atol=1e-4)
  assert len({x.score for x in got}) == 4


def test_another_adapter_compiles_nothing_and_copies_nothing():
  one, _ = models()
  one.predict(photo(0), "ocr", max_len=4)
  programs = vars(one.programs)
  before = {name: f._cache_size() for name, f in programs.items()}
  for name in NAMES:
    own = one.with_adapter(name)
    own.predict(photo(1), "what", max_len=4)
    assert own.params is one.params
  assert before == {name: f._cache_size() for name, f in programs.items()}


@pytest.mark.slow
def test_all_ways_to_ask_have_the_adapter():
  one, merged = models()
  own, want = one.with_adapter("dora"), merged["dora"]
  seen = own.see(photo(0))
  assert said(own.predict(seen, PROMPTS[:2])) == said(
    want.predict(photo(0), PROMPTS[:2])
  )
  assert list(own.stream(photo(0), PROMPTS[0], max_len=4)) == list(
    want.stream(photo(0), PROMPTS[0], max_len=4)
  )
  for x in (own, want):
    assert x.predict(photo(0), PROMPTS[0], num_beams=2, max_len=4)
  got, ranked = (x.rank(photo(1), "ocr", ["yes", "no"])[0] for x in (own, want))
  for (option, logp), (name, other) in zip(got, ranked, strict=True):
    assert option == name and logp == pytest.approx(other, abs=1e-4)
  with pytest.raises(ValueError, match="were seen with adapter dora, and are"):
    one.predict(seen, "ocr")


def test_an_adapter_that_is_not_there_is_named():
  one, merged = models()
  with pytest.raises(ValueError, match='adapter "al"; did you mean "all"'):
    one.with_adapter("al")
  (answer,) = merged[None].answers([(photo(0), "ocr", "all")])
  assert 'unknown adapter "all"' in str(answer)
