"""Resizes position embeddings for another resolution."""

import math

import numpy as np


def position_embedding(table, num_tokens):
  """Resizes position embeddings to another square grid of image tokens.

  Linear interpolation with the corners kept in place and no smoothing, equal
  to `scipy.ndimage.zoom(grid, zoom, order=1)`, which released checkpoints went
  from 224 to 448 and 896 px with. A table that has the size already comes back
  bit for bit. From 2x2 to 3x3 the new row and column are means:

      0 2      0 1 2
      4 6  ->  2 3 4
               4 5 6

  Args:
    table: float[1, I, D], I a square number; the rows of the grid in turn.
    num_tokens: int, the wanted I: 256, 1024 and 4096 at 224, 448 and 896 px.

  Returns:
    float[1, num_tokens, D] numpy array of the table's dtype; the arithmetic is
    float32.

  Raises:
    ValueError: not a table of position embeddings, or a grid is not square.
  """
  table = np.asarray(table)
  if table.ndim != 3 or table.shape[0] != 1:
    raise ValueError(
      f"position embeddings have shape {table.shape}; wanted (1, tokens, width)"
    )
  old, new = _side(table.shape[1]), _side(num_tokens)
  if old == new:
    return table
  grid = table.reshape(old, old, -1).astype(np.float32)
  weights = _weights(old, new)
  grid = np.einsum("yi,ijd->yjd", weights, grid, optimize=True)
  grid = np.einsum("xj,yjd->yxd", weights, grid, optimize=True)
  return grid.reshape(1, num_tokens, -1).astype(table.dtype)


def _side(num_tokens):
  side = math.isqrt(max(num_tokens, 0))
  if side < 1 or side**2 != num_tokens:
    raise ValueError(
      f"{num_tokens} image tokens are not a square grid; wanted 256 (16x16),"
      " 1024 (32x32), 4096 (64x64) or another square number"
    )
  return side


def _weights(old, new):
  """Returns f32[new, old]: how much each new row takes of each old one."""
  places = np.linspace(0, old - 1, new)
  distances = np.abs(places[:, None] - np.arange(old))
  return np.maximum(0, 1 - distances).astype(np.float32)
