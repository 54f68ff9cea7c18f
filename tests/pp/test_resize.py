"""Resizing gives the numbers of big_vision, TensorFlow and transformers."""

import hashlib
import json

import numpy as np
import pytest

from pg import pp
from pg.pp import image, parse, resize
from tests.support import coco_free, paths

GOLDEN = np.load(paths.GOLDEN / "image.npz")
SHA256 = json.loads(str(GOLDEN["sha256_json"]))
MORE = json.loads((paths.GOLDEN / "resize.json").read_text())
PHOTO = "000000000790.jpg"

NOISE = np.random.default_rng(0).integers(256, size=(20, 30, 3), dtype=np.uint8)


def apply(string, pixels):
  return parse.build(string)({"image": pixels}, pp.Turn())["image"]


def read(name):
  """Returns the bytes of a golden image."""
  if f"png/{name}" in GOLDEN:
    return GOLDEN[f"png/{name}"].tobytes()
  return (coco_free.GOLDEN / name).read_bytes()


def digest(pixels):
  return hashlib.sha256(pixels.tobytes()).hexdigest()


@pytest.mark.parametrize("key", [key for key in SHA256 if "|hf|" not in key])
def test_the_string_of_a_big_vision_config_gives_its_bytes(key):
  name, string = key.split("|", 1)
  out = apply(string, read(name))
  assert digest(out) == SHA256[key]


@pytest.mark.parametrize("key", [key for key in SHA256 if "|hf|" in key])
def test_the_hf_flavour_gives_the_bytes_of_transformers(key):
  name, _, size = key.split("|")
  string = f"decode(precise=True) | resize({size}, flavour='hf')"
  out = apply(string, read(name))
  assert digest(out) == SHA256[key]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("method", resize.METHODS)
def test_each_way_to_resize_gives_tensorflows_numbers(method, antialias):
  if method == "bilinear":
    key = f"rgba.png/decode|resize(56,antialias={antialias})"
  else:
    key = f"rgba/{method}/aa{int(antialias)}/56"
  pixels = image.to_rgb(read("rgba.png"))
  out = resize.stretch(pixels, (56, 56), method, antialias=antialias)
  assert out.dtype == np.uint8 and out.flags.c_contiguous
  off = np.abs(out.astype(int) - GOLDEN[key])
  assert off.max() <= 1
  assert (off > 0).mean() < 0.001


@pytest.mark.parametrize("key", [key for key in MORE if "/aa" in key])
def test_each_way_to_resize_gives_tensorflows_bytes(key):
  name, method, antialias, size = key.split("/")
  pixels = image.to_rgb(read(PHOTO if name == "photo" else "rgba.png"))
  size, antialias = int(size), antialias == "aa1"
  out = resize.stretch(pixels, (size, size), method, antialias=antialias)
  every = 4 if size == 224 else 1
  assert digest(out[every // 4 :: every, every // 4 :: every]) == MORE[key]


@pytest.mark.parametrize("key", [key for key in MORE if "resize_small" in key])
def test_resize_small_and_central_crop_equal_big_vision(key):
  name, string = key.split("/")
  assert digest(apply(string, read(name))) == MORE[key]


@pytest.mark.parametrize(
  ("antialias", "wanted"),
  [(False, [0, 100]), (True, [14, 85])],  # 100 / 7 and 600 / 7
)
def test_antialias_averages_over_what_an_output_covers(antialias, wanted):
  row = np.uint8([0, 0, 100, 100]).reshape(1, 4, 1).repeat(3, axis=-1)
  out = resize.stretch(row, (1, 2), antialias=antialias)
  np.testing.assert_array_equal(out[0, :, 0], wanted)


def test_antialias_is_the_default():
  row = np.uint8([0, 0, 100, 100]).reshape(1, 4, 1).repeat(3, axis=-1)
  out = apply("resize(2)", row)
  np.testing.assert_array_equal(out[..., 0], [[14, 85]] * 2)


def test_resize_goes_evenly_between_pixels_and_drops_fractions():
  row = np.uint8([0, 99]).reshape(1, 2, 1).repeat(3, axis=-1)
  out = apply("resize(4, antialias=False)", row)
  np.testing.assert_array_equal(out[..., 1], [[0, 24, 74, 99]] * 4)


@pytest.mark.parametrize("method", resize.METHODS)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_plain_image_stays_plain_at_any_size(method, antialias):
  plain = np.full((17, 23, 3), (0, 200, 255), np.uint8)
  for shape in ((5, 9), (17, 23), (40, 31), (1, 1)):
    out = resize.stretch(plain, shape, method, antialias=antialias)
    assert out.shape == (*shape, 3)
    assert np.abs(out.astype(int) - plain[0, 0]).max() <= 1


def test_resize_wants_a_decoded_image_and_a_size():
  for op in ("resize", "resize_small", "random_resize"):
    with pytest.raises(ValueError, match='put "decode |" before'):
      apply(f"{op}(8)", read("tiny.png"))
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
      apply(f"{op}(0)", NOISE)
  with pytest.raises(ValueError, match="always has antialias"):
    apply("resize(8, flavour='hf', antialias=False)", NOISE)
  with pytest.raises(ValueError, match='unknown key of the example "image"'):
    parse.build("resize(8)")({"img": NOISE}, pp.Turn())


def test_decode_and_resize_take_several_images():
  images = [read("tiny.png"), NOISE[:7, :9]]
  out = apply("decode", images)
  np.testing.assert_array_equal(out[0], image.to_rgb(images[0]))
  np.testing.assert_array_equal(out[1], NOISE[:7, :9])
  for op in ("resize(16)", "resize(16, flavour='hf')", "random_resize(16)"):
    assert [x.shape for x in apply(f"decode | {op}", images)] == [
      (16, 16, 3)
    ] * 2
