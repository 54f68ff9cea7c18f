"""Boxes on images, pixel by pixel."""

import numpy as np
import pytest

from pg.log.pages import drawing

GREY = np.full((40, 60, 3), 128, np.uint8)


def test_a_small_image_is_enlarged_by_a_whole_factor():
  image = np.arange(48 * 32 * 3, dtype=np.uint8).reshape(48, 32, 3)
  large, factor = drawing.enlarge(image, side=100)
  assert (factor, large.shape) == (3, (144, 96, 3))
  np.testing.assert_array_equal(large[1::3, 2::3], image)
  assert drawing.enlarge(large, side=100)[1] == 1


def test_a_box_is_drawn_where_it_lies_and_the_image_is_left_alone():
  image = GREY.copy()
  color = drawing.COLORS[0]
  drawn = drawing.boxes(image, [(10, 20, 30, 50)], [""])
  np.testing.assert_array_equal(image, GREY)
  assert tuple(drawn[20, 20]) == tuple(drawn[10, 35]) == color
  np.testing.assert_array_equal(drawn[14:27, 24:47], GREY[14:27, 24:47])
  np.testing.assert_array_equal(drawn[:7], GREY[:7])
  # The label adds a plate above the box.
  labelled = drawing.boxes(image, [(20, 20, 30, 50)], ["cat"])
  assert (labelled[8:18, 20:50] == color).all(axis=-1).any()


def test_boxes_as_a_model_writes_them_are_drawn():
  wild = [(30, 50, 10, 20), (-50, -50, 500, 500), (5, 5, 5, 5)]
  drawn = drawing.boxes(GREY, wild, ["a" * 50, "b", ""])
  assert drawn.shape == GREY.shape
  tiny = drawing.boxes(GREY[:8, :8], [(1, 1, 5, 5)], ["higher than the image"])
  assert tiny.shape == (8, 8, 3)
  straight = drawing.boxes(GREY, [(10, 20, 30, 50)], ["a"])
  np.testing.assert_array_equal(
    straight, drawing.boxes(GREY, [(30, 50, 10, 20)], ["a"])
  )


def test_the_same_label_has_the_same_colour():
  image = np.full((100, 300, 3), 128, np.uint8)
  places = [(40, x, 90, x + 50) for x in (10, 110, 210)]
  drawn = drawing.boxes(image, places, ["cat", "dog", "cat"])
  a, b, c = (tuple(drawn[70, x]) for x in (10, 110, 210))
  assert a == c != b
  drawing.boxes(image, places * 7, [str(i) for i in range(21)])


def test_plates_do_not_cover_each_other():
  image = np.full((200, 200, 3), 128, np.uint8)
  one, two = [(50, 50, 90, 150)], [(50, 50, 90, 150)]
  drawn = drawing.boxes(image, one + two, ["cat", "dog"])
  alone = drawing.boxes(image, one, ["cat"])
  plate = (alone[:48] == drawing.COLORS[0]).all(axis=-1)
  assert plate.sum() > 50
  assert (drawn[:48][plate] == drawing.COLORS[0]).all()


def test_as_many_labels_as_boxes_are_wanted():
  with pytest.raises(ValueError, match="1 boxes, 2 labels"):
    drawing.boxes(GREY, [(0, 0, 1, 1)], ["a", "b"])
