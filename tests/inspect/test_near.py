"""A copy of an image in another size or file is found, another image is not."""

import io

import numpy as np
import pytest
from PIL import Image

from pg.inspect import near


def photo(seed, size=(120, 90)):
  """Returns an Image with soft shapes."""
  pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
  return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def encoded(image, format="JPEG", **how):
  file = io.BytesIO()
  image.save(file, format, **how)
  return np.asarray(Image.open(file).convert("RGB"))


def index(num=50):
  made = near.Index()
  for seed in range(num):
    made.add(near.thumb(np.asarray(photo(seed))), f"image {seed}")
  return made


@pytest.mark.parametrize(
  "copy",
  (
    lambda image: np.asarray(image),
    lambda image: encoded(image, quality=60),
    lambda image: encoded(image, "WEBP", quality=60),
    lambda image: np.asarray(image.resize((64, 64))),
    lambda image: encoded(image.resize((300, 200)), quality=75),
    lambda image: encoded(image.resize((60, 45)), quality=85),
  ),
)
def test_a_copy_is_found_in_another_size_and_file(copy):
  made = index()
  found = [made.find(near.thumb(copy(photo(seed)))) for seed in range(50)]
  assert found == [f"image {seed}" for seed in range(50)]


def test_other_images_are_not_the_same():
  made = index()
  others = (near.thumb(np.asarray(photo(seed))) for seed in range(50, 250))
  assert not any(map(made.find, others))
  mirrored = np.asarray(photo(3))[:, ::-1]
  assert made.find(near.thumb(np.ascontiguousarray(mirrored))) is None


def test_images_that_agree_in_a_part_are_not_the_same():
  made, image = index(1), np.asarray(photo(0)).copy()
  image[:45] = np.asarray(photo(1))[:45]
  assert made.find(near.thumb(image)) is None


def test_an_image_of_one_colour_is_like_no_other():
  made, grey = near.Index(), near.thumb(np.full((30, 40, 3), 90, np.uint8))
  made.add(grey, "grey")
  assert made.find(grey) is None
