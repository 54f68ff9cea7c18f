"""Products with int8 weights on a CPU by the compiled kernel."""

import concurrent.futures
import ctypes
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg.models import int8

BLOCK = 128
# rows, inputs, outputs: of few and many rows, whole blocks and not.
SIZES = (
  (1, 2048, 96),
  (1, 100, 50),
  (3, 4304, 30),
  (4, 64, 7),
  (5, 130, 99),
  (33, 4304, 115),
  (64, 131, 49),
)


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
  monkeypatch.setenv("PG_INT8_KERNEL", "1")
  if "avx2" not in int8._features() or not shutil.which("g++"):
    pytest.skip("no kernel: it needs AVX2 and a C++ compiler")
  assert int8.load()


def draw(rows, inputs, outputs):
  rng = np.random.default_rng(rows)
  x = rng.standard_normal((rows, inputs), np.float32)
  x[:, 3] *= 30  # outliers, as activations have
  w = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
  return x, w, rng.random(outputs, np.float32)


def rounded(x):
  """Returns activations as the kernel has them, and steps [rows, blocks]."""
  rows, inputs = x.shape
  blocks = -(-inputs // BLOCK)
  x = np.pad(x, ((0, 0), (0, blocks * BLOCK - inputs)))
  x = x.reshape(rows, blocks, BLOCK)
  step = np.abs(x).max(-1, keepdims=True) / np.float32(127)
  whole = np.rint(x * (1 / np.where(step, step, 1)))
  return (whole * step).reshape(rows, -1)[:, :inputs], step[..., 0]


def product(x, w, scale, in_first=False):
  equation = "...D,DF->...F" if in_first else "...D,FD->...F"
  w = jnp.asarray(w.T if in_first else w)
  return jax.jit(int8.find(equation, w))(jnp.asarray(x), w, jnp.asarray(scale))


@pytest.mark.parametrize("in_first", (False, True))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_product_is_that_of_activations_rounded_in_blocks(sizes, in_first):
  x, w, scale = draw(*sizes)
  y = np.asarray(product(x, w, scale, in_first), np.float64)
  near, step = rounded(x)
  wide = w.astype(np.float64).T
  want = near @ wide * scale
  np.testing.assert_allclose(y, want, atol=1e-6 * np.abs(want).max())
  # The stated error: half a step of each number, here of all at once.
  most = np.repeat(step / 2, BLOCK, 1)[:, : x.shape[1]] @ np.abs(wide) * scale
  exact = x @ wide * scale
  assert (np.abs(y - exact) <= most * (1 + 1e-5)).all()
  assert np.linalg.norm(y - exact) < 0.04 * np.linalg.norm(exact)


@pytest.mark.slow
def test_the_avx2_form_is_the_same(tmp_path):
  path = tmp_path / "int8.so"
  headers = f"-I{jax.ffi.include_dir()}"
  command = ["g++", *int8.FLAGS, "-march=haswell", headers, int8.SOURCE]
  subprocess.run([*command, "-o", path], check=True)
  function = ctypes.CDLL(str(path)).pg_int8_product
  name = "pg_int8_product_avx2"
  jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), "cpu")
  for sizes in SIZES:
    x, w, scale = draw(*sizes)
    shape = jax.ShapeDtypeStruct((sizes[0], sizes[2]), jnp.float32)
    call = jax.ffi.ffi_call(name, shape)
    for in_first in (False, True):
      have = call(x, w.T.copy() if in_first else w, scale, in_first=in_first)
      want = product(x, w, scale, in_first)
      np.testing.assert_allclose(have, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
  ("equation", "shape"),
  (("...D,DNH->...NH", (64, 3, 5)), ("...NH,NHD->...D", (4, 16, 9))),
)
def test_heads_are_one_dimension(equation, shape):
  rng = np.random.default_rng(0)
  w = jnp.asarray(rng.integers(-127, 128, shape), jnp.int8)
  flat = w.reshape(64, -1)
  x, scale = rng.standard_normal((6, 64), np.float32), jnp.ones(flat.shape[1])
  have = int8.find(equation, w)(x, w, scale)
  np.testing.assert_array_equal(have, product(x, flat.T, scale))


def test_what_is_no_number_stays_none():
  x, w, scale = draw(6, 300, 50)
  x[1, 7], x[2, 299], x[4] = np.nan, np.inf, 0
  for rows in (x, x[1:5]):  # many and few
    y = np.asarray(product(rows, w, scale))
    finite = np.isfinite(rows).all(1)
    assert (np.isfinite(y).all(1) == finite).all()
    assert not np.isfinite(y[~finite]).any()
    assert (y[(rows == 0).all(1)] == 0).all()


def test_gradients_are_those_of_activations_as_they_are():
  x, w, scale = (jnp.asarray(x) for x in draw(6, 300, 50))
  plain = lambda x: jnp.sin(
    x @ w.T.astype(jnp.float32) * scale[None] * 1e-3
  ).sum()
  call = int8.find("...D,FD->...F", w)
  ours = lambda x: jnp.sin(call(x, w, scale) * 1e-3).sum()
  have, want = (jax.jit(jax.value_and_grad(f))(x) for f in (ours, plain))
  np.testing.assert_allclose(have[0], want[0], rtol=1e-5)
  np.testing.assert_allclose(have[1], want[1], rtol=1e-4, atol=1e-5)


def test_many_products_at_once_end_and_are_right():
  """A product waits for its own parts only, however busy the threads are."""
  x, w, scale = (jnp.asarray(x) for x in draw(6, 300, 200))
  call = int8.find("...D,FD->...F", w)
  many = jax.jit(lambda x: [call(x + i, w, scale) for i in range(32)])
  want = many(x)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for have in pool.map(lambda _: many(x), range(64)):
      for a, b in zip(have, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_it_is_not_for():
  w = jnp.ones((4, 8, 8), jnp.int8)
  assert int8.find("...D,NDH->...NH", w) is None  # inputs in the middle
  assert int8.find("...D,DNH->...NH", w.astype(jnp.int4)) is None
  mesh = jax.sharding.AbstractMesh((2,), ("fsdp",))
  with jax.sharding.use_abstract_mesh(mesh):
    assert int8.find("...D,DNH->...NH", w) is None


def test_it_can_be_turned_off(monkeypatch):
  monkeypatch.setenv("PG_INT8_KERNEL", "0")
  assert int8.find("...D,FD->...F", jnp.ones((4, 8), jnp.int8)) is None


@pytest.fixture
def fresh(monkeypatch, tmp_path):
  """Nothing built: an empty cache."""
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  int8.load.cache_clear()
  yield tmp_path
  monkeypatch.undo()
  int8.load.cache_clear()
  int8.load()


def test_without_a_compiler_products_are_of_xla(fresh, monkeypatch):
  monkeypatch.setenv("CXX", str(fresh / "none"))
  assert not int8.load()
  assert int8.find("...D,FD->...F", jnp.ones((4, 8), jnp.int8)) is None


@pytest.mark.parametrize("text", ("exit 1", "echo text > ${@: -1}"))
def test_a_compiler_that_fails_is_none(fresh, monkeypatch, text):
  script = fresh / "cxx"
  script.write_text(f"#!/bin/bash\n{text}\n")
  script.chmod(0o755)
  monkeypatch.setenv("CXX", str(script))
  assert not int8.load()


def test_a_folder_that_cannot_be_written_is_no_kernel(fresh, monkeypatch):
  (fresh / "file").touch()
  monkeypatch.setenv("PG_CACHE", str(fresh / "file"))
  assert not int8.load()


def test_a_cache_in_a_bucket_is_no_folder(fresh, monkeypatch):
  monkeypatch.chdir(fresh)
  monkeypatch.setenv("PG_CACHE", "gs://bucket/cache")
  assert not int8.load()
  assert not (fresh / "gs:").exists()
