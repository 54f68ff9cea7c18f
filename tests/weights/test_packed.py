"""Quantised weights, as they are read and in files of ours."""

import jax
import numpy as np
import pytest

import pg
from pg import convert, tree
from pg.ask import load as ask_load
from pg.codecs import tokenizer
from pg.decode import loop
from pg.models import quantize, variants
from pg.weights import load, npz, packed, serving, tensors
from pg.weights import opened as opened_lib
from tests.weights.test_npz import from_memory, specs_of

KINDS = "int8", "int4", "nf4:16"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A folder with an .npz of a small model, and one of each format of it."""
  folder = tmp_path_factory.mktemp("weights")
  rng = np.random.default_rng(0)
  flat = {
    name: rng.normal(0, 0.05, x.shape).astype("f4")
    for name, x in tensors.shapes(variants.VARIANTS["nano2"]).items()
  }
  npz.write(folder / "a.npz", specs_of(flat), from_memory(flat))
  for kind in KINDS:
    dst = folder / f"{kind}.safetensors"
    options = dict(model=tokenizer.NANO, check=True)
    convert.convert(folder / "a.npz", dst, None, quantize=kind, **options)
  convert.convert(folder / "a.npz", folder / "hf", "hf", model=tokenizer.NANO)
  return folder, flat


def wanted(flat, kind):
  """Returns {name: array or Quantized} of numpy arrays."""
  how = quantize.parse(kind)
  return {k: quantize.of_array(how, k, x) for k, x in flat.items()}


def same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)
  same_dtype = jax.tree.map(lambda x, y: x.dtype == y.dtype, a, b)
  assert all(jax.tree.leaves(same_dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_bits_that_were_quantised(kind, made):
  folder, flat = made
  path = folder / f"{kind}.safetensors"
  reader, want = load.open(path).reader, wanted(flat, kind)
  for name, x in want.items():
    if not quantize.is_quantized(x):
      same(np.array(tensors.whole(reader, name)), x)
      continue
    same(reader.packed(name), x)
    np.testing.assert_array_equal(
      tensors.whole(reader, name), quantize.whole(x, "float32")
    )
  num_bytes = sum(
    quantize.num_bytes(x) if quantize.is_quantized(x) else x.nbytes
    for x in want.values()
  )
  assert 0 < path.stat().st_size - num_bytes < 20_000  # the header


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_quantised_alike_wherever_they_come_from(kind, made):
  folder, flat = made
  nested = tree.unflatten(wanted(flat, kind))
  want = loop.unroll(jax.tree.map(jax.numpy.asarray, nested), "float32")
  for name in ("a.npz", "hf", f"{kind}.safetensors"):
    opened = load.open(folder / name)
    same_form = opened_lib.quantized(opened, kind)
    same(serving.read(same_form, opened.cfg), want)
    if tensors.quantized(opened.reader):
      same(serving.read(opened, opened.cfg), want)


def test_a_model_is_asked_in_few_bits(made):
  folder, _ = made
  image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
  options = dict(tokenizer=tokenizer.NANO, dtype="float32")
  size = {}
  for name, kind in (
    ("a.npz", None),
    ("a.npz", "int8"),
    ("int8.safetensors", None),
  ):
    model = pg.load(folder / name, quantize=kind, **options)
    leaves = jax.tree.leaves(model.params)
    size[name, kind] = sum(x.nbytes for x in leaves)
  (answer,) = model.predict(image, "caption en", max_len=4)
  assert np.isfinite(answer.score)
  small = size["a.npz", "int8"]
  assert small == size["int8.safetensors", None]
  assert small < 0.31 * size["a.npz", None]


def test_memory_is_that_of_the_packed_weights(made, monkeypatch):
  folder, _ = made
  opened = load.open(folder / "int4.safetensors")
  stored, size, num_bytes = opened_lib.stored(opened)
  flat = tensors.shapes(variants.VARIANTS["nano2"])
  total = sum(np.prod(x.shape) for x in flat.values())
  assert stored == np.float32
  assert size < 0.06 * total
  assert num_bytes < total
  monkeypatch.setattr(ask_load.machine, "multiplies_bfloat16", lambda: True)
  how = None, tensors.DTYPES["bfloat16"], size
  assert ask_load._dtype(*how) == "bfloat16"
  assert ask_load._dtype(*how, num_bytes) == "float32"


def test_a_quantised_file_is_converted_back_to_what_it_stands_for(
  made, tmp_path
):
  folder, flat = made
  convert.convert(
    folder / "int8.safetensors", tmp_path / "b.npz", "npz", check=True
  )
  want = wanted(flat, "int8")
  reader = npz.Reader(tmp_path / "b.npz")
  for name, x in want.items():
    same(tensors.whole(reader, name), np.asarray(quantize.whole(x, "float32")))


def test_what_cannot_be_written_is_refused(made, tmp_path):
  folder, _ = made
  for to, kind in (("npz", "int8"), (None, None)):
    with pytest.raises(ValueError, match="wanted one of them"):
      convert.convert(folder / "a.npz", tmp_path / "x", to, quantize=kind)
  with pytest.raises(ValueError, match="groups of 48 do not divide the 32 in"):
    convert.convert(folder / "a.npz", tmp_path / "x", None, quantize="int4:48")
  with pytest.raises(ValueError, match="no format of quantised weights"):
    pg.load(folder / "a.npz", quantize="int3", tokenizer=tokenizer.NANO)
  assert not list(tmp_path.iterdir())


def cut(data):
  return data[:-1]


def other_shape(data):
  old = b'"llm/embedder/input_embedding": {"dtype": "I8", "shape": [1920'
  return data.replace(old, old.replace(b"1920", b"1919"))


@pytest.mark.parametrize(
  "change, said",
  (
    (cut, "is damaged, copy it again: it has"),
    (other_shape, "is damaged, copy it again: ! llm/"),
    (lambda data: b"x" * 100, "is no safetensors file, or damaged"),
    (lambda data: data.replace(b"}", b" ", 1), "is no safetensors file"),
    (lambda data: data.replace(b'"dtype"', b"dtype", 1), "is no safetensors"),
  ),
)
def test_damaged_files_are_refused(change, said, made, tmp_path):
  folder, _ = made
  data = (folder / "int8.safetensors").read_bytes()
  assert change(data) != data
  path = tmp_path / "b.safetensors"
  path.write_bytes(data)
  assert packed.is_file(path) and not packed.is_file(folder / "a.npz")
  path.write_bytes(change(data))
  with pytest.raises(ValueError, match=said):
    packed.Reader(path)


def test_values_that_are_no_numbers_are_found_before_they_are_quantised(
  made, tmp_path
):
  _, flat = made
  name = "llm/layers/mlp/linear"
  bad = flat | {name: flat[name].copy()}
  bad[name][1, 2, 3] = np.nan
  npz.write(tmp_path / "a.npz", specs_of(bad), from_memory(bad))
  opened = opened_lib.quantized(load.open(tmp_path / "a.npz"), "int8")
  with pytest.raises(ValueError, match=f"{name}, layer 1: .* inf or nan"):
    serving.read(opened, opened.cfg)
