"""Small images, of any format that the name of the file says."""

import numpy as np
from PIL import Image


def write(path, size, seed=0):
  """Writes an image of width and height `size` in random colours."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
  Image.fromarray(pixels).save(path)
