"""What transfers share: weights to start from, data, values by resolution."""

import argparse
import pathlib
import re

import pytest

from pg import check, config, tree
from pg.data.formats import splits
from pg.learn import optim
from pg.models import paligemma, variants
from pg.pp import flavours
from tests.support.tiny import ROOT
from transfers import base

# Those of prepared data that are trained on.
OTHER = {"base", "forkme", "small_gpu", "lora", "detect_own", "pope", "mix"}
OTHER |= {"nano"}  # of data that are drawn
RECIPES = sorted(
  {p.stem for p in pathlib.Path(ROOT, "transfers").glob("*.py")} - OTHER
)


@pytest.mark.parametrize(
  "arg, init",
  [
    ("", "hf://google/paligemma-3b-pt-224"),
    ("res=448", "hf://google/paligemma-3b-pt-448"),
    ("res=672", "hf://google/paligemma-3b-pt-448"),
    ("res=112", "hf://google/paligemma-3b-pt-224"),
    ("model=pg2_28b,res=896", "hf://google/paligemma2-28b-pt-896"),
    ("model=nano,res=16", ""),
    ("init=runs/mine:img", "runs/mine:img"),
  ],
)
def test_a_transfer_starts_from_released_weights_of_its_size(arg, init):
  assert base.get(arg, data="data").init == init


def test_what_is_no_transfer_starts_from_nothing():
  c = base.get()
  assert (c.init, "data" in c.arg, c.arg.model) == ("", False, "pg2_3b")


def test_a_transfer_of_ones_own_data_has_no_folder_of_prepared_ones():
  c = base.get("init=runs/mine", init="")
  assert (c.init, "data" in c.arg, c.arg.model) == (
    "runs/mine",
    False,
    "pg1_3b",
  )


def test_prepared_data_lie_in_the_folder_of_the_argument():
  spec = base.prepared(base.get("data=/big", data="data"), "gqa", "train + val")
  assert spec == dict(source="prepared", path="/big/gqa", split="train + val")


def test_a_value_is_that_of_the_next_lower_resolution():
  values = {224: "a", 448: "b"}
  got = [base.at(base.get(f"res={r}"), values) for r in (112, 224, 447, 896)]
  assert got == ["a", "a", "a", "b"]


def test_scores_are_those_of_the_model_and_the_resolution():
  acc = {224: 0.1, ("pg2_3b", 224): 0.2, ("pg2_3b", 448): 0.3}
  published = lambda arg: base.published(base.get(arg, data=""), acc=acc)
  assert published("") == {"acc": 0.1}
  assert published("model=pg2_3b") == {"acc": 0.2}
  assert published("model=pg2_3b,res=448") == {"acc": 0.3}
  assert published("res=448") == published("model=nano") == {}


def rows(spec):
  """Returns {(path, split): numbers of rows} of a spec, as if all were long."""
  sizes = dict.fromkeys(re.findall(r"[a-zA-Z]\w*", spec["split"]), 10**6)
  return [
    (spec["path"], part.split, part.start, part.stop)
    for part in splits.parse(spec["split"], sizes)
  ]


def seen(c):
  """Returns the names of evaluators on rows that a config trains on."""
  one = isinstance(c.data.get("source"), str)
  trained = [r for d in ([c.data] if one else c.data.values()) for r in rows(d)]
  return {
    name
    for name, how in c.evals.items()
    for path, split, start, stop in rows({**(c.data if one else {}), **how})
    for other in trained
    if other[:2] == (path, split) and start < other[3] and other[2] < stop
  }


@pytest.mark.parametrize("row", RECIPES)
def test_an_evaluator_on_what_is_trained_on_says_so(row):
  c = config.load(f"{ROOT}/transfers/{row}.py")
  said = {name for name in c.evals if name.startswith("seen_")}
  assert seen(c) == said
  assert not any(c.evals[name].get("published") for name in said)
  if "tune" in c.arg:
    c = config.load(f"{ROOT}/transfers/{row}.py:tune=True")
    assert not seen(c)
    assert {name.removeprefix("seen_") for name in said} <= set(c.evals)


@pytest.mark.parametrize(
  "card, trained", (("t4", "llm/layers/attn/"), ("l4", ""))
)
def test_a_small_gpu_trains_attention_or_all_without_moments(card, trained):
  c = config.load(f"{ROOT}/transfers/small_gpu.py:card={card}")
  shapes = paligemma.shapes(variants.VARIANTS["nano"])
  free = {
    k
    for k, x in tree.flatten(optim.frozen(shapes, c.schedule)).items()
    if not x
  }
  assert free == {k for k in tree.flatten(shapes) if k.startswith(trained)}
  assert (c.optimizer, c.init) == ("sgd", "hf://google/paligemma-3b-pt-224")


def test_an_unknown_card_is_named():
  with pytest.raises(ValueError, match='unknown card "t5".*l4, t4'):
    config.load(f"{ROOT}/transfers/small_gpu.py:card=t5")


def test_own_data_is_seen_upright_and_published_data_as_it_is_stored():
  way = lambda name: flavours.of_run(
    config.load(f"{ROOT}/transfers/{name}.py:res=224")
  )
  own = "decode(exif=True) | resize(224)"
  for name in ("forkme", "detect_own", "small_gpu", "lora"):
    assert way(name) == own
  for name in RECIPES:
    assert "exif" not in way(name)
  names = ("train", "image_root", *check.DEFAULTS)
  args = argparse.Namespace(**dict.fromkeys(names) | dict(train="a.jsonl"))
  assert check.plain_config(args).pp == own
