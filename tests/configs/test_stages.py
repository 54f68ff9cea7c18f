"""Stages 1 and 2: sizes, one curve, tasks and prompts, what is missing."""

import functools
import random
import shutil

import pytest

from configs import pretraining
from pg import config, pp, train
from pg.codecs import tokenizer
from pg.data import pipeline, stream
from pg.data.synthetic import examples as scene_examples
from pg.data.synthetic import hand
from pg.data.synthetic import shapes as scenes
from pg.learn import optim
from pg.log import metrics
from pg.models import paligemma, variants
from tests.support import transfer_rows
from tests.support.releases import pretraining as releases
from tests.support.tiny import ROOT

STAGES = ("stage1", "stage2_448", "stage2_896")
each_size = pytest.mark.parametrize("size", pretraining.SIZES)
each_stage = pytest.mark.parametrize("stage", STAGES)


def load(stage, **arguments):
  words = ",".join(f"{k}={v}" for k, v in arguments.items())
  return config.load(f"{ROOT}/configs/{stage}.py:{words}")


@functools.cache
def shapes(size):
  vocab_size = None if size.startswith("nano") else 257_152
  cfg = variants.from_config(dict(variant=size), vocab_size)
  return paligemma.shapes(cfg)


def rates(c):
  """Returns {group: function from steps done to its rate}, and the steps."""
  total = config.steps(c.total, c.batch_size)
  found = optim.rates(c, shapes(c.model.variant), total)
  whole = found.get("train/lr")
  groups = ("img", "llm", "projector")
  return {k: found.get(f"train/lr/{k}", whole) for k in groups}, total


@each_size
def test_one_curve_goes_through_all_stages(size):
  had = None
  for stage in STAGES:
    c = load(stage, size=size)
    found, total = rates(c)
    optim.make(c, shapes(size), total)  # all parameters, none of them frozen
    start = {k: rate(0) for k, rate in found.items()}
    if had:
      assert start == pytest.approx(had, rel=1e-6)
    else:
      assert set(start.values()) == {0}
    had = {k: rate(total) for k, rate in found.items()}
    assert len(set(had.values())) == 1
    last = {k: rate(total - 1) for k, rate in found.items()}
    assert last == pytest.approx(had, rel=1e-2)  # a step makes no jump
  first, _ = rates(load("stage1", size=size))
  steps = config.steps(load("stage1", size=size).warmup, c.batch_size)
  assert first["llm"](steps) == pytest.approx(c.lr)
  assert first["projector"](steps) == first["llm"](steps)
  assert first["img"](steps) < 0.2 * c.lr  # the tower is slower


def test_sizes_are_the_published_ones():
  published = dict(pg1_3b=2e-5, pg2_3b=1e-5, pg2_10b=5e-6, pg2_28b=5e-6)
  gemma = dict(pg1_3b="gemma-2b", pg2_3b="gemma-2-2b", pg2_10b="gemma-2-9b")
  for size, lr in published.items():
    plan = (1e9, 224, 128), (5e7, 448, 512), (1e7, 896, 512)
    for stage, (examples, res, text_len) in zip(STAGES, plan, strict=True):
      c = load(stage, size=size)
      steps = config.steps(c.total, c.batch_size)
      assert 0 <= steps * c.batch_size - examples < c.batch_size
      assert (c.lr, c.res, c.text_len) == (lr, res, text_len)
      assert f"random_resize({res})" in c.data.caption_cc3m.pp
      cfg = variants.from_config(dict(c.model, res=res)).llm
      caps = (0, 0) if size == "pg1_3b" else (50, 30)
      assert (cfg.attn_softcap or 0, cfg.final_softcap or 0) == caps
    init = load("stage1", size=size).init
    assert init.endswith(f",llm=hf://google/{gemma.get(size, 'gemma-2-27b')}")
    assert init.startswith("img=hf://google/siglip-so400m-patch14-224,")


def test_a_stage_goes_on_from_the_one_before():
  have = {s: load(s, size="pg2_3b") for s in STAGES}
  assert [(c.init, c.init_optimizer) for c in have.values()][1:] == [
    ("runs/stage1", True),
    ("runs/stage2_448", True),
  ]
  assert not have["stage1"].init_optimizer
  assert [c.seed for c in have.values()] == [0, 1, 2]  # in another order
  assert load("stage2_448", init="runs/mine").init == "runs/mine"
  for c in have.values():
    shares = {}
    for name, spec in c.data.items():
      task = name.partition("_")[0]
      shares[task] = shares.get(task, 0) + spec.weight
    assert set(shares) == set(pretraining.SCENES)
    assert sum(shares.values()) == pytest.approx(1)
  with pytest.raises(ValueError, match='unknown size "pg2_3"; did you mean'):
    load("stage1", size="pg2_3")


def test_a_share_of_all_examples_is_the_same_curve_in_small():
  whole, half = (load("stage2_448", size="nano", scale=x) for x in (1.0, 0.5))
  (a, num), (b, num_half) = rates(whole), rates(half)
  assert (num, num_half) == (500, 250)
  assert b["llm"](100) == pytest.approx(a["llm"](200))


@pytest.mark.parametrize("kind", pretraining.FILES)
@each_stage
def test_the_generator_has_every_task_at_every_resolution(stage, kind):
  c = load(stage, size="nano", scenes=kind)
  res = dict(zip(STAGES, (48, 96, 192), strict=True))[stage]
  data = pipeline.datasets(c.data, c.pp)
  assert {d.name for d in data} == {
    name for names in pretraining.SCENES.values() for name in names
  }
  assert {d.name for d in data} <= set(scenes.TASKS)
  for d in data:
    example = stream.read(d, 0, pp.Turn(), dict)
    assert example["image"].shape == (res, res, 3)
    assert example["prefix"] and example["suffix"]
    assert ("free" in c.data[d.name]) == (kind == "free")
  more = {f"hand_{t}" for t in hand.TASKS} if kind == "free" else set()
  assert set(c.evals) == {*c.data, "nll"} | more
  large = {k for k, e in c.evals.items() if e.get("res", res) > res}
  assert large == ({"segment"} if kind == "free" else set())
  for d in pipeline.datasets(c.data, c.evals.caption.pp):
    assert stream.read(d, 1, pp.Turn(), dict)["image"].shape == (res, res, 3)


def test_no_text_of_free_scenes_is_cut():
  c = load("stage2_448", size="nano", scenes="free")
  model = tokenizer.Tokenizer(tokenizer.NANO)
  for spec in c.data.values():
    setting = scene_examples.Setting("train", spec.free)
    for i in range(20 if spec.task == "segment" else 200):
      made = scenes.TASKS[spec.task](random.Random(i), setting)
      texts = made.prefix, made.suffix
      num = sum(len(model.encode(text)) for text in texts)
      assert num + 3 <= c.text_len + 1, texts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  made = transfer_rows.Data(tmp_path_factory.mktemp("public"))
  for name in releases.ROWS:
    made.prepare(name)
  return made


def public(data, stage="stage1", **more):
  how = dict(data=f"{data.root}/data", codec="nano", size="pg2_3b")
  return load(stage, **how, tokenizer=tokenizer.NANO, **more)


KITE = "<loc0256><loc0205><loc0512><loc0614>"
OTHER = "<loc0256><loc0716><loc0512><loc0921>"


def examples(data, name, num=8):
  """Returns what a row of a set becomes in several epochs, without crops."""
  c = public(data, res=32)
  assert "inception_crop(95" in c.data[name].pp or name.startswith("segment")
  ops = [x for x in c.data[name].pp.split(" | ") if "inception" not in x]
  (d,) = pipeline.datasets({name: {**c.data[name], "pp": " | ".join(ops)}}, "")
  found = [stream.read(d, 0, pp.Turn(epoch=i), dict) for i in range(num)]
  assert {x["image"].shape for x in found} == {(32, 32, 3)}
  return {(x["prefix"], x["suffix"]) for x in found}


@pytest.mark.parametrize(
  "name, want",
  (
    ("caption_cc3m", {("caption en", "a kite over field 0")}),
    (
      "caption_wit",
      {
        ("caption de", "Ein Drache über Feldern"),
        ("caption fr", "Un cerf-volant"),
      },
    ),
    ("ocr_hiertext", {("ocr", "KITES Open daily")}),  # from the top
    (
      "answer_vq2a",
      {("answer en what is red?", x) for x in ("kite", "a kite")},
    ),
    ("answer_visual_genome", {("answer en What is red?", "A kite")}),
    (
      "question_vq2a",
      {(f"question en {x}", "what is red?") for x in ("kite", "a kite")},
    ),
    ("question_visual_genome", {("question en A kite", "What is red?")}),
    (
      "grounded_visual_genome",
      {("caption <loc0205><loc0205><loc0614><loc0614>", "a red kite")},
    ),
  ),
)
def test_a_row_becomes_the_published_prompt(data, name, want):
  assert examples(data, name, num=12) == want


def test_objects_are_asked_for_by_their_labels(data):
  found = examples(data, "answer_openimages", num=40)
  assert ("answer en What objects are in the image?", "kite, person") in found
  assert ("answer en Is cow in the image?", "no") in found
  assert ("answer en How many kite?", "2") in found
  assert not {x for x in found if "crowd" in x[0]}


def test_all_objects_are_found_in_random_order(data):
  found = examples(data, "detect_openimages", num=12)
  assert {p for p, _ in found} == {
    "detect kite ; person",
    "detect person ; kite",
  }
  person = "<loc0512><loc0102><loc0972><loc0307> person"
  for _, suffix in found:
    parts = {f"{KITE} kite", f"{OTHER} kite", person}
    assert set(suffix.split(" ; ")) == parts


def test_objects_are_outlined(data):
  found = examples(data, "segment_openimages_seg", num=6)
  assert {p for p, _ in found} == {
    "segment kite ; person",
    "segment person ; kite",
  }
  for _, suffix in found:
    assert suffix.count("<seg") == 32 and f"{KITE}<seg" in suffix


def test_a_group_of_objects_is_not_counted(data):
  (d,) = [
    d
    for d in pipeline.datasets(public(data, res=32).data, "")
    if d.name == "answer_openimages"
  ]
  with pytest.raises(pp.Skip, match="groups"):
    stream.read(d, 1, pp.Turn(), dict)


@each_stage
def test_all_sets_are_read_as_training_reads_them(data, stage):
  c = public(data, stage, res=32)
  for d in pipeline.datasets(c.data, c.pp):
    for epoch in range(3):
      example = stream.read(d, 0, pp.Turn(epoch=epoch), dict)
      assert example["prefix"] and isinstance(example["suffix"], str)
  assert c.evals.ocr_hiertext.split == "validation"


def test_a_missing_set_is_named_and_weights_move_only_when_asked(
  data, tmp_path
):
  for name in ("cc3m", "vq2a", "openimages"):
    shutil.copytree(data.root / "data" / name, tmp_path / name)
  how = dict(size="pg2_3b", data=tmp_path)
  said = "not in the mixture: .*/hiertext, .*/openimages_seg, .*/wit$"
  with pytest.warns(UserWarning, match=said):
    c = load("stage1", **how)
  assert {k: round(d.weight, 9) for k, d in c.data.items()} == dict(
    caption_cc3m=0.2,
    answer_vq2a=0.05,
    answer_openimages=0.05,
    question_vq2a=0.05,
    detect_openimages=0.1,
  )
  with pytest.warns(UserWarning, match=said):
    c = load("stage1", **how, renormalize=True)
  assert {k: round(d.weight, 9) for k, d in c.data.items()} == dict(
    caption_cc3m=0.4,
    answer_vq2a=0.075,
    answer_openimages=0.075,
    question_vq2a=0.1,
    detect_openimages=0.1,
  )


def test_a_mixture_of_which_nothing_is_left_is_refused():
  c = load("stage1", size="pg2_3b", data="/nowhere")
  with pytest.raises(ValueError, match=r"python -m scripts.prepare.\w+ --raw"):
    pipeline.datasets(c.data, c.pp)


@pytest.mark.slow
def test_the_stages_train_one_after_the_other(one_device, tmp_path):
  before = {}
  for stage in STAGES:
    more = {"init": tmp_path / before["stage"]} if before else {}
    c = load(stage, size="nano", scale=1 / 320, **more)
    with c.unlocked():
      c.evals, c.log_every, c.batch_size = {}, 1, 16
    if before:
      jumps = c.copy_and_resolve_references()
      jumps.lr = 2 * c.lr
      with pytest.raises(ValueError, match="goes on from .* Train that one to"):
        train.fit(jumps, str(tmp_path / "jumps"))
    train.fit(c, str(tmp_path / stage))
    lines = metrics.read(tmp_path / stage / "metrics.jsonl")
    lines = [line for line in lines if "train/loss" in line]
    total = config.steps(c.total, c.batch_size)
    examples = before.get("examples", 0)
    at = [examples + 16 * (i + 1) for i in range(total)]
    assert [line["data/examples"] for line in lines] == at
    assert lines[0]["time/chip_hours"] > before.get("hours", 0)
    rate = lambda line: line.get("train/lr") or line["train/lr/img"]
    if before:
      assert rate(lines[0]) == pytest.approx(before["rate"], rel=0.02)
      # What was learnt at the lower resolution is there.
      assert lines[0]["train/loss"] < before["loss"] / 2
    end, loss = lines[-1], before.get("loss", lines[0]["train/loss"])
    before = dict(stage=stage, examples=at[-1], rate=rate(end), loss=loss)
    before["hours"] = end["time/chip_hours"]
  assert before["examples"] == 16 * (50 + 7 + 2)
