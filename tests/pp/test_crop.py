"""Crops and flips are random, repeatable, and keep boxes where they belong."""

import collections
import functools
import io
import pickle
import random

import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.pp import crop, parse
from tests.support import paths

GOLDEN = np.load(paths.GOLDEN / "image.npz")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(256, size=(40, 60, 3), dtype=np.uint8)
NOISE.flags.writeable = False  # ops do not write into what they get

# The image parts of the published recipes, and that of pre-training.
PUBLISHED = (
  "decode | resize(24, antialias=False)",
  "decode | resize_small(27) | random_crop(24)",
  "decode | inception_crop(50) | resize(24, antialias=False)",
  "decode | resize(24) | draw_box('bbox')",
  "frames(3, 2, random=True) | decode | resize(24, antialias=False)",
  "decode | inception_crop(95) | random_resize(24) | random_jpeg(0.5)",
)
RANDOM = (
  "random_crop(24)",
  "inception_crop()",
  "random_flip()",
  "random_resize(24)",
  "random_jpeg(0.5)",
  "frames(3, 2, random=True, key='video')",
)
VIDEO = [np.full((4, 4, 3), i, np.uint8) for i in range(100)]


build = functools.lru_cache(parse.build)


def run(string, pixels=NOISE, row=0, **example):
  turn = pp.Turn(seed=(1, 2), row=row)
  return build(string)({"image": pixels, **example}, turn)


def png(array):
  f = io.BytesIO()
  Image.fromarray(array).save(f, "PNG")
  return f.getvalue()


@pytest.mark.parametrize("string", PUBLISHED)
def test_a_published_recipe_gives_the_size_of_the_model(string):
  pixels = [png(NOISE)] * 9 if "frames" in string else png(NOISE)
  out = run(string, pixels, bbox=[0.1, 0.2, 0.3, 0.4])["image"]
  for x in out if isinstance(out, list) else [out]:
    assert (x.shape, x.dtype) == ((24, 24, 3), np.uint8)
    assert x.flags.c_contiguous


@pytest.mark.parametrize("string", RANDOM)
def test_the_same_turn_gives_the_same_bytes_and_another_others(string):
  def all_rows(pipeline):
    rows = [
      pipeline({"image": NOISE, "video": VIDEO}, pp.Turn(row=row))["image"]
      for row in range(20)
    ]
    return [np.asarray(x).tobytes() for x in rows]

  first = all_rows(parse.build(string))
  np.random.seed(3)
  random.seed(3)
  again = all_rows(pickle.loads(pickle.dumps(parse.build(string))))
  assert again == first
  assert len(set(first)) > 1


@pytest.mark.parametrize(
  "string",
  ["random_crop(24)", "central_crop(24)", "inception_crop()"]
  + ["random_flip()", "random_resize(24)", "random_jpeg(0.5)"],
)
def test_images_of_an_example_are_treated_alike(string):
  for row in range(20):
    one = run(string, row=row)["image"]
    for other in run(string, [NOISE] * 3, row=row)["image"]:
      np.testing.assert_array_equal(other, one)


# Where things are.


def painted(height, width, box):
  """A black image and a white rectangle, y1 x1 y2 x2 in pixels."""
  y1, x1, y2, x2 = box
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[y1:y2, x1:x2] = 255
  return pixels, np.array([box]) / [height, width, height, width]


def found(pixels):
  """The rectangle of what is white, in parts of the image."""
  rows, columns = np.nonzero(pixels[..., 0])
  y1, x1, y2, x2 = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
  return np.array([y1, x1, y2, x2]) / np.tile(pixels.shape[:2], 2)


@pytest.mark.parametrize(
  "op",
  ["random_crop(30, boxes=True, visible=0)"]
  + ["central_crop(30, boxes=True, visible=0)"]
  + ["inception_crop(10, boxes=True, visible=0)"]
  + ["random_flip(boxes=True)"],
)
def test_boxes_stay_around_what_they_were_around(op):
  random, kept = np.random.default_rng(0), 0
  for row in range(100):
    y, x = np.sort(random.integers((41, 61), size=(2, 2)), axis=0).T
    if y[0] == y[1] or x[0] == x[1]:
      continue
    pixels, boxes = painted(40, 60, (y[0], x[0], y[1], x[1]))
    out = run(op, pixels, row, boxes=boxes, labels=["a"])
    assert len(out["labels"]) == len(out["boxes"])
    if not out["image"].any():
      assert len(out["boxes"]) == 0
    else:
      np.testing.assert_allclose(out["boxes"], [found(out["image"])])
      kept += 1
  assert kept > 50


def test_a_crop_keeps_objects_that_are_visible_enough_with_their_labels():
  boxes = [[0, 0, 1, 0.5], [0.25, 0.25, 0.75, 0.75], [0, 0, 0.2, 0.2]]
  boxes += [[0.1, 0.3, 0.9, 0.3]]
  out = run(
    "central_crop(20, boxes=True, visible=0.25)",
    NOISE[:40, :40],
    boxes=boxes,
    labels=["half", "all", "none", "line"],
    iscrowd=np.array([0, 1, 1, 0]),
    note="stays",
  )
  assert out["labels"] == ["half", "all", "line"]
  wanted = [[0, 0, 1, 0.5], [0, 0, 1, 1], [0, 0.1, 1, 0.1]]
  np.testing.assert_allclose(out["boxes"], wanted, atol=1e-12)
  assert out["iscrowd"].tolist() == [0, 1, 0]
  assert out["note"] == "stays"
  few = "central_crop(20, boxes=True, visible=0.26)"
  out = run(few, NOISE[:40, :40], boxes=boxes[:2], labels=["half", "all"])
  assert out["labels"] == ["all"]


def test_a_box_is_visible_by_the_part_of_its_area_that_is_inside():
  boxes = np.array([[0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0, 0.5, 0.5]])
  window = (0.5, 0.5, 1, 1)
  inside, kept = crop.move(boxes, window, visible=0.25)
  assert kept.tolist() == [True, True, False]
  np.testing.assert_array_equal(inside[:2], [[0, 0, 1, 1]] * 2)
  assert crop.move(boxes, window, visible=0.26)[1].tolist() == [
    False,
    True,
    False,
  ]


def test_a_flip_swaps_left_and_right_of_image_and_boxes():
  out = run("random_flip(1, boxes=True)", boxes=[[0.1, 0.2, 0.3, 0.6]])
  np.testing.assert_array_equal(out["image"], NOISE[:, ::-1])
  np.testing.assert_allclose(out["boxes"], [[0.1, 0.4, 0.3, 0.8]])
  out = run("random_flip(0, boxes=True)", boxes=[[0.1, 0.2, 0.3, 0.6]])
  assert out["image"] is NOISE and out["boxes"] == [[0.1, 0.2, 0.3, 0.6]]
  assert len(run("random_flip(1, boxes=True)", boxes=[])["boxes"]) == 0


OPS = ["random_crop(9{})", "central_crop(9{})", "inception_crop(50{})"]
OPS += ["random_flip(1{})", "random_flip(0{})"]


@pytest.mark.parametrize("op", OPS)
def test_boxes_are_never_left_behind_unasked(op):
  boxes = [[0, 0, 1, 1]]
  with pytest.raises(ValueError, match="say boxes=True to move them too"):
    run(op.format(""), boxes=boxes)
  out = run(op.format(", boxes=False"), boxes=boxes)
  assert out["boxes"] is boxes
  for key in ("codes", "masks", "segmentation"):
    with pytest.raises(ValueError, match=rf"cannot; put drop\('{key}'\)"):
      run(op.format(", boxes=True"), boxes=boxes, **{key: [1]})
  with pytest.raises(ValueError, match="one image, but the example has 2"):
    run(op.format(", boxes=True"), [NOISE] * 2, boxes=boxes)


@pytest.mark.parametrize("op", OPS + ["random_jpeg(1)", "random_jpeg(0)"])
def test_an_image_that_is_not_decoded_is_refused(op):
  with pytest.raises(ValueError, match='put "decode |" before'):
    run(op.format(""), png(NOISE))


@pytest.mark.parametrize(
  ("string", "message"),
  [
    ("random_crop(41)", "the 40 x 60 pixels of the image, got 41; resize"),
    ("random_crop(0)", "size should be at least 1"),
    ("central_crop(41)", "got 41; resize it first"),
    ("central_crop(9, visible=25)", "visible should be a part, 0 to 1"),
    ("inception_crop(0)", "got area_min=0, area_max=100"),
    ("inception_crop(50, 40)", "got area_min=50, area_max=40"),
    ("inception_crop(50, 101)", "got area_min=50, area_max=101"),
    ("random_flip(2)", "p should be a probability, 0 to 1, got 2"),
    ("random_jpeg(-0.5)", "p should be a probability, 0 to 1, got -0.5"),
  ],
)
def test_arguments_that_make_no_sense_are_refused(string, message):
  with pytest.raises(ValueError, match=message):
    run(string)


# How random.


def places():
  """An image that says where each of its pixels was."""
  y, x = np.mgrid[:40, :60].astype(np.uint8)
  return np.dstack([y, x, x])


def test_a_random_crop_is_anywhere_equally_often():
  corners = collections.Counter()
  for row in range(2000):
    out = run("random_crop(38)", places(), row)["image"]
    y, x, _ = out[0, 0]
    np.testing.assert_array_equal(out, places()[y : y + 38, x : x + 38])
    corners[int(y), int(x)] += 1
  assert set(corners) == {(y, x) for y in range(3) for x in range(23)}
  assert min(corners.values()) > 8  # of 29 on average


def test_a_central_crop_is_in_the_middle():
  out = run("central_crop(10)", places())["image"]
  assert out[0, 0].tolist() == [15, 25, 25]
  assert out[-1, -1].tolist() == [24, 34, 34]


def test_an_inception_crop_has_the_wanted_areas_and_shapes():
  shapes, corners = [], []
  for row in range(1000):
    out = run("inception_crop(20, 80)", places(), row)["image"]
    shapes.append(out.shape[:2])
    corners.append(out[0, 0, :2].astype(int))
    y, x = corners[-1]
    height, width = shapes[-1]
    np.testing.assert_array_equal(out, places()[y : y + height, x : x + width])
  heights, widths = np.array(shapes).T
  areas = heights * widths / 2400
  assert areas.min() >= 0.2 and areas.max() <= 0.8
  assert areas.min() < 0.22 and areas.max() > 0.78
  # A side is rounded to a whole pixel.
  assert ((widths - 1) / heights <= 4 / 3).all()
  assert ((widths + 1) / heights >= 3 / 4).all()
  assert (widths < heights).mean() > 0.2 and (widths > heights).mean() > 0.4
  ends = np.array(corners) + np.array(shapes)
  assert np.min(corners) == 0 and ends.max(axis=0).tolist() == [40, 60]


def test_an_image_without_such_a_part_stays_whole():
  narrow = NOISE[:, :4]
  np.testing.assert_array_equal(
    run("inception_crop(90)", narrow)["image"], narrow
  )
