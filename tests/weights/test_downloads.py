"""What people download is opened, or it is said what to do with it."""

import gzip
import io
import json
import pathlib
import shutil
import tarfile
import zipfile

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy

from pg import convert
from pg.codecs import tokenizer
from pg.weights import hf, load, npz
from tests.weights import test_hub, test_load
from tests.weights.test_npz import assert_same, from_memory, specs_of

cache, server = test_hub.cache, test_hub.server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """A folder with an .npz and a Hugging Face folder; its tensors."""
  folder, flat = tmp_path_factory.mktemp("model"), test_load.draw()
  npz.write(folder / "a.npz", specs_of(flat), from_memory(flat))
  convert.convert(folder / "a.npz", folder / "hf", "hf", model=tokenizer.NANO)
  return folder, flat


def tar_of(path, mode):
  """Returns the bytes of a .tar with a file in it."""
  sink = io.BytesIO()
  with tarfile.open(fileobj=sink, mode=mode) as archive:
    archive.add(path, arcname="weights.npz")
  return sink.getvalue()


def zip_of(**files):
  """Returns the bytes of a zip."""
  sink = io.BytesIO()
  with zipfile.ZipFile(sink, "w") as archive:
    for name, data in files.items():
      archive.writestr(name.replace("__", "/"), data)
  return sink.getvalue()


def torch_file(name="archive/data.pkl"):
  """Returns what torch.save writes: a zip with a pickle."""
  return zip_of(**{name: b"\x80\x02}q\x00.", "archive/data/0": b"1234"})


FILES = {
  "w.tar.gz": (lambda p: tar_of(p, "w:gz"), r"archive \(gzip\): unpack it"),
  "w.tar.bz2": (lambda p: tar_of(p, "w:bz2"), r"archive \(bzip2\): unpack it"),
  "w.tar.xz": (lambda p: tar_of(p, "w:xz"), r"archive \(xz\): unpack it"),
  "w.tar": (lambda p: tar_of(p, "w"), r"archive \(tar\): unpack it"),
  "w.npz.gz": (
    lambda p: gzip.compress(p.read_bytes()),
    r"archive \(gzip\): unpack it",
  ),
  "w.zip": (lambda p: zip_of(a__b=b"x"), r"archive \(zip\): unpack it"),
  "pytorch_model.bin": (lambda p: torch_file(), "pickle.*to safetensors"),
  "old.pth": (lambda p: b"\x80\x02\x8a\nl\xfc\x9c", "pickle.*to safetensors"),
  "w.gguf": (lambda p: b"GGUF\x03\0\0\0", "llama.cpp's"),
  "w.h5": (lambda p: b"\x89HDF\r\n\x1a\n", "Keras's"),
  "w.npz": (
    lambda p: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "git lfs pull",
  ),
  "login.npz": (lambda p: b"<!DOCTYPE html><html></html>", "a web page"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["file", "folder", "tower"])
def test_an_intact_file_of_another_kind_is_named(model, tmp_path, name, form):
  make, said = FILES[name]
  (tmp_path / "w").mkdir()
  path = tmp_path / "w" / name
  path.write_bytes(make(model[0] / "a.npz"))
  (tmp_path / "w/README.md").write_text("# A model")
  asked = path if form == "file" else path.parent
  with pytest.raises(ValueError, match=said) as error:
    load.open(f"img={asked}" if form == "tower" else asked)
  assert name in str(error.value)
  assert "copy it again" not in str(error.value)


def test_what_is_cut_short_is_still_to_be_copied_again(model, tmp_path):
  data = (model[0] / "a.npz").read_bytes()
  (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
  with pytest.raises(ValueError, match="cut short.*copy it again"):
    load.open(tmp_path / "a.npz")


def test_the_only_npz_of_a_folder_is_opened(model, tmp_path):
  folder, flat = model
  shutil.copy(folder / "a.npz", tmp_path / "pt_224.npz")
  (tmp_path / "LICENSE").write_text("Gemma")
  opened, got = test_load.read(tmp_path)
  assert opened.name == str(tmp_path)
  assert_same(got, flat)
  got = test_load.read(f"img={tmp_path}")[1]
  assert_same(got, test_load.of_tower(flat, "img"))
  shutil.copy(folder / "a.npz", tmp_path / "pt_448.npz")
  with pytest.raises(ValueError, match="pt_224.npz, pt_448.npz: name one"):
    load.open(tmp_path)


def test_weights_further_inside_are_named(model, tmp_path):
  inner = tmp_path / "models--o--r/snapshots/abc"
  shutil.copytree(model[0] / "hf", inner)
  with pytest.raises(ValueError, match=f"further inside: name {inner}$"):
    load.open(tmp_path / "models--o--r")
  with pytest.raises(ValueError, match="one file of a Hugging Face folder"):
    load.open(inner / "model.safetensors")


def adapter():
  """Returns the files of a LoRA as peft saves it, by name."""
  inside = "base_model.model.language_model.model.layers.0.mlp.up_proj"
  config = dict(base_model_name_or_path="google/paligemma-3b-pt-224", r=4)
  return {
    "adapter_config.json": json.dumps(config | dict(peft_type="LORA")).encode(),
    "adapter_model.safetensors": safetensors.numpy.save(
      {f"{inside}.lora_A.weight": np.zeros((4, 16), np.float32)}
    ),
    "README.md": b"---\nlibrary_name: peft\n---\n",
  }


def test_an_adapter_names_its_base(tmp_path, server, cache, monkeypatch):
  for name, data in adapter().items():
    (tmp_path / name).write_bytes(data)
  said = "LoRA adapter of google/paligemma-3b-pt-224: name its base"
  for name in (tmp_path, f"llm={tmp_path}"):
    with pytest.raises(ValueError, match=said):
      load.open(name)
  monkeypatch.setattr(
    huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub")
  )
  server.repos["o/r"] = adapter()
  with pytest.raises(ValueError, match=said):
    load.open("hf://o/r")


@pytest.mark.parametrize("names", [["pytorch_model.bin"], []])
def test_a_config_beside_pickles_says_how_to_convert(model, tmp_path, names):
  shutil.copy(model[0] / "hf/config.json", tmp_path / "config.json")
  for name in names:
    (tmp_path / name).write_bytes(torch_file("pytorch_model/data.pkl"))
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps(dict(weight_map={})))
  with pytest.raises(ValueError, match="from_pretrained.*save_pretr") as error:
    load.open(tmp_path)
  assert f"from_pretrained('{tmp_path}')" in str(error.value)


def test_pickles_of_the_hub_are_converted_from_there(
  model, server, cache, monkeypatch
):
  monkeypatch.setattr(
    huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub")
  )
  config = (model[0] / "hf/config.json").read_bytes()
  server.repos["o/r"] = {
    "config.json": config,
    "pytorch_model.bin": torch_file("pytorch_model/data.pkl"),
  }
  with pytest.raises(ValueError, match=r"from_pretrained\('o/r'\)"):
    load.open("hf://o/r")


def test_a_pointer_in_a_folder_is_named(model, tmp_path):
  folder = shutil.copytree(model[0] / "hf", tmp_path / "hf")
  pointer = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
  )
  pathlib.Path(folder / "model.safetensors").write_bytes(pointer)
  with pytest.raises(ValueError, match="model.safetensors is .*git lfs pull"):
    hf.Reader(folder)


def test_a_run_of_ours_is_no_download(tmp_path):
  (tmp_path / "config.json").write_text(json.dumps(dict(model={})))
  (tmp_path / "metrics.jsonl").write_text("{}")
  with pytest.raises(ValueError, match="no checkpoint in"):
    load.open(tmp_path)
