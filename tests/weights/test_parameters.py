"""Parameters of weights are read whole, or but for what is to stay drawn."""

import dataclasses

import jax
import numpy as np
import pytest

from pg import convert, sharding, tree
from pg.codecs import tokenizer
from pg.models import bank, lora, matrices, paligemma
from pg.weights import (
  adapters,
  load,
  npz,
  parameters,
  peft,
  serving,
  tensors,
)
from tests.weights.test_load import NANO, draw
from tests.weights.test_npz import assert_same, from_memory, specs_of

HEAD = {"img/head/kernel", "img/head/bias"}
POSITIONS, PATCHES = "img/pos_embedding", "img/embedding/kernel"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """The same model as an .npz, a folder and a run; its parameters."""
  folder, flat = tmp_path_factory.mktemp("weights"), draw()
  npz.write(folder / "npz", specs_of(flat), from_memory(flat))
  for form, name in (("hf", "hf"), ("orbax", "run")):
    how = dict(model=tokenizer.NANO)
    convert.convert(folder / "npz", folder / name, form, **how)
  return folder, flat


def read(weights, dont_load, cfg=NANO):
  """Reads weights for training; what is drawn is 7."""
  place = sharding.replicated(sharding.make_mesh({"fsdp": -1}))
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    paligemma.shapes(cfg),
  )
  sevens = lambda: jax.tree.map(lambda x: np.full(x.shape, 7.0), abstract)
  got = parameters.for_training(weights, cfg, abstract, sevens, dont_load)
  return {k: np.asarray(x) for k, x in tree.flatten(got).items()}


@pytest.mark.parametrize("name", ["npz", "hf", "run"])
def test_what_is_not_to_be_loaded_stays_as_drawn(files, name, capsys):
  folder, flat = files
  got = read(load.open(folder / name), ("img/head/.*", POSITIONS))
  for key, value in got.items():
    drawn = key in HEAD | {POSITIONS}
    np.testing.assert_array_equal(value, 7.0 if drawn else flat[key], key)
  said = capsys.readouterr().err
  assert "3 parameters" in said and "img/head/bias, img/head/kernel" in said
  assert_same(read(load.open(folder / name), ()), flat)
  assert not capsys.readouterr().err


def test_what_is_not_loaded_may_be_missing_or_of_another_shape(files, tmp_path):
  _, flat = files
  other = {k: v for k, v in flat.items() if k != "img/head/bias"}
  other["img/head/kernel"] = np.zeros((96, 50), np.float32)
  other["img/extra/bias"] = np.zeros(3, np.float32)
  npz.write(tmp_path / "a.npz", specs_of(other), from_memory(other))
  opened = load.open(tmp_path / "a.npz")
  got = read(opened, ("img/head/.*", "img/extra/.*"))
  assert (got["img/head/bias"] == 7).all()
  assert "img/extra/bias" not in got
  for rules, said in (
    ((), "missing img/head/bias"),
    (("img/head/.*",), "unexpected img/extra/bias"),
    (("img/(head/bias|extra/.*)",), "img/head/kernel: wanted"),
  ):
    with pytest.raises(ValueError, match=said):
      read(opened, rules)


def test_an_image_tower_may_have_other_patches_where_they_are_not_loaded(files):
  img = dataclasses.replace(NANO.img, patch=10, res=50)
  cfg = dataclasses.replace(NANO, img=img)
  got = read(load.open(files[0] / "npz"), ("img/(pos_)?embedding.*",), cfg)
  for key, shape in ((POSITIONS, (1, 25, 96)), (PATCHES, (10, 10, 3, 96))):
    assert got[key].shape == shape and (got[key] == 7).all()


@pytest.mark.parametrize(
  "regex, near",
  [
    ("img/head", "img/head/bias, img/head/kernel"),
    ("img/haed/kernel", "img/head/kernel"),
    ("xyz", r"and \d+ more"),
  ],
)
def test_a_regex_that_is_no_name_is_refused_with_near_ones(files, regex, near):
  opened = load.open(files[0] / "npz")
  with pytest.raises(ValueError, match=f"(?s)dont_load '{regex}'.*{near}"):
    read(opened, ("img/pos_embedding", regex))


@pytest.mark.parametrize("name", ["npz", "hf", "run"])
def test_adapters_of_any_form_of_weights_are_read(
  files, tmp_path, capsys, name
):
  folder, flat = files
  rng, parts = np.random.default_rng(0), {}
  for key, x in flat.items():
    if matrices.letters(key):
      shape = lora.shapes(key, x.shape, 2)
      draw = lambda k, s=shape: rng.standard_normal(s[k], np.float32)
      parts[key] = {k: draw(k) for k in "abm"}
  own = adapters.Adapter("x", 0.5, parts)
  peft.write(str(tmp_path / "dora"), own, NANO)
  weights = load.open(folder / name)
  opened = dict(x=load.open_adapter(weights, str(tmp_path / "dora")))
  got = serving.bank_of(weights, NANO, None, opened, {})
  assert "was trained" not in capsys.readouterr().err
  reader = opened["x"].reader
  reader.adapter = reader.adapter._replace(frozen_dtype="nf4")
  serving.bank_of(weights, NANO, None, opened, {})
  said = "x was trained beside weights in nf4, which these are not"
  assert said in capsys.readouterr().err
  read = lambda key, layer: flat[key] if layer is None else flat[key][layer]
  want = bank.make(NANO, dict(x=own), read)
  assert got.names == ("x",)
  for mine, other in zip(got[1:], want[1:], strict=True):
    close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-5)
    jax.tree.map(close, mine, other)


def test_left_out_tensors_are_compared_with_no_shape():
  specs = tensors.shapes(NANO)
  wrong = {**specs, POSITIONS: np.zeros(3)}
  tensors.check(wrong, NANO, "w", left_out={POSITIONS})
  with pytest.raises(ValueError, match=POSITIONS):
    tensors.check(wrong, NANO, "w")
