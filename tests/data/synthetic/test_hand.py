"""Tests of the sketches: what is asked of them is what is drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from pg.data.synthetic import hand, scenes, sketches
from pg.pp import image as image_ops
from tests.support import shapes_oracle

COLORS = np.array([*scenes.COLORS.values()])


@pytest.mark.parametrize("task", [t for t in hand.TASKS if t != "ocr"])
def test_every_answer_follows_from_the_objects(task):
  source = hand.Hand(task)
  for example in (source[i] for i in range(len(source))):
    sketch = sketches.drawn()[int(example["scene"][len("hand") :])]
    example["kind"] = "en" if task == "caption" else example["kind"]
    mask = lambda item, _: item.mask
    right = shapes_oracle.solve(example, [sketch.objects], mask)
    assert right == example["suffix"], example["prefix"]
    assert right == example.get("answers", [right])[0]


def test_text_is_what_the_sketches_say():
  source = hand.Hand("ocr")
  found = [source[i]["suffix"] for i in range(len(source))]
  assert found == ["42", "CAT", "7", "HX 95", "PE3", "8", "TA", "L6"]
  assert set("".join(found)) - {" "} <= set(scenes.FONT)


def test_boxes_masks_and_colours_are_those_of_the_pixels():
  for sketch in sketches.drawn():
    image = image_ops.to_rgb(sketch.image)
    assert image.shape[:2] == (sketch.height, sketch.width)
    covered = np.zeros(image.shape[:2], int)
    for item in sketch.objects:
      y1, x1, y2, x2 = shapes_oracle.tight(item.mask)
      edges = np.array(item.box) * np.tile(item.mask.shape, 2)
      assert edges.tolist() == pytest.approx([y1, x1, y2, x2])
      far = np.abs(image[item.mask][:, None].astype(int) - COLORS).sum(-1)
      color = np.bincount(far.argmin(1), minlength=len(COLORS)).argmax()
      assert list(scenes.COLORS)[color] == item.color
      covered += item.mask
    assert covered.max() <= 1  # none hides another
    if sketch.objects and not sketch.texts:
      ground = image[2, 2].astype(int)
      ink = np.abs(image.astype(int) - ground).sum(-1) > 150
      assert (ink & (covered == 0)).mean() < 0.01
      assert (ink & (covered == 1)).sum() > 0.8 * covered.sum()


def test_sketches_are_files_of_all_kinds_without_held_out_pairs():
  drawn = sketches.drawn()
  assert len(drawn) == 32
  assert {Image.open(io.BytesIO(s.image)).format for s in drawn} == {
    "PNG",
    "JPEG",
  }
  sides = [side for s in drawn for side in (s.height, s.width)]
  assert min(sides) < 200 and max(sides) == 900
  items = [item for s in drawn for item in s.objects]
  assert {i.color for i in items} == set(scenes.COLORS)
  assert {i.shape for i in items} == set(scenes.SHAPES)
  assert not {scenes.pair(item) for item in items} & set(scenes.HELD_OUT)


def test_any_order_of_a_caption_is_right():
  answers = hand.Hand("caption")[3]["answers"]
  assert answers[0] == "a yellow circle and a purple square"
  assert "there are a purple square and a yellow circle" in answers
  assert len(answers) == len(set(answers)) == 6


def test_what_is_not_there_is_refused():
  with pytest.raises(ValueError, match='did you mean "caption"'):
    hand.Hand("captions")
  source = hand.Hand("ocr")
  assert source.where(1) == "hand:ocr[1] (sketch 25)"
  with pytest.raises(IndexError, match="row 8 of 8"):
    source[8]
