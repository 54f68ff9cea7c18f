"""Every recipe runs on a small release in the official file format.

Release -> preparation -> check -> two steps -> decoding -> metric -> file for a
test server, with one small model and few programs for all of them.
"""

import functools
import json
import os

import jax
import numpy as np
import pytest

from pg import check, config, experiment, sharding, train, tree
from pg.codecs import tokenizer
from pg.data import stream
from pg.evals import blind as blind_lib
from pg.evals import run as evals_run
from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import paligemma, variants
from tests.support import transfer_rows
from transfers import base, mix

# What all recipes have in common here, so that they share their programs. The
# small tokenizer needs many tokens for words it does not know.
SHAPES = dict(batch_size=2, num_images=16, text_len=128, label_smoothing=0.1)
MAX_LEN, MAX_PROGRAMS = 8, 6
MODELS = ("pg1_3b", "pg2_3b", "pg2_10b", "pg2_28b")

each_recipe = pytest.mark.parametrize("row", transfer_rows.RECIPES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return transfer_rows.Data(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="module", autouse=True)
def cheap(one_device):
  """Sees one device, and the shapes of a model once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(blind_lib, "NUM_TEXTS", 8)
    patch.setattr(paligemma, "shapes", functools.cache(paligemma.shapes))
    yield


def small(data, row):
  """Returns a recipe's config in the shapes that all have here."""
  tune = "tune" in data.config(row).arg
  c = data.config(row, model="nano", res=12, **dict(tune=True) if tune else {})
  return alike(c)


def alike(c):
  """Returns a config in the shapes that all have here."""
  with c.unlocked():
    c.update(SHAPES)
    c.model.dropout = 0.0
    for how in c.evals.values():
      how.batch_size = SHAPES["batch_size"]
      how.max_len = MAX_LEN
      how.num_beams = min(2, how.get("num_beams", 1))
  return c


class Programs:
  """The functions that recipes share, and how often they were compiled."""

  def __init__(self):
    self.functions = {"unroll": evals_run.unroll}
    self._before = evals_run.unroll._cache_size()

  def add(self, name, make):
    """Returns the program of a name, that of `make()` if there is none yet."""
    if name not in self.functions:
      self.functions[name] = jax.jit(make())
    return self.functions[name]

  def cheap(self, name, make):
    """Returns `make` whose functions are compiled with little effort."""

    def made(*args):
      return self.add((name, args), lambda: make(*args).__wrapped__)

    return made

  def sizes(self):
    """Returns how often each function was compiled."""
    sizes = {k: f._cache_size() for k, f in self.functions.items()}
    return sizes | {"unroll": sizes["unroll"] - self._before}


@pytest.fixture(scope="module")
def programs():
  """Remembers what is compiled to generate and to score."""
  found = Programs()
  with pytest.MonkeyPatch.context() as patch:
    for name in ("_generate", "_score"):
      patch.setattr(
        evals_run, name, found.cheap(name, getattr(evals_run, name))
      )
    yield found


@functools.cache
def start(cfg):
  """Returns a drawn train state, numpy, and the step from it, not compiled."""
  plain = base.get("model=nano")
  shapes = paligemma.shapes(cfg)
  tx = optim.make(plain, shapes, total=2)
  is_frozen = optim.frozen(shapes, plain.schedule)
  how = dict(label_smoothing=SHAPES["label_smoothing"], seed=0)
  rng = np.random.default_rng(0)
  draw = lambda _, x: rng.normal(0, 0.02, x.shape).astype(np.float32)
  state = state_lib.of_params(tree.map_named(draw, shapes), tx)
  step = functools.partial(
    train.update, cfg=cfg, tx=tx, is_frozen=is_frozen, **how
  )
  return jax.device_get(state), step


def two_steps(r, programs):
  """Trains two steps with one optimizer for all; returns the parameters."""
  state, step = start(r.cfg)
  step = programs.add(("update", r.cfg), lambda: step)
  state = jax.device_put(state, sharding.replicated(r.mesh))
  if not r.total:
    return state["params"]
  batches = stream.train_batches(r.data, r.form, 0, 2, stop=4)
  with jax.set_mesh(r.mesh):
    for _, _, batch in stream.on_devices(batches, r.mesh):
      state, measured = step(state, batch)
      assert np.isfinite(measured["train/loss"]), measured
  assert measured["train/grad_norm"] > 0
  return state["params"]


def published(row):
  """Returns {evaluator: scores} that a recipe has published values of."""
  found = {}
  for res in (224, 448, 896):
    spec = f"{transfer_rows.ROOT}/transfers/{row}.py:res={res}"
    c = config.load(spec)
    c = config.load(f"{spec},tune=True") if "tune" in c.arg else c
    for name, how in c.evals.items():
      found.setdefault(name, set()).update(how.get("published", {}))
  return found


@each_recipe
def test_a_recipe_runs_from_the_release_to_its_scores(
  row, data, programs, tmp_path
):
  c = small(data, row)
  r = experiment.open(c)
  cut = experiment.check_data(r, str(tmp_path))
  assert set(cut) > {f"evals.{name}" for name in c.evals}
  params = two_steps(r, programs)
  baseline = blind_lib.fit(r.data, r.options) if r.total else None
  place = dict(step=2, workdir=str(tmp_path), baseline=baseline)
  results = evals_run.evaluate(r.tasks, r.cfg, params, r.form, r.mesh, **place)
  assert set(results) == set(c.evals)  # none is left out
  reported = published(row)
  for task in r.tasks:
    result = results[task.name]
    missing = reported.get(task.name, set()) - set(result.scores)
    hidden = task.settings["metric"] == "none"  # the server's scores
    assert hidden or not missing, (task.name, missing, set(result.scores))
    assert all(map(np.isfinite, result.scores.values())), result.scores
    assert result.scores or task.settings["submit"]
    assert result.num_bad == 0
    blind = bool(r.total and result.records and result.scores)
    assert bool(result.blind) == blind
    if task.settings["submit"]:
      file = tmp_path / f"submissions/{task.name}-000000002.json"
      # A model that has learnt nothing finds no object.
      boxes = task.settings["submit"] == "coco_detection"
      assert len(json.loads(file.read_text())) or boxes


def test_the_mixture_of_all_trains_and_is_asked_what_no_task_was(
  data, programs, tmp_path
):
  tasks = [module.__name__.rpartition(".")[2] for module, _ in mix.TASKS]
  for row in tasks:
    data.prepare(row)
  spec = f"{transfer_rows.ROOT}/transfers/mix.py:model=nano,res=12,codec=nano"
  c = alike(config.load(f"{spec},data={data.root}/data"))
  transfer_rows.shorten(c)
  r = experiment.open(c)
  assert {d.name for d in r.data} > {"ai2d", "coco35l_de", "chartqa_human"}
  assert len(r.data) == 58
  params = two_steps(r, programs)
  place = dict(step=2, workdir=str(tmp_path))
  results = evals_run.evaluate(r.tasks, r.cfg, params, r.form, r.mesh, **place)
  assert set(results) == {"pope", "mmvp"}
  assert all(v.scores for v in results.values())


@each_recipe
def test_the_check_finds_no_error_in_a_release(row, data):
  c = small(data, row)
  found = check.check(c, row).inspection.findings
  # Trained on train and val, as published, a score on val measures memory.
  errors = [f for severity, f in found.sorted() if severity == "error"]
  assert not [f for f in errors if f.kind != "shared_question"]


def test_all_recipes_share_a_few_programs(programs):
  sizes = programs.sizes()
  assert set(sizes.values()) <= {0, 1}, sizes
  assert sum(sizes.values()) <= MAX_PROGRAMS, sizes


@functools.cache
def shapes(model):
  cfg = variants.from_config(dict(variant=model, res=224), 257152)
  return paligemma.shapes(cfg)


@each_recipe
def test_a_recipe_fits_all_released_models(row):
  for model in MODELS:
    for res in (224, 448, 896):
      file = f"{transfer_rows.ROOT}/transfers/{row}.py"
      c = config.load(f"{file}:model={model},res={res}")
      assert c.init == base.released(model, res)
      assert (c.res, f"resize({res}" in c.pp) == (res, True)
    optim.make(c, shapes(model), total=100, num_examples=1000)


def golden():
  return json.loads(transfer_rows.GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
  "name", ["nano", pytest.param("gemma", marks=pytest.mark.gemma)]
)
@each_recipe
def test_the_first_example_becomes_the_same_tokens_as_ever(row, name, data):
  want = golden()[row]
  c = data.config(row)
  example = transfer_rows.first(c)
  assert (example["prefix"], example["suffix"], c.text_len) == (
    want["prefix"],
    want["suffix"],
    want["text_len"],
  )
  tok = tokenizer.Tokenizer(os.fspath(transfer_rows.TOKENIZERS[name]))
  assert transfer_rows.golden(c, example, tok) == want[name]


# As the recipes were published; double spaces and tabs are theirs.
PROMPTS = dict(
  activitynet_cap="caption en",
  activitynet_qa="answer en {question}",
  ai2d="answer en  {question} choose from: {options}",
  aokvqa_da="answer en {question}",
  aokvqa_mc="answer en  {question} choose from: {options}",
  chartqa="{question}",
  coco35l="caption {language}",
  cococap="caption en",
  docvqa="{question}",
  gqa="answer en {question}",
  infovqa="answer en {question}",
  msrvtt_cap="caption en",
  msrvtt_qa="answer en {question}",
  msvd_qa="answer en {question}",
  nlvr2="answer en {sentence}",
  ocrvqa="answer en {question}",
  okvqa="answer en {question}",
  pope="{question}",
  rsvqa_hr="answer en {question}",
  rsvqa_lr="answer en {question}",
  scicap="caption en",
  screen2words="caption en",
  small_gpu="caption en",
  stvqa="answer en {question}",
  tallyqa="answer en {question}",
  textcaps="caption en",
  textvqa="answer en {question}",
  vatex_cap="caption en",
  vizwizvqa="answer en {question}",
  vqav2="answer en {question_text}",
  widgetcap="caption en",
)


@pytest.mark.parametrize(
  "row", [r for r in transfer_rows.RECIPES if r in PROMPTS]
)
def test_a_prompt_is_the_published_one(row, data):
  example = transfer_rows.first(data.config(row))
  said = {**example, "options": " \t ".join(example.get("options", ()))}
  assert example["prefix"] == PROMPTS[row].format(**said)
