"""Position embeddings for another resolution."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import scipy.ndimage

from pg.weights import resize
from tests.support import paths

GOLDEN = paths.GOLDEN / "posemb.npz"


@pytest.mark.parametrize("sizes", ["4to8", "16to32", "16to24", "8to4"])
def test_resized_embeddings_equal_the_reference(sizes):
  with np.load(GOLDEN, allow_pickle=False) as z:
    old, wanted = z[f"{sizes}/old"], z[f"{sizes}/new"]
  new = resize.position_embedding(old, wanted.shape[1])
  np.testing.assert_allclose(new, wanted, rtol=0, atol=1e-6)


def test_a_fourfold_enlargement_equals_the_reference():
  with np.load(GOLDEN, allow_pickle=False) as z:
    old, wanted = z["16to64/old"], z["16to64/new_every5"]
  grid = resize.position_embedding(old, 4096).reshape(64, 64, -1)
  np.testing.assert_allclose(grid[::5, ::5], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("old, new", [(16, 17), (16, 1), (3, 2), (32, 37)])
def test_any_square_size_equals_scipy(old, new):
  grid = np.random.default_rng(0).standard_normal((old, old, 5))
  grid = grid.astype(np.float32)
  wanted = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1)
  got = resize.position_embedding(grid.reshape(1, -1, 5), new**2)
  np.testing.assert_allclose(got.reshape(wanted.shape), wanted, atol=1e-6)


def test_the_example_of_the_docstring_holds():
  table = np.array([0, 2, 4, 6], np.float32).reshape(1, 4, 1)
  got = resize.position_embedding(table, 9)
  assert got.flatten().tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6]


def test_the_same_size_is_bit_exact_whatever_the_bits():
  bits = np.arange(2**16, dtype=np.uint16).reshape(1, 256, 256)  # has NaNs
  table = bits.view(ml_dtypes.bfloat16)
  got = resize.position_embedding(table, 256)
  assert got.tobytes() == bits.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_the_dtype_stays_and_the_arithmetic_is_float32(dtype):
  table = np.random.default_rng(0).standard_normal((1, 16, 3)).astype(dtype)
  got = resize.position_embedding(table, 64)
  exact = resize.position_embedding(table.astype(np.float32), 64)
  assert got.dtype == dtype
  np.testing.assert_array_equal(got, exact.astype(dtype))


@pytest.mark.parametrize(
  "shape, num_tokens, message",
  [
    ((1, 256, 8), 300, "300 image tokens are not a square grid"),
    ((1, 200, 8), 256, "200 image tokens are not a square grid"),
    ((1, 256, 8), 0, "0 image tokens are not a square grid"),
    ((1, 256, 8), -4, "-4 image tokens are not a square grid"),
    ((256, 8), 256, r"shape \(256, 8\); wanted \(1, tokens, width\)"),
    ((2, 256, 8), 256, r"shape \(2, 256, 8\); wanted \(1, tokens, width\)"),
  ],
)
def test_what_is_not_a_square_grid_is_an_error(shape, num_tokens, message):
  with pytest.raises(ValueError, match=message):
    resize.position_embedding(np.zeros(shape, np.float32), num_tokens)


def test_resizing_does_not_load_jax():
  code = "import sys, pg.weights.resize; assert 'jax' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)
