"""PEFT's folders that are not what can be computed here are refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from pg import tree
from pg.models import lora, matrices, paligemma
from pg.weights import adapters, peft
from tests.support import toy

NAME = "llm/layers/mlp/gating_einsum"
MODULE = "base_model.model.model.language_model.layers.{}.mlp.{}_proj"


@pytest.fixture
def folder(tmp_path):
  """A folder that is fine: an adapter of the decoder's gates, of rank 3."""
  cfg, rng = toy.config(), np.random.default_rng(0)
  shape = tree.flatten(paligemma.shapes(cfg))[NAME].shape
  shapes = lora.shapes(NAME, shape, 3)
  parts = {k: rng.normal(size=shapes[k]).astype("f4") for k in "ab"}
  path = tmp_path / "adapter"
  adapter = adapters.Adapter("x", 0.5, {NAME: parts}, base="y")
  peft.write(str(path), adapter, cfg)
  return path, parts


def change(path, **keys):
  file = path / peft.CONFIG
  file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def test_what_is_written_is_read(folder):
  path, parts = folder
  assert peft.is_folder(path) and not peft.is_folder(path.parent)
  scale, found = peft.read(str(path), toy.config())
  assert list(found) == [NAME]
  np.testing.assert_array_equal(found[NAME]["a"], parts["a"])
  np.testing.assert_allclose(scale * found[NAME]["b"], parts["b"] * 0.5)
  raw = json.loads((path / peft.CONFIG).read_text())
  assert (raw["r"], raw["lora_alpha"]) == (3, 1.5)
  stored = safetensors.numpy.load_file(path / peft.FILE)
  assert stored[f"{MODULE.format(1, 'up')}.lora_A.weight"].shape == (3, 16)
  assert stored[f"{MODULE.format(1, 'up')}.lora_B.weight"].shape == (24, 3)


def test_adapters_of_several_ranks_are_written_as_of_the_largest(tmp_path):
  cfg, rng = toy.config(), np.random.default_rng(0)
  flat, parts = tree.flatten(paligemma.shapes(cfg)), {}
  for name, rank in {NAME: 3, "llm/layers/mlp/linear": 2}.items():
    shapes = lora.shapes(name, flat[name].shape, rank)
    parts[name] = {k: rng.normal(size=shapes[k]).astype("f4") for k in "ab"}
  adapter = adapters.Adapter("x", 0.5, parts, base="y")
  peft.write(str(tmp_path / "adapter"), adapter, cfg)
  scale, found = peft.read(str(tmp_path / "adapter"), cfg)
  for name, own in parts.items():
    zeros, dims = np.zeros(flat[name].shape, "f4"), matrices.letters(name)
    have = lora.merge(scale, dims, zeros, found[name])
    np.testing.assert_allclose(
      have, lora.merge(0.5, dims, zeros, own), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
  "keys",
  (
    dict(peft_type="IA3"),
    dict(bias="all"),
    dict(modules_to_save=["lm_head"]),
    dict(lora_bias=True),
    dict(use_qalora=True),
    dict(init_lora_weights="pissa"),
    dict(trainable_token_indices=[3]),
    dict(something_new={"x": 1}),
  ),
)
def test_options_that_are_not_supported_are_named(folder, keys):
  path, _ = folder
  change(path, **keys)
  (key,) = keys
  with pytest.raises(ValueError, match=f"{key} is .*not supported"):
    peft.read(str(path), toy.config())


@pytest.mark.parametrize(
  "keys",
  (
    dict(init_lora_weights="gaussian"),
    dict(task_type="CAUSAL_LM", bias="none"),
  ),
)
def test_options_that_say_nothing_of_the_result_are_taken(folder, keys):
  path, _ = folder
  change(path, **keys)
  peft.read(str(path), toy.config())


def rewrite(path, function):
  stored = safetensors.numpy.load_file(path / peft.FILE)
  safetensors.numpy.save_file(function(stored), path / peft.FILE)


def test_files_that_do_not_fit_are_named(folder):
  path, _ = folder
  key = MODULE.format(0, "gate")
  first = f"{key}.lora_A.weight"
  whole = (path / peft.FILE).read_bytes()

  def refused(function, said):
    (path / peft.FILE).write_bytes(whole)
    rewrite(path, function)
    with pytest.raises(ValueError, match=said):
      peft.read(str(path), toy.config())

  refused(lambda s: s | {"lm_head.lora_A.weight": s[first]}, "lm_head.weight")
  refused(lambda s: s | {"x.weight": s[first]}, "fit no weight.*x.weight")
  refused(lambda s: {k: x for k, x in s.items() if k != first}, "wanted lora_A")
  refused(lambda s: s | {first: s[first][:, :5].copy()}, r"lora_A \(3, 5\)")
  magnitude = {f"{key}.lora_magnitude_vector": np.ones(24, np.float32)}
  refused(lambda s: s | magnitude, "only some layers")
  (path / peft.FILE).write_bytes(whole[:-9])
  with pytest.raises(ValueError, match="cannot be read"):
    peft.read(str(path), toy.config())


def test_an_adapter_of_another_model_is_refused(folder):
  _, parts = folder
  specs = tree.flatten(paligemma.shapes(toy.config()))
  adapter = adapters.Adapter("theirs", 1.0, {NAME: parts})
  adapters.check(adapter, specs, "ours")
  wide = {**parts, "b": np.zeros((2, 2, 3, 25))}
  with pytest.raises(ValueError, match="theirs is no adapter of ours: that of"):
    adapters.check(adapter._replace(parts={NAME: wide}), specs, "ours")
  with pytest.raises(ValueError, match="no such weight"):
    adapters.check(adapter._replace(parts={"llm/x": parts}), specs, "ours")
