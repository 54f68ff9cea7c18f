"""The PaliGemma of openpi's policies, in files that are laid out as theirs."""

import fsspec
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util

from pg import convert, tree
from pg.codecs import tokenizer
from pg.models import variants
from pg.weights import load, tensors
from tests.weights.test_load import NANO, draw, read
from tests.weights.test_npz import BF16, assert_same, save

POLICY = {
  "action_in_proj/kernel": (32, 16),
  "PaliGemma/llm/final_norm_1/scale": (16,),
  "PaliGemma/llm/layers/attn/q_einsum_1/w": (3, 4, 16, 32),
  "PaliGemma/llm/layers/mlp_1/linear": (3, 64, 16),
  "PaliGemma/llm/layers/pre_ffw_norm_1/Dense_0/kernel": (3, 16, 48),
}


def policy(flat, end=""):
  """Returns the flat parameters of a policy around a PaliGemma's."""
  named = {f"PaliGemma/{k}": v for k, v in flat.items()}
  named |= {k: np.zeros(shape, np.float32) for k, shape in POLICY.items()}
  return {k + end: v for k, v in named.items()}


def save_orbax(folder, named):
  params = {"params": tree.unflatten(named)}
  with ocp.PyTreeCheckpointer() as saver:
    saver.save(folder.resolve(), params)


def their_loader(path, reference):
  """As openpi's PaliGemmaWeightLoader merges a file into a policy."""
  with open(path, "rb") as f:
    flat = dict(np.load(f, allow_pickle=False))
  params = traverse_util.unflatten_dict(flat, sep="/")["params"]
  loaded = traverse_util.flatten_dict({"PaliGemma": params}, sep="/")
  result = {
    k: v.astype(reference[k].dtype) for k, v in loaded.items() if k in reference
  }
  return {**reference, **result}


@pytest.mark.parametrize("dtype", [np.float32, BF16])
@pytest.mark.parametrize("end", ["", "/value"])
def test_the_first_expert_of_a_checkpoint_is_a_paligemma(
  tmp_path, monkeypatch, end, dtype, capsys
):
  flat = draw(dtype=dtype)
  save_orbax(tmp_path / "pi0" / "params", policy(flat, end))
  for name in (tmp_path / "pi0", tmp_path / "pi0" / "params"):
    opened, got = read(name)
    assert_same(got, flat)
    assert opened.cfg.img == NANO.img and opened.cfg.llm.num_heads == 4
    said = capsys.readouterr().err
    assert f"{len(flat)} tensors of PaliGemma are read" in said
    assert "5 of the policy are left out" in said
    assert "action_in_proj/kernel" in said
  fs = fsspec.filesystem("memory")
  fs.put(str(tmp_path / "pi0"), f"/{tmp_path.name}", recursive=True)
  monkeypatch.setenv("HOME", str(tmp_path))
  assert_same(read(f"memory://{tmp_path.name}/params")[1], flat)
  reader = load.open(tmp_path / "pi0").reader
  name = "llm/layers/mlp/linear"
  np.testing.assert_array_equal(reader.read(name, 1), flat[name][1])


@pytest.mark.parametrize("prefix", ["", "params/"])
def test_an_npz_with_their_names_is_read(tmp_path, prefix, capsys):
  flat = draw()
  named = {prefix + k: v for k, v in policy(flat).items()}
  save(tmp_path / "pi0.npz", named)
  assert_same(read(tmp_path / "pi0.npz")[1], flat)
  assert "5 of the policy are left out" in capsys.readouterr().err
  how = dict(model=tokenizer.NANO, check=True)
  convert.convert(tmp_path / "pi0.npz", tmp_path / "hf", "hf", **how)
  assert_same(read(tmp_path / "hf")[1], flat)


@pytest.mark.parametrize("dtype", [None, "float16", "bfloat16"])
def test_what_is_written_is_what_their_loader_merges(tmp_path, dtype):
  flat = draw()
  save(tmp_path / "a.npz", flat)
  out = tmp_path / "openpi.npz"
  convert.convert(tmp_path / "a.npz", out, "openpi", dtype=dtype, check=True)
  reference = {
    k: np.ones(v.shape, jnp.bfloat16) for k, v in policy(flat).items()
  }
  got = their_loader(out, reference)
  assert set(got) == set(reference)
  for name, value in got.items():
    ours = flat.get(name.removeprefix("PaliGemma/"))
    if ours is None:
      assert (value == 1).all(), name
    else:
      want = ours.astype(tensors.dtype(dtype or "float32")).astype(BF16)
      np.testing.assert_array_equal(value, want)
  assert set(read(out)[1]) == set(flat)


def test_what_would_be_lost_is_refused(tmp_path):
  flat = draw(variants.VARIANTS["nano2"])
  save(tmp_path / "a.npz", flat)
  with pytest.raises(ValueError, match="is of Gemma 2"):
    convert.convert(tmp_path / "a.npz", tmp_path / "out.npz", "openpi")
  assert not (tmp_path / "out.npz").exists()


def test_a_policy_with_adapters_or_without_a_paligemma_is_refused(tmp_path):
  adapter = "PaliGemma/llm/layers/attn/q_einsum/lora_a"
  named = policy(draw()) | {adapter: np.zeros((3, 4, 96, 2), np.float32)}
  save(tmp_path / "a.npz", named)
  with pytest.raises(ValueError, match="has adapters .*q_einsum/lora_a"):
    load.open(tmp_path / "a.npz")
  save_orbax(tmp_path / "other", {"dense/kernel": np.zeros((2, 2))})
  said = "has no PaliGemma: wanted .* found params/dense/kernel"
  with pytest.raises(ValueError, match=said):
    load.open(tmp_path / "other")
