"""Evaluators: when they run, what they keep, and what they refuse."""

import functools
import json
import math

import jax
import numpy as np
import pytest
from PIL import Image

from pg import config, experiment, pp, sharding, train
from pg.codecs import boxes, tokenizer
from pg.evals import records
from pg.evals import run as evals_run
from pg.evals import task as evals_task
from pg.evals.metrics import statistics
from pg.log import run as log_run
from tests.support import numbers, numbers_run

TOK = tokenizer.Tokenizer(tokenizer.NANO)
PLACE = "<loc0001><loc0002><loc0003><loc0004>"


@pytest.fixture(autouse=True)
def registered(one_device, monkeypatch):
  numbers_run.register(monkeypatch)


def steps(total=100, **how):
  period = functools.partial(
    config.steps, batch_size=10, num_examples=200, total=total
  )
  task = evals_task.Task("val", {**evals_task.KEYS, **how}, *[None] * 5)
  when = evals_task.schedule(task, period, total)
  return [step for step in range(total + 1) if when.due(step)]


@pytest.mark.parametrize(
  "how, want",
  [
    ({}, [100]),
    (dict(every=30), [30, 60, 90, 100]),
    (dict(every="25%"), [25, 50, 75, 100]),
    (dict(every="400 ex"), [40, 80, 100]),
    (dict(every="2ep"), [40, 80, 100]),
    (dict(every=0), [100]),
    (dict(every=30, start="50%"), [50, 80, 100]),
    (dict(every=30, end=70), [30, 60]),
    (dict(every=20, start=30, end="60%"), [30, 50]),
  ],
)
def test_an_evaluator_runs_when_its_schedule_says(how, want):
  assert steps(**how) == want


def test_an_evaluator_that_would_never_run_is_refused():
  with pytest.raises(ValueError, match="evals.val starts at step 60 and ends"):
    steps(start=60, end="50%")
  with pytest.raises(ValueError, match="never run in 100 steps"):
    steps(start=200)
  assert steps(total=0, start=200) == []


def test_a_run_evaluates_by_the_schedule_of_each(tmp_path):
  c = numbers_run.config()
  with c.unlocked():
    c.evals.caption.update(every=2, start=2, end=4)
    c.evals.nll.every = 3
  results = train.fit(c, str(tmp_path))
  written = sorted(p.name for p in (tmp_path / "predictions").iterdir())
  assert written == [f"caption-{i:09d}.jsonl" for i in (2, 4)]
  assert results.keys() == {"caption", "nll"}
  assert json.loads((tmp_path / "scores.json").read_text()).keys() == {
    "caption",
    "nll",
  }


def scored(text, logp=None):
  ids = TOK.encode(text)
  logp = np.zeros(len(ids)) if logp is None else logp
  return records.object_scores(TOK, ids, logp)


def test_the_score_of_an_object_is_the_probability_of_its_name():
  text = f"{PLACE} red circle ; {PLACE}{'<seg003>' * 16} blue square"
  ids = TOK.encode(text)
  logp = -np.arange(1, len(ids) + 1) / 100
  words = ("▁red", "▁circle", "▁blue", "▁square")
  red, circle, blue, square = (
    logp[i] for i, piece in enumerate(TOK.pieces(ids)) if piece in words
  )
  want = [math.exp(red + circle), math.exp(blue + square)]
  assert scored(text, logp) == pytest.approx(want)


def test_there_are_as_many_scores_as_objects_in_any_text():
  rng = np.random.default_rng(0)
  parts = ["<loc0007>", PLACE, "<seg001>", ";", " red", " ", "<loc1023>"]
  for _ in range(2000):
    text = "".join(rng.choice(parts, size=rng.integers(0, 12)))
    objects, _ = boxes.read(TOK.decode(TOK.encode(text)))
    assert len(scored(text)) == len(objects)


def test_what_stands_behind_the_end_has_no_score():
  ids = [*TOK.encode(f"{PLACE} red"), TOK.eos, *TOK.encode(f"{PLACE} blue")]
  assert len(records.object_scores(TOK, ids, np.zeros(len(ids)))) == 1


def evaluate(**spec):
  """Returns the Result of one evaluator, of a model that was not trained."""
  c = numbers_run.config()
  with c.unlocked():
    c.evals = dict(it={"source": "numbers", "size": 20} | spec)
  r = experiment.open(c)
  params = train.init_state(c, r)["params"]
  (task,) = r.tasks
  if task.generates:
    params = evals_run.unroll(params, r.cfg.dtype)
  return evals_run.run(task, r.cfg, params, r.form, r.mesh)


def test_predictions_alone_need_no_truth_and_have_no_score():
  result = evaluate(metric="none", max_len=3, num_examples=5)
  assert result.scores == {} and result.num_examples == 5
  assert [r["where"] for r in result.records] == [
    f"numbers:{i}" for i in range(5)
  ]
  assert "score" not in result.records[0]


def test_a_record_has_no_image_whose_file_it_names(monkeypatch, tmp_path):
  photo, video = str(tmp_path / "a.png"), str(tmp_path / "a.mp4")
  Image.new("RGB", (4, 4)).save(photo)
  open(video, "wb").close()
  url = "https://example.org/a.jpg"
  refs = [photo, [photo, photo], None, url, video, [photo, None], "gone.png"]
  ref = lambda self, i: refs[i]
  monkeypatch.setattr(numbers.Numbers, "image_ref", ref, raising=False)
  kept = evaluate(metric="none", max_len=1, num_examples=len(refs)).records
  assert ["image" in r for r in kept] == [False] * 2 + [True] * 5


def test_the_first_records_and_the_worst_have_what_the_model_saw(monkeypatch):
  seen = []
  answers = evals_run._answers

  def spied(task, *args):
    batches = evals_run._batches

    def spy(*args):
      for rows, *rest in batches(*args):
        seen.extend(zip(rows["index"].tolist(), rows["image"]))
        yield rows, *rest

    with monkeypatch.context() as patch:
      patch.setattr(evals_run, "_batches", spy)
      return answers(task, *args)

  monkeypatch.setattr(evals_run, "_answers", spied)
  score = lambda name, texts, examples: statistics.means(
    {"right": [float(i not in (4, 13, 17)) for i in range(20)]}
  )
  monkeypatch.setattr(evals_run.metrics_lib, "score", score)
  monkeypatch.setattr(records, "NUM_IMAGES", 6)
  found = evaluate(metric="exact", max_len=1).records
  pictures = {r["index"]: r["image"] for r in found if "image" in r}
  assert sorted(pictures) == [0, 1, 2, 4, 13, 17]
  saw = {i: records.png(image) for i, image in seen}
  assert pictures == {i: saw[i] for i in pictures}
  assert len({*pictures.values()}) > 1


def test_a_forbidden_piece_is_never_written():
  said = lambda **how: {
    r["prediction"] for r in evaluate(max_len=1, num_examples=6, **how).records
  }
  (first,) = said()
  assert first not in said(forbid=[first])
  with pytest.raises(ValueError, match="forbid: 'red circle' is 2 tokens"):
    evaluate(max_len=4, forbid=["red circle"])
  assert first not in said(forbid=[first], num_beams=2)


def test_beams_and_sampling_are_settings_of_each_evaluator():
  greedy = evaluate(max_len=4, num_examples=6).records
  drawn = [
    evaluate(max_len=4, num_examples=6, temperature=5.0, seed=s).records
    for s in (0, 0, 1)
  ]
  beams = evaluate(max_len=4, num_examples=6, num_beams=3).records
  texts = lambda rows: [r["prediction"] for r in rows]
  assert texts(drawn[0]) == texts(drawn[1]) != texts(drawn[2])
  assert texts(drawn[0]) != texts(greedy)
  best = lambda rows: np.array([r["logp"] for r in rows])
  assert (best(beams) >= best(greedy) - 1e-4).all()


def test_a_score_has_its_interval_its_number_and_the_published_one():
  result = evaluate(
    metric="exact", max_len=3, num_examples=7, published=dict(exact=0.9)
  )
  value, low, high, num, _ = result.intervals["exact"]
  assert value == result.scores["exact"] and low <= value <= high and num == 7
  lines = log_run.table({"it": result}).splitlines()
  assert lines[0].split() == [
    *("evaluator metric score 95 % interval blind published n".split())
  ]
  assert lines[1].split()[-2:] == ["0.900", "7"]


def test_unknown_settings_are_refused_before_anything_runs():
  with pytest.raises(ValueError, match='did you mean "exact"'):
    evaluate(metric="exakt")
  with pytest.raises(ValueError, match="submission format"):
    evaluate(submit="vqa_v2")


def test_a_row_whose_whole_answer_was_cut_is_left_out_and_counted(
  monkeypatch, tmp_path
):
  def lengthen(example):
    cut = example["suffix"] in ("3", "7")
    return {"prefix": "say " * 20} if cut else {}

  monkeypatch.chdir(tmp_path)  # for the file of bad rows
  monkeypatch.setitem(pp.OPS, "lengthen", lengthen)
  result = evaluate(metric="perplexity", pp="lengthen")
  others = evaluate(metric="perplexity", bad=[3, 7])
  assert (result.num_examples, result.num_cut, result.num_bad) == (18, 2, 0)
  assert (others.num_examples, others.num_cut, others.num_bad) == (18, 0, 2)
  assert result.scores == pytest.approx(others.scores, rel=1e-6)
  assert result.intervals["nll"].num == 18
  assert log_run.table({"it": result}).split()[-1] == "18"


def test_without_any_target_a_loss_says_so():
  with pytest.raises(ValueError, match="no row has a target; with text_len"):
    evaluate(metric="perplexity", pp=f'fmt("{"say " * 9}", out="prefix")')


@pytest.mark.parametrize("metric", ["exact", "perplexity"])
def test_one_and_eight_devices_give_the_same_numbers(metric, monkeypatch):
  make = sharding.make_mesh
  found = []
  for devices in (jax.devices()[:1], jax.devices()):
    mesh = functools.partial(make, devices=devices)
    monkeypatch.setattr(sharding, "make_mesh", mesh)
    found.append(evaluate(metric=metric, max_len=4))
  one, eight = found
  assert one.num_examples == eight.num_examples == 20
  # Products of one row and of eight rows are summed up in another order.
  assert eight.scores == pytest.approx(one.scores, rel=1e-6)
  for a, b in zip(one.records, eight.records, strict=True):
    assert b.pop("logp") == pytest.approx(a.pop("logp"), rel=1e-5)
    assert a == b
