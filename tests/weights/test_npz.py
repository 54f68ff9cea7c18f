"""Released `.npz` files: read lazily, written as numpy and big_vision do."""

import contextlib
import resource
import zipfile

import jax
import ml_dtypes
import numpy as np
import pytest

from pg import tree
from pg.models import paligemma, variants
from pg.weights import npz, tensors
from tests.support import paths, toy

BF16 = np.dtype(ml_dtypes.bfloat16)
GOLDEN = paths.GOLDEN / "bv_tiny.npz"


def weights(seed=0, dtype=np.float32, llm=toy.LLM):
  """Returns flat random parameters of a tiny model, and its config."""
  cfg = toy.config(llm)
  rng = np.random.default_rng(seed)
  flat = tree.flatten(paligemma.shapes(cfg))
  draw = lambda x: rng.standard_normal(x.shape).astype(dtype)
  return {name: draw(x) for name, x in flat.items()}, cfg


def save(path, flat, prefix="", compressed=False):
  """Writes what big_vision writes: bfloat16 as a void of two bytes."""
  void = lambda x: x.view("V2") if x.dtype == BF16 else x
  write = np.savez_compressed if compressed else np.savez
  write(path, **{prefix + k: void(x) for k, x in flat.items()})
  return path


def specs_of(flat):
  return {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in flat.items()}


def from_memory(flat):
  return lambda name, layer: flat[name] if layer is None else flat[name][layer]


def read_all(reader, cfg):
  """Returns {name: array} of all tensors of a model; closes the reader."""
  with contextlib.closing(reader):
    tensors.check(reader.specs, cfg, "the file")
    return {name: tensors.whole(reader, name) for name in reader.specs}


def assert_same(got, want):
  assert sorted(got) == sorted(want)
  for name, x in want.items():
    assert got[name].dtype == x.dtype, name
    assert got[name].tobytes() == x.tobytes(), name


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
@pytest.mark.parametrize("prefix", ["", "params/"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_form_of_npz_is_read(tmp_path, dtype, prefix, compressed):
  flat, cfg = weights(dtype=dtype)
  path = save(tmp_path / "a.npz", flat, prefix, compressed)
  got = read_all(npz.Reader(path), cfg)
  assert_same(got, flat)


def test_equal_key_value_heads_have_one_stacked_tensor(tmp_path):
  with np.load(GOLDEN) as z:
    start = "g1_mha/params/"
    flat = {k.removeprefix(start): z[k] for k in z.files if start in k}
  reader = npz.Reader(save(tmp_path / "a.npz", flat))
  cfg = npz.config_of(reader.specs)
  assert cfg.llm.num_kv_heads == cfg.llm.num_heads == 4
  assert cfg.img.res == 56
  tensors.check(reader.specs, cfg, "golden")
  name = "llm/layers/attn/qkv_einsum/w"
  np.testing.assert_array_equal(reader.read(name, 1), flat[name][1])


def test_optimizer_state_beside_params_is_left_alone(tmp_path):
  flat, cfg = weights()
  all_of_it = {f"params/{k}": x for k, x in flat.items()}
  all_of_it["opt/0/count"] = np.int32(3)
  np.savez(tmp_path / "a.npz", **all_of_it)
  assert_same(read_all(npz.Reader(tmp_path / "a.npz"), cfg), flat)


def test_layers_are_read_in_any_order_and_of_any_memory_order(tmp_path):
  flat, _ = weights()
  flat = {k: np.asfortranarray(x) for k, x in flat.items()}
  flat["llm/layers/mlp/linear"] = np.ascontiguousarray(
    flat["llm/layers/mlp/linear"]
  )
  reader = npz.Reader(save(tmp_path / "a.npz", flat))
  for name in ("llm/layers/mlp/linear", "llm/layers/mlp/gating_einsum"):
    for layer in (0, 0, 1, 0, 1, 1):
      np.testing.assert_array_equal(reader.read(name, layer), flat[name][layer])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_what_is_written_is_what_numpy_and_big_vision_read(tmp_path, dtype):
  flat, cfg = weights(dtype=dtype)
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  with np.load(tmp_path / "a.npz", allow_pickle=False) as z:
    got = {k: z[k] for k in z.files}
  if dtype == BF16:
    assert {x.dtype for x in got.values()} == {np.dtype("V2")}
    got = {k: x.view(BF16) for k, x in got.items()}
  assert_same(got, flat)
  again = npz.Reader(tmp_path / "a.npz")
  npz.write(tmp_path / "b.npz", again.specs, again.read)
  files = [(tmp_path / name).read_bytes() for name in ("a.npz", "b.npz")]
  assert files[0] == files[1]


def test_the_released_variants_are_known_by_their_shapes():
  for name in ("pg1_3b", "pg2_3b", "pg2_10b", "pg2_28b", "nano2"):
    model = {"variant": name, "res": 14 * 12 * 4}
    cfg = variants.from_config(model)
    assert npz.config_of(tree.flatten(paligemma.shapes(cfg))) == cfg


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_a_file_cut_short_is_an_error(tmp_path, keep):
  path = save(tmp_path / "a.npz", weights()[0])
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * keep)])
  with pytest.raises(ValueError, match="a.npz is no .npz, or cut short"):
    npz.Reader(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_changed_byte_is_an_error_that_names_the_tensor(tmp_path, compressed):
  flat, cfg = weights()
  path = save(tmp_path / "a.npz", flat, compressed=compressed)
  name = "llm/layers/mlp/gating_einsum"
  with zipfile.ZipFile(path) as z:
    info = z.getinfo(f"{name}.npy")
  data = bytearray(path.read_bytes())
  data[info.header_offset + info.compress_size] ^= 16
  path.write_bytes(data)
  with pytest.raises(ValueError, match=f"damaged at {name}"):
    read_all(npz.Reader(path), cfg)


class Bomb:
  """Its pickle says so when it is opened."""

  def __reduce__(self):
    return pytest.fail, ("it was unpickled",)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
  bomb = np.array([Bomb()], dtype=object)
  np.savez(tmp_path / "a.npz", bomb=bomb, x=np.zeros(3))
  with pytest.raises(ValueError, match="bomb: a pickle.*\n.*x: dtype float64"):
    npz.Reader(tmp_path / "a.npz")


def test_an_entry_that_is_no_array_is_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
    z.writestr("llm/x.npy", b"\x80\x04K\x01.")
  with pytest.raises(ValueError, match="llm/x: not an array"):
    npz.Reader(tmp_path / "a.npz")


def test_every_tensor_that_differs_is_listed(tmp_path):
  flat, cfg = weights()
  del flat["img/head/bias"], flat["llm/final_norm/scale"]
  flat["img/extra"] = np.zeros((1,), np.float32)
  flat["img/pos_embedding"] = np.zeros((1, 9, 16), np.float32)
  with pytest.raises(ValueError) as error:
    read_all(npz.Reader(save(tmp_path / "a.npz", flat)), cfg)
  for line in (
    "- missing img/head/bias (16,)",
    "- missing llm/final_norm/scale (16,)",
    "+ unexpected img/extra (1,)",
    "! img/pos_embedding: wanted (1, 4, 16), found (1, 9, 16)",
  ):
    assert line in str(error.value)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
  flat, _ = weights()
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
  try:
    with pytest.raises(OSError, match="could not write .*a.npz"):
      npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert list(tmp_path.iterdir()) == []


def test_a_value_that_float16_cannot_hold_is_an_error(tmp_path):
  flat, _ = weights()
  flat["img/head/bias"][3] = 1e6
  specs = tensors.cast(specs_of(flat), np.dtype(np.float16))
  with pytest.raises(ValueError, match="1e.06 does not fit float16"):
    npz.write(tmp_path / "a.npz", specs, from_memory(flat))
  assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_found_before_anything_is_written(
  tmp_path, monkeypatch
):
  flat, _ = weights()
  usage = type("Usage", (), {"free": 100})
  monkeypatch.setattr(tensors.shutil, "disk_usage", lambda _: usage)
  with pytest.raises(OSError, match="GB free"):
    npz.write(tmp_path / "a.npz", specs_of(flat), pytest.fail)


def test_an_existing_file_is_never_replaced(tmp_path):
  flat, _ = weights()
  (tmp_path / "a.npz").write_text("mine")
  with pytest.raises(ValueError, match="exists"):
    npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  assert (tmp_path / "a.npz").read_text() == "mine"


# Claims.


def entry(path, shape, data, version=(1, 0)):
  """Writes an `.npz` of one tensor that claims to have a shape."""
  with (
    zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    archive.open("img/embedding/bias.npy", "w", force_zip64=True) as f,
  ):
    head = dict(descr="<f4", fortran_order=False, shape=shape)
    write = np.lib.format.write_array_header_1_0
    if version == (2, 0):
      write = np.lib.format.write_array_header_2_0
    write(f, head)
    for piece in data:
      f.write(piece)
  return path


def test_a_tensor_that_claims_more_than_its_file_is_refused(tmp_path):
  path = entry(tmp_path / "a.npz", (1 << 40, 4), [bytes(64)])
  with pytest.raises(ValueError, match="where .* wants 17,592,186,044,5"):
    npz.Reader(path)


def test_a_header_of_gigabytes_is_not_read(tmp_path):
  path = entry(tmp_path / "a.npz", (16,), [bytes(64)], version=(2, 0))
  with pytest.raises(ValueError, match=r"version \(2, 0\) of the format"):
    npz.Reader(path)


def test_a_file_that_swells_when_it_is_unpacked_is_refused(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(npz, "_LARGE", 1_000_000)
  size = 110_000
  path = entry(tmp_path / "a.npz", (size // 4 * 10,), [bytes(size)] * 10)
  assert path.stat().st_size < 11_000
  with pytest.raises(ValueError, match="bytes are 1,100,.* as no weights"):
    npz.Reader(path)
