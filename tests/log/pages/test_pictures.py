"""Predictions drawn as pictures."""

import base64
import io

import numpy as np
from PIL import Image

from pg.log.pages import drawing, pictures

BOX = "<loc0100><loc0100><loc0900><loc0500>"


def record(prediction, truth, index=0, side=48):
  out = io.BytesIO()
  Image.new("RGB", (side, side), (128, 128, 128)).save(out, "PNG")
  image = base64.b64encode(out.getvalue()).decode()
  return dict(
    index=index,
    prompt="detect cat",
    prediction=prediction,
    truth=truth,
    image=image,
  )


def has(picture, color):
  return bool((picture == np.array(color, np.uint8)).all(axis=-1).any())


def test_objects_are_drawn_left_as_predicted_and_right_as_they_are():
  (picture,) = pictures.first([record(f"{BOX} cat", "")]).values()
  height, width, _ = picture.shape
  color = drawing.COLORS[0]
  assert width == 2 * 384 and height > 384
  assert has(picture[:384, :384], color)
  assert not has(picture[:384, 384:], color)
  assert has(picture[384:], (0, 0, 0))  # the texts


def test_masks_are_drawn():
  codes = "".join(f"<seg{i:03}>" for i in range(16))
  plain, masked = (
    pictures.first([record(f"{BOX}{more} cat", "")])["0"]
    for more in ("", codes)
  )
  assert (plain[:384] != masked[:384]).any()


def test_a_text_is_below_one_image():
  (picture,) = pictures.first([record("a cat", "a dog")]).values()
  assert picture.shape[1] == 384


def test_a_long_text_ends_at_the_edge():
  (picture,) = pictures.first([record("<seg000>" * 40, "a")]).values()
  assert (picture[384:, -2:] == 255).all()


def test_the_first_rows_that_have_an_image_are_shown():
  rows = [record("a", "b", index=i) for i in range(7)]
  for gone in (0, 2):
    del rows[gone]["image"]
  assert list(pictures.first(rows)) == ["1", "3", "4", "5"]
  assert pictures.first([]) == {}
