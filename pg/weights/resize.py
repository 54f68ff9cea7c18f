"""Resizes position embeddings for another resolution."""

import math

import numpy as np
import scipy.ndimage

POSITIONS = "img/pos_embedding"  # the only parameter that it changes


def position_embedding(table, num_tokens):
  """Resizes position embeddings to another square grid of image tokens.

  Linear interpolation with the corners kept in place and no smoothing, as the
  released checkpoints went from 224 to 448 and 896 px. A table that has the
  size already comes back bit for bit. From 2x2 to 3x3 the new row and column
  are means:

      0 2      0 1 2
      4 6  ->  2 3 4
               4 5 6

  Args:
    table: float[1, I, D], I a square number; the rows of the grid in turn.
    num_tokens: int, the wanted I: 256, 1024 and 4096 at 224, 448 and 896 px.

  Returns:
    float[1, num_tokens, D] numpy array of the table's dtype.

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
  zoom = new / old, new / old, 1
  grid = scipy.ndimage.zoom(grid, zoom, order=1, mode="nearest")
  return grid.reshape(1, num_tokens, -1).astype(table.dtype)


def _side(num_tokens):
  side = math.isqrt(max(num_tokens, 0))
  if side < 1 or side**2 != num_tokens:
    raise ValueError(
      f"{num_tokens} image tokens are not a square grid; wanted 256 (16x16),"
      " 1024 (32x32), 4096 (64x64) or another square number"
    )
  return side
