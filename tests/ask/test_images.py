"""Images of a question."""

import numpy as np
import pytest
from PIL import Image

from pg.ask import images


def test_pixels_of_a_pil_image_are_those_of_its_file():
  deep = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
  shown = images.read(Image.fromarray(deep))
  np.testing.assert_array_equal(shown[..., 0], deep >> 8)
  with pytest.raises(ValueError, match="32 bits"):
    images.read(Image.fromarray(deep.astype(np.float32)))
