"""The verb `convert`: every form into every other, whole or not at all."""

import resource

import numpy as np
import pytest
import safetensors.numpy

from pg import convert, tree
from pg.codecs import tokenizer
from pg.models import variants
from pg.weights import checkpoint, hf, npz, tensors
from tests import test_verbs
from tests.weights import test_hf
from tests.weights.test_npz import assert_same, from_memory, read_all, specs_of

TOKENIZER = tokenizer.NANO


@pytest.fixture(params=["nano", "nano2"])
def released(request, tmp_path):
  """An .npz of a small model of one generation; its path and its tensors."""
  cfg = variants.VARIANTS[request.param]
  rng = np.random.default_rng(0)
  flat = {
    name: rng.standard_normal(x.shape, np.float32)
    for name, x in tensors.shapes(cfg).items()
  }
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  return tmp_path / "a.npz", flat


def contents(path):
  return {k: npz.Reader(path).read(k, None) for k in npz.Reader(path).specs}


def test_npz_to_folder_to_npz_keeps_every_bit(released, tmp_path):
  path, _ = released
  options = dict(model=TOKENIZER, check=True)
  convert.convert(path, tmp_path / "hf", "hf", **options)
  convert.convert(tmp_path / "hf", tmp_path / "b.npz", "npz", check=True)
  assert path.read_bytes() == (tmp_path / "b.npz").read_bytes()
  convert.convert(tmp_path / "b.npz", tmp_path / "hf2", "hf", check=True)
  for first in (tmp_path / "hf").iterdir():
    assert first.read_bytes() == (tmp_path / "hf2" / first.name).read_bytes()


def test_rows_without_a_token_come_back_from_beside_an_npz(released, tmp_path):
  path, _ = released
  convert.convert(path, tmp_path / "hf", "hf", model=TOKENIZER)
  file = tmp_path / "hf/model.safetensors"
  named = safetensors.numpy.load_file(file)
  named["language_model.model.embed_tokens.weight"][1921:] = 7
  safetensors.numpy.save_file(named, file)
  convert.convert(tmp_path / "hf", tmp_path / "b.npz", "npz")
  convert.convert(tmp_path / "b.npz", tmp_path / "hf2", "hf")
  again = safetensors.numpy.load_file(tmp_path / "hf2/model.safetensors")
  assert_same(again, named)


def test_our_checkpoints_are_made_and_read(released, tmp_path):
  path, flat = released
  options = dict(model=TOKENIZER, check=True)
  convert.convert(path, tmp_path / "run", "orbax", **options)
  got = checkpoint.restore_params(tmp_path / "run")
  assert_same(tree.flatten(got), flat)
  convert.convert(tmp_path / "run", tmp_path / "hf", "hf", check=True)
  convert.convert(tmp_path / "run", tmp_path / "b.npz", "npz", check=True)
  assert path.read_bytes() == (tmp_path / "b.npz").read_bytes()
  cfg = hf.Reader(tmp_path / "hf").cfg
  assert_same(read_all(hf.Reader(tmp_path / "hf"), cfg), flat)
  assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("to", ["npz", "hf"])
def test_a_dtype_is_what_is_written(released, tmp_path, to):
  path, flat = released
  options = dict(model=TOKENIZER, dtype="bfloat16", check=True)
  convert.convert(path, tmp_path / "out", to, **options)
  reader = convert.READERS[to](tmp_path / "out")
  assert {str(x.dtype) for x in reader.specs.values()} == {"bfloat16"}
  name = "img/head/kernel"
  want = flat[name].astype(tensors.dtype("bfloat16"))
  np.testing.assert_array_equal(reader.read(name), want)


def test_a_comparison_finds_what_the_disk_has_changed(
  released, tmp_path, monkeypatch
):
  path, _ = released
  honest = npz.write

  def write(path, specs, read):
    def off_by_one(name, layer):
      return read(name, layer) + (name == "llm/layers/mlp/linear")

    honest(path, specs, off_by_one)

  monkeypatch.setattr(npz, "write", write)
  with pytest.raises(ValueError, match="mlp/linear, layer 0: what was written"):
    convert.convert(path, tmp_path / "b.npz", "npz", check=True)
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]


@pytest.mark.parametrize("to", ["npz", "hf", "orbax"])
def test_a_full_disk_leaves_nothing_behind(released, tmp_path, to):
  path, _ = released
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
  try:
    with pytest.raises(OSError, match="could not write"):
      convert.convert(path, tmp_path / "out", to, model=TOKENIZER)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz"]


def test_a_folder_without_a_tokenizer_is_not_made(released, tmp_path):
  path, _ = released
  with pytest.raises(
    ValueError, match="comes without a tokenizer.*--tokenizer"
  ):
    convert.convert(path, tmp_path / "hf", "hf")
  assert not (tmp_path / "hf").exists()


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
  flat, _ = test_hf.weights("pg1")
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  with pytest.raises(ValueError, match="has 1920 pieces .* has 24 rows"):
    convert.convert(tmp_path / "a.npz", tmp_path / "hf", "hf", model=TOKENIZER)


def test_an_npz_that_is_no_paligemma_is_refused(tmp_path):
  np.savez(tmp_path / "a.npz", **{"llm/x": np.zeros(3, np.float32)})
  with pytest.raises(ValueError, match="this is no PaliGemma"):
    convert.convert(tmp_path / "a.npz", tmp_path / "b.npz", "npz")


def test_the_command_converts_and_says_how_far_it_is(released, tmp_path):
  path, _ = released
  words = (path, tmp_path / "b.npz", "--to", "npz", "--check")
  done = test_verbs.verb("convert", *words)
  assert done.returncode == 0, done.stderr
  assert "100%" in done.stderr
  assert "written and compared" in done.stdout
  assert path.read_bytes() == (tmp_path / "b.npz").read_bytes()
  again = test_verbs.verb("convert", *words)
  assert again.returncode == 1
  assert "exists; remove it" in again.stderr
