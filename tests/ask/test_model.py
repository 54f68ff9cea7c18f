"""`pg.load`'s model answers alone as among others, and compiles a size once."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from PIL import Image

from pg.ask import answer as answer_lib
from pg.ask import model as model_lib
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.decode import beam, loop, sampling
from pg.models import paligemma
from pg.pp import masks
from tests.support import toy

pytestmark = pytest.mark.usefixtures("one_device")
PROMPTS = ["detect cat", "what is it?", "ocr", "where is the red circle?"]


@functools.cache
def model():
  """A small random model that is rather sure."""
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  changes = dict(vocab_size=tok.vocab_size, final_softcap=0.0)
  llm = dataclasses.replace(toy.LLM2, **changes)
  cfg = toy.config(llm)
  params = toy.params(paligemma.shapes(cfg), seed=5)
  params["llm"]["embedder"]["input_embedding"] *= 0.5
  params["llm"]["final_norm"]["scale"] += 9
  form = prefix_lm.Form(tok, toy.IMG.res, 1, 12)
  pp = f"decode | resize({toy.IMG.res})"
  return model_lib.Model(cfg, loop.unroll(params), form, pp)


def photo(seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (20, 30, 3), np.uint8)


def said(answers):
  return [answer.tokens for answer in answers]


@functools.cache
def alone():
  """Answers to each prompt about its own photo, one at a time."""
  return [
    model().predict(photo(i), prompt)[0] for i, prompt in enumerate(PROMPTS)
  ]


def test_an_answer_is_that_of_the_decoding_loop():
  row = prefix_lm.make_prompt(PROMPTS[1], model().form.tok, 16)
  image = Image.fromarray(photo(1))
  square = model().predict(image, PROMPTS[1])[0].image
  np.testing.assert_array_equal(square, photo(1))
  images, _ = model().rows.look(photo(1))
  batch = {k: v[None] for k, v in row.items()}
  batch |= dict(image=images[None], mask_image=np.ones((1, 1), bool))
  want = loop.generate(model().cfg, model().params, batch, max_len=12, eos=1)
  n = len(alone()[1].tokens)
  assert alone()[1].tokens == want.tokens[0, :n].tolist()
  np.testing.assert_allclose(alone()[1].logp, want.logp[0, :n], atol=1e-5)
  score = float(want.logp[0, :n].sum())
  assert alone()[1].score == pytest.approx(score, abs=1e-5)
  assert len({tuple(tokens) for tokens in said(alone())}) > 1


def test_neighbours_change_nothing():
  images = [photo(i) for i in range(4)]
  assert said(model().predict(images, PROMPTS)) == said(alone())
  some = model().predict(images[:3], PROMPTS[:3], batch_size=2)
  assert said(some) == said(alone()[:3])


def test_a_single_image_or_prompt_belongs_to_all_others():
  answers = model().predict(photo(0), PROMPTS)
  assert said(answers[:1]) == said(alone()[:1])
  assert said(answers[1:]) != said(alone()[1:])
  seen = model().see(photo(0))
  assert said(model().predict(seen, PROMPTS)) == said(answers)
  mixed = [seen, photo(1), None, [photo(1), photo(0)]]
  answers = model().predict(mixed, PROMPTS[1])
  assert said(answers[1:2]) == said(alone()[1:2])
  assert said(answers[2:3]) == said(model().predict(None, PROMPTS[1]))
  assert len({tuple(tokens) for tokens in said(answers)}) > 1
  with pytest.raises(ValueError, match="3 examples of images and 4 prompts"):
    model().predict([photo(0)] * 3, PROMPTS)


def test_a_second_question_of_any_length_compiles_nothing():
  model().predict(photo(0), "a", max_len=4)
  programs = vars(model().programs)
  before = {name: f._cache_size() for name, f in programs.items()}
  sampler = sampling.Sampler(0.7, seed=3)
  for prompt, max_len in (("ocr", 1), ("where is it?", 7), ("count", 16)):
    model().predict(photo(1), prompt, max_len=max_len)
  model().predict(photo(1), "ocr", sampler=sampler)
  first = programs["begin"]._cache_size()
  model().predict(photo(1), "what", sampler=sampling.Sampler(0.2, seed=9))
  assert programs["begin"]._cache_size() == first == before["begin"] + 1
  for name in ("embed", "prefill"):
    assert programs[name]._cache_size() == before[name]


def test_an_image_is_a_path_bytes_an_array_or_a_pil_image(tmp_path):
  path = tmp_path / "a.png"
  image = Image.fromarray(photo(1))
  image.save(path)
  kinds = [path, str(path), path.read_bytes(), image, photo(1)]
  answers = model().predict(kinds, PROMPTS[1])
  assert said(answers) == said(alone()[1:2]) * len(kinds)
  for image, error in (
    ("https://127.0.0.1/a.png", "URLs are not read"),
    (tmp_path / "none.png", "No such file"),
    (__file__, "test_model.py: .*cannot decode an image"),
    (np.zeros((3, 3)), "an image should be"),
  ):
    with pytest.raises((ValueError, OSError), match=error):
      model().predict([image], "ocr")


def test_examples_that_cannot_be_answered_leave_the_others_alone():
  long = "where" + " where" * 1200
  examples = [(photo(0), PROMPTS[0]), (b"no image", "ocr"), (photo(0), long)]
  examples.append((lambda: [photo(3)], PROMPTS[3]))
  first, bad, cut, last = model().answers(examples, batch_size=3)
  assert said([first, last]) == said([alone()[0], alone()[3]])
  assert "cannot decode an image of 8 bytes" in str(bad)
  assert "the prompt has" in str(cut) and "1024 fit; shorten it" in str(cut)
  assert isinstance(bad, ValueError) and isinstance(cut, ValueError)


def test_boxes_are_those_that_a_prompt_names():
  prompts = ["detect cat ; red dog", "detect ring"]
  answers = model().predict(photo(0), prompts, max_len=28, constrain="boxes")
  labels = [{box.label for box in answer.boxes} for answer in answers]
  assert labels[0] and labels[0] <= {"cat", "red dog"}
  assert labels[1] == {"ring"}
  for box in answers[0].boxes:
    assert max(box.box[::2]) <= 20 and max(box.box[1::2]) <= 30
    assert 0 <= box.score <= 1
  with pytest.raises(ValueError, match='boxes answer a prompt such as "detect'):
    model().predict(photo(0), "caption en", constrain="boxes")
  with pytest.raises(ValueError, match='did you mean "boxes"'):
    model().predict(photo(0), "detect cat", constrain="boxs")


def test_masks_have_the_size_of_the_image_and_are_drawn():
  (answer,) = model().predict(
    photo(0), "segment cat", max_len=64, constrain="masks"
  )
  (box, *_), (mask, *_) = answer.boxes, answer.masks
  assert box.label == "cat" and mask.shape == (20, 30) and mask.dtype == bool
  empty = dataclasses.replace(answer, boxes=[], masks=[])
  mask = np.zeros((20, 30), bool)
  mask[5:15, 8:20] = True
  drawn = dataclasses.replace(
    empty, boxes=[answer_lib.Box("", (5, 8, 15, 20), 1)], masks=[mask]
  )
  changed = np.asarray(drawn.draw()) != np.asarray(empty.draw())
  scale = changed.shape[0] // 20
  assert changed[10 * scale, 14 * scale].any()
  assert not changed[: 2 * scale].any()
  row = json.loads(json.dumps(drawn.to_json()))
  np.testing.assert_array_equal(
    masks.run_lengths(row["boxes"][0]["mask"]), mask
  )
  assert 'src="data:image/' in drawn._repr_html_()


def test_one_of_a_list_and_its_ranking():
  options = ["yes", "no", "maybe not"]
  ranked = model().rank([photo(0), photo(1)], "is it?", options)
  for image, pairs in zip((photo(0), photo(1)), ranked, strict=True):
    assert sorted(option for option, _ in pairs) == sorted(options)
    assert [p for _, p in pairs] == sorted((p for _, p in pairs), reverse=True)
    for option, logp in pairs:
      (answer,) = model().predict(image, "is it?", constrain=[option])
      assert answer.text == option
      assert answer.score == pytest.approx(logp, abs=1e-4)
  (answer,) = model().predict(photo(0), "is it?", constrain=options)
  assert answer.text in options
  with pytest.raises(ValueError, match="wanted a list of answers"):
    model().rank(photo(0), "is it?", [])


def test_keys_in_8_bits_change_an_answer_little():
  small = model_lib.Model(
    *(getattr(model(), x) for x in ("cfg", "params", "form", "pp")),
    int8_keys=True,
  )
  (answer,) = small.predict(photo(0), PROMPTS[0], constrain=["yes"])
  (want,) = model().predict(photo(0), PROMPTS[0], constrain=["yes"])
  assert answer.score != want.score
  assert answer.score == pytest.approx(want.score, rel=0.05)


def test_a_stream_grows_to_the_answer():
  texts = list(model().stream(photo(1), PROMPTS[1], every=3))
  assert texts[-1] == alone()[1].text
  assert len(texts) == -(-(len(alone()[1].tokens) - 1) // 3) + 1
  for early, late in zip(texts, texts[1:]):
    assert late.startswith(early) and late != early


def test_a_given_start_is_continued_and_part_of_the_answer():
  text = model().form.tok.decode(alone()[1].tokens[:3])
  (answer,) = model().predict(photo(1), PROMPTS[1], start=text, max_len=9)
  assert answer.tokens == alone()[1].tokens
  assert answer.logp[:3] == [0, 0, 0]
  np.testing.assert_allclose(answer.logp[3:], alone()[1].logp[3:], atol=1e-5)


def test_a_constraint_goes_on_from_a_given_start():
  for form in (["yes", "no"], {"yes", "no"}):
    (answer,) = model().predict(photo(0), "ocr", constrain=form, start="yes")
    assert answer.text == "yes"
  how = dict(constrain="boxes", start="<loc0001>", max_len=8)
  answers = model().predict([photo(0)] * 2, ["detect cat", "detect dog"], **how)
  assert [b.label for a in answers for b in a.boxes[:1]] == ["cat", "dog"]
  with pytest.raises(ValueError, match="start of the answer is not allowed"):
    model().predict(photo(0), "ocr", constrain=["yes"], start="no")


def test_an_answer_ends_at_a_stop():
  piece = model().form.tok.decode(alone()[1].tokens[2:3])
  (answer,) = model().predict(photo(1), PROMPTS[1], stop=piece)
  ids = alone()[1].tokens
  assert answer.tokens == ids[: ids.index(ids[2]) + 1]
  with pytest.raises(ValueError, match="stop: 'a cat and' is . tokens"):
    model().predict(photo(1), "ocr", stop=["a cat and"])


def test_of_several_samples_the_likeliest_is_the_answer():
  how = dict(sampler=sampling.Sampler(1.5, seed=1), num_samples=4)
  (answer,) = model().predict(photo(1), PROMPTS[1], **how)
  scores = [answer.score, *(other.score for other in answer.others)]
  assert len(scores) == 4 and scores == sorted(scores, reverse=True)
  assert len({tuple(x.tokens) for x in (answer, *answer.others)}) > 1
  assert len(answer.to_json()["others"]) == 3


def test_beams_are_those_of_beam_search():
  row = prefix_lm.make_prompt(PROMPTS[1], model().form.tok, 16)
  images, _ = model().rows.look(photo(1))
  batch = {k: v[None] for k, v in row.items()}
  batch |= dict(image=images[None], mask_image=np.ones((1, 1), bool))
  want, logp = beam.search(
    model().cfg, model().params, batch, max_len=5, eos=1, num_beams=3
  )
  (answer,) = model().predict(photo(1), PROMPTS[1], max_len=5, num_beams=3)
  assert answer.tokens == want[0, : len(answer.tokens)].tolist()
  assert answer.score == pytest.approx(float(logp[0]), abs=1e-4)


@pytest.mark.parametrize(
  "options, error",
  (
    (dict(max_len=0), "max_len is 0"),
    (dict(max_len=2000), "max_len is 2000; wanted 1 to 1024"),
    (dict(num_samples=3), "without a temperature"),
    (dict(num_beams=3, sampler=sampling.Sampler(1.0)), "beams are not sampled"),
    (dict(constrain=[]), "no options"),
    (dict(constrain=["a", "b" * 9999]), "'bbb.* fit; shorten it"),
    (dict(constrain=["yes, it is"], max_len=2), "'yes, it is' .* and 2 fit"),
    (dict(num_beams=0), "num_beams is 0; wanted 1 or more"),
    (dict(num_samples=0), "num_samples is 0; wanted 1 or more"),
    (dict(batch_size=0), "batch_size is 0; wanted 1 or more"),
  ),
)
def test_options_that_make_no_sense_are_errors(options, error):
  with pytest.raises(ValueError, match=error):
    model().predict(photo(0), "ocr", **options)


def test_what_would_never_end_is_an_error():
  with pytest.raises(ValueError, match="every is 0; wanted 1 token or more"):
    next(model().stream(photo(0), "ocr", every=0))
  with pytest.raises(ValueError, match="batch_size is -1; wanted 1 or more"):
    model().rank(photo(0), "ocr", ["yes"], batch_size=-1)


def test_any_seed_that_a_config_may_have_draws():
  texts = []
  for seed in (1, 2**31 + 1, 2**62 + 1):
    sampler = sampling.Sampler(1.5, seed=seed)
    (answer,) = model().predict(photo(0), "ocr", sampler=sampler, max_len=4)
    texts.append(answer.text)
  assert texts[0] != texts[1]


def test_probabilities_that_are_no_numbers_are_no_ranking_and_no_stream():
  broken = {**model().params, "llm": dict(model().params["llm"])}
  broken["llm"]["final_norm"] = {
    "scale": np.full_like(broken["llm"]["final_norm"]["scale"], np.nan)
  }
  bad = model_lib.Model(model().cfg, broken, model().form, model().pp)
  with pytest.raises(ValueError, match="inf or nan: activations overflow"):
    bad.rank(photo(0), "ocr", ["yes"])
  with pytest.raises(ValueError, match="inf or nan: activations overflow"):
    next(bad.stream(photo(0), "ocr"))
