"""Tests of the images: geometry at every resolution, and honest splits."""

import itertools
import pickle
import random

import numpy as np
import pytest

from pg.data.synthetic import scenes, shapes, words
from tests.support import shapes_oracle

RES = (48, 64, 96, 224)
SIZES = tuple(scenes.SIZES.values())
BOX_TASKS = ("detect", "detect_one", "refer", "segment")


def rows(task, split, num, res=48):
  source = shapes.Shapes(task, split, res=res, size=num)
  return [source[i] for i in range(num)]


def inked(example, box, res):
  """Returns bool[res, res], the pixels of the object in a box's quadrant."""
  index = shapes_oracle.nearest(example["image"])
  half = res // 2
  own = np.zeros((res, res), bool)
  y, x = (half * int(edge >= 0.5) for edge in box[:2])
  own[y : y + half, x : x + half] = True
  return own & (index < len(scenes.COLORS))


@pytest.mark.parametrize("res", RES)
@pytest.mark.parametrize("task", BOX_TASKS)
def test_boxes_are_tight_around_the_pixels(task, res):
  for example in rows(task, "train", 10, res):
    assert example["boxes"].shape == (len(example["labels"]), 4)
    for box in example["boxes"]:
      pixels = inked(example, box, res)
      assert (box * res).tolist() == [*shapes_oracle.tight(pixels)]


@pytest.mark.parametrize("res", RES)
def test_the_mask_is_the_object_and_its_tight_box_the_box(res):
  for example in rows("segment", "train", 10, res):
    mask, box = example["mask"], example["boxes"][0]
    assert mask.dtype == bool and mask.shape == (res, res)
    assert np.array_equal(mask, inked(example, box, res))
    assert [*shapes_oracle.tight(mask)] == (box * res).tolist()


def test_every_shape_touches_the_four_sides_of_its_box_and_is_its_own():
  for num in sorted({n * res // scenes.UNITS for n in SIZES for res in RES}):
    stencils = {name: scenes.stencil(name, num) for name in scenes.SHAPES}
    for name, stencil in stencils.items():
      sides = (stencil[0], stencil[-1], stencil[:, 0], stencil[:, -1])
      assert all(side.any() for side in sides), (name, num)
    for a, b in itertools.combinations(stencils.values(), 2):
      assert np.mean(a != b) > 0.15


@pytest.mark.parametrize("task", shapes.TASKS)
def test_a_row_is_the_same_scene_at_every_resolution(task):
  for examples in zip(*(rows(task, "train", 4, res) for res in RES)):
    for key in ("prefix", "suffix", "scene", "kind", "labels", "answers"):
      assert len({str(e.get(key)) for e in examples}) == 1
    if task != "ocr":
      seen = [
        [shapes_oracle.look(image) for image in shapes_oracle.images(e)]
        for e in examples
      ]
      assert seen.count(seen[0]) == len(RES)


def test_colours_can_be_told_apart_through_the_noise():
  colors = [*scenes.COLORS.values(), *scenes.BACKGROUNDS]
  for a, b in itertools.combinations(np.array(colors), 2):
    if tuple(a) in scenes.COLORS.values():
      assert np.linalg.norm(a - b) > 6 * scenes.NOISE
  assert min(map(min, colors)) >= scenes.NOISE
  assert max(map(max, colors)) <= 255 - scenes.NOISE


def test_objects_have_a_quadrant_each_and_stand_on_the_grid():
  for example in rows("caption", "train", 150):
    items = shapes_oracle.look(example["image"])
    assert 1 <= len(items) <= 3
    assert len({scenes.quadrant(item) for item in items}) == len(items)
    for item in items:
      assert item.y % scenes.GRID == item.x % scenes.GRID == 0
      for at in (item.y, item.x):
        assert at // scenes.HALF == (at + item.size - 1) // scenes.HALF


def test_objects_of_one_colour_do_not_touch():
  examples = rows("count", "train", 200)
  seen = [shapes_oracle.look(example["image"]) for example in examples]
  for a, b in itertools.chain(*(itertools.combinations(s, 2) for s in seen)):
    down = max(b.y - a.y - a.size, a.y - b.y - b.size)
    right = max(b.x - a.x - a.size, a.x - b.x - b.size)
    assert a.color != b.color or max(down, right) > 0


def fingerprints(split):
  """Returns the scenes of many rows; most where scenes are fewest."""
  found = set()
  for task in shapes.TASKS:
    num = 1500 if task == "detect_one" else 100
    for example in rows(task, split, num, res=16):
      found.update(example["scene"].split("+"))
  return found


def test_every_pair_has_scenes_of_one_object_on_both_sides():
  for pair in scenes.KNOWN:
    rng = random.Random(0)
    drawn = [scenes.place(rng, [pair], [i % 4]) for i in range(500)]
    for split in ("train", "test"):
      assert any(scenes.belongs(one, split) for one in drawn), pair


def test_no_scene_is_on_both_sides_of_a_split_whatever_the_task():
  train, test, combo, template = map(fingerprints, shapes.SPLITS)
  assert not train & (test | template | combo)
  assert not combo & (test | template)


def held_out_phrases():
  """Returns what held-out objects are called, in every language and size."""
  found = []
  for pair, size in itertools.product(scenes.HELD_OUT, scenes.SIZES.values()):
    item = scenes.Object(*pair, size, 0, 0)
    found.append(words.phrase(item))
    for language in words.LANGUAGES:
      plain, _, sized = words.captions([item], language)
      found += [plain, sized]
  return found


def holds_held_out(image):
  return any(
    (item.color, item.shape) in scenes.HELD_OUT
    for item in shapes_oracle.look(image)
  )


@pytest.mark.parametrize("task", shapes.TASKS)
def test_held_out_pairs_are_in_no_image_or_text_but_of_combo(task):
  phrases = held_out_phrases()
  assert "grünes Dreieck" not in phrases and "a purple triangle" in phrases
  for split in ("train", "test", "template"):
    for example in rows(task, split, 20):
      texts = [
        example["prefix"],
        *example.get("answers", example.get("labels")),
      ]
      assert not [p for p in phrases if any(p in text for text in texts)]
      if task != "ocr":
        assert not any(map(holds_held_out, shapes_oracle.images(example)))
  if task != "ocr":
    for example in rows(task, "combo", 20):
      assert all(map(holds_held_out, shapes_oracle.images(example)))


def test_a_source_can_be_sent_to_a_data_worker():
  source = shapes.Shapes("compare", "test")
  copy = pickle.loads(pickle.dumps(source))
  for a, b in zip(source[5]["image"], copy[5]["image"]):
    np.testing.assert_array_equal(a, b)
