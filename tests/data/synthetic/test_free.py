"""Tests of free scenes: what is said is what the pixels show, of any file."""

import collections
import hashlib
import itertools
import random
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from pg.data.synthetic import colors, examples, free, scenes, shapes
from pg.pp import image as image_ops
from tests.support import shapes_oracle

RES = 192
# A seed's texts and scenes; pixels may round otherwise on other machines.
GOLDEN = "a1d8b5cd7401aef47355bdd2d36c6434633916549fe00224017cf73ac100400f"
NAMED = np.array([*scenes.COLORS.values()])
HELD_OUT = set(scenes.HELD_OUT)


def rows(task, split, num, res=RES, share=0.0):
  source = shapes.Shapes(task, split, res=res, size=num, free=share)
  return [source[i] for i in range(num)]


def made(task, split, i, share=0.0):
  """Returns row i without its image."""
  rng = random.Random(f"{task}/{split}/{i}")
  return shapes.TASKS[task](rng, examples.Setting(split, share))


def plain_scenes(num):
  """Yields (Scene, its pixels), of an even background without noise."""
  for seed in range(num):
    rng = random.Random(seed)
    pairs = rng.choices(scenes.PAIRS, k=rng.randint(1, free.MAX_COUNT))
    scene = free.place(rng, 0.0, pairs)
    even = colors.Background(
      scene.background.rgb, scene.background.rgb, 0, 0, 0
    )
    scene = scene._replace(background=even, shadow=0)
    yield scene, free.render(scene, RES, rng)


def bears(pixels, color):
  """Says whether most of pixels u8[num, 3] are nearest to a colour's name."""
  far = np.square(pixels[:, None].astype(int) - NAMED).sum(-1)
  names = np.bincount(far.argmin(1), minlength=len(NAMED))
  return list(scenes.COLORS)[names.argmax()] == color


def test_objects_are_the_components_of_the_pixels():
  for scene, image in plain_scenes(150):
    ground = np.array(scene.background.rgb)
    ink = np.linalg.norm(image.astype(float) - ground, axis=-1) > 40
    labels, num = ndimage.label(ink, np.ones((3, 3)))
    assert num == len(scene.objects)
    found = ndimage.find_objects(labels)
    for item in scene.objects:
      box = np.array(item.box) * RES
      near = [
        i
        for i, (y, x) in enumerate(found, 1)
        if np.abs(box - (y.start, x.start, y.stop, x.stop)).max() < 2
      ]
      assert len(near) == 1, item
      assert bears(image[labels == near[0]], item.color), item


def test_shapes_are_what_they_are_called():
  """By their share of the box, and by what is in the middle of it."""
  full = dict(circle=0.785, square=1, triangle=0.5)
  for scene, _ in plain_scenes(150):
    for item in scene.objects:
      y1, x1, y2, x2 = (round(edge * RES) for edge in item.box)
      cut = free.mask(item, (RES, RES))[y1:y2, x1:x2]
      is_line = bool(item.line) and not item.contour
      middle = cut[(y2 - y1) // 2, (x2 - x1) // 2]
      corner = cut[0, 0], cut[0, -1], cut[-1, 0], cut[-1, -1]
      is_open = item.shape != "cross" and is_line
      assert middle != is_open and is_open >= (item.shape == "ring"), item
      filled = ndimage.binary_fill_holes(cut).mean()
      if item.shape in full and not (item.turn or item.bend):
        assert filled == pytest.approx(full[item.shape], abs=0.08), item
      if item.shape in ("circle", "ring", "cross"):
        assert not any(corner)
        assert (filled < 0.7) == (item.shape == "cross"), item


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_and_boxes_are_those_of_the_file(share):
  for example in rows("segment", "train", 40, res=96, share=share):
    image = image_ops.to_rgb(example["image"])
    assert image.shape[:2] == (example["height"], example["width"])
    mask, (box,) = example["mask"], example["boxes"]
    assert mask.shape == image.shape[:2]
    edges = box * np.tile(mask.shape, 2)
    assert np.abs(shapes_oracle.tight(mask) - edges).max() <= 1.01
    assert bears(image[mask], example["labels"][0].split()[0])


def test_files_have_all_sizes_and_both_forms():
  found = rows("caption", "train", 80, share=1.0)
  sides = [(e["height"], e["width"]) for e in found]
  assert min(map(min, sides)) < 60 and 400 < max(map(max, sides)) <= 800
  assert 0.3 < np.mean([a != b for a, b in sides]) < 0.7
  jpegs = [isinstance(e["image"], bytes) for e in found]
  assert 0.3 < np.mean(jpegs) < 0.7
  drawn = [made("caption", "train", i, 1.0).scenes[0] for i in range(200)]
  small = {s.quality for s in drawn if min(s.pixels) < 100} - {0}
  assert 85 <= min(small) and min(s.quality or 99 for s in drawn) < 60
  few = rows("caption", "train", 200, res=16, share=0.25)
  assert 0.15 < np.mean([e["height"] != 16 for e in few]) < 0.35


@pytest.mark.parametrize("split", shapes.SPLITS)
@pytest.mark.parametrize("task", [t for t in shapes.TASKS if t != "ocr"])
def test_every_suffix_follows_from_the_objects(task, split):
  source = shapes.Shapes(task, split, res=16, free=0.0)
  for i in range(25 if task != "segment" else 5):
    example, drawn = source[i], made(task, split, i).scenes
    seen = [list(scene.objects) for scene in drawn]
    right = shapes_oracle.solve(example, seen, free.mask)
    assert right == example["suffix"], example["prefix"]
    pairs = {scenes.pair(item) for item in itertools.chain(*seen)}
    assert bool(pairs & HELD_OUT) == (split == "combo")
    assert all(scenes.belongs(scene, split) for scene in drawn)


def test_counts_are_balanced_up_to_six():
  found = collections.Counter(
    made("count", "train", i).suffix for i in range(1400)
  )
  assert set(found) == set("0123456")
  assert max(found.values()) < 2.2 * min(found.values())


def test_text_is_in_its_box_and_nowhere_else():
  for i in range(60):
    scene = made("ocr", "train", i).scenes[0]._replace(soft=1)
    image, bare = (
      free.render(s, RES, random.Random(0)).astype(int)
      for s in (scene, scene._replace(labels=()))
    )
    changed = np.abs(image - bare).sum(-1) > 0
    for label in scene.labels:
      y1, x1, y2, x2 = (round(edge * RES) for edge in label.box)
      part = changed[y1:y2, x1:x2]
      rows_inked = part.any(1)
      assert 0.08 < part.mean() and rows_inked[0] and rows_inked[-1]
      changed[y1:y2, x1:x2] = False
    assert not changed.any()
    ys = [label.box[::2] for label in scene.labels]
    assert all(a[1] < b[0] for a, b in itertools.pairwise(ys))


def test_the_order_of_objects_is_clear():
  for i in range(1500):
    (scene,) = made("caption", "train", i).scenes
    centres = [
      ((y1 + y2) / 2, (x1 + x2) / 2)
      for y1, x1, y2, x2 in (item.box for item in scene.objects)
    ]
    assert len(centres) <= free.MAX_OBJECTS
    for (y, x), (v, u) in itertools.pairwise(centres):
      third, after = int(3 * y), int(3 * v)
      assert third < after or (third == after and u - x > 0.069)
      assert all(abs(c - b / 3) > 0.034 for c in (y, v) for b in (1, 2))


def test_colours_bear_their_names_and_stand_out():
  for seed in range(300):
    rng = random.Random(seed)
    tones = {name: colors.tone(rng, name) for name in scenes.COLORS}
    for name, rgb in tones.items():
      assert bears(np.array([rgb]), name)
    some = rng.sample([*tones.values()], 3)
    ground = colors.background(rng, some)
    for rgb, end in itertools.product(some, (ground.rgb, ground.end)):
      assert np.linalg.norm(np.subtract(rgb, end)) > 75


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_row_is_the_same_scene_at_every_resolution(share):
  for task in ("caption", "detect", "ocr", "compare"):
    for small, large in zip(
      rows(task, "train", 12, 64, share), rows(task, "train", 12, 128, share)
    ):
      for key in ("prefix", "suffix", "scene", "answers", "labels"):
        assert small.get(key) == large.get(key)
      for a, b in zip(*map(shapes_oracle.images, (small, large))):
        a, b = (image_ops.to_rgb(x).astype(float) for x in (a, b))
        if share == 0:
          b = b.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(a - b).mean() < 8


def test_a_large_image_has_grains_up_to_its_end():
  background = made("caption", "train", 14).scenes[0].background
  assert background.noise and background.paper
  image = shapes.Shapes("caption", res=1040, free=0.0)[14]["image"]
  assert image.shape == (1040, 1040, 3)
  assert image[-16:, -16:].std((0, 1)).min() > 2


def digest():
  """Returns a fingerprint of rows of every task and split."""
  found = hashlib.sha256()
  for task in shapes.TASKS:
    for split in shapes.SPLITS:
      example = shapes.Shapes(task, split, res=48, free=0.5)[123]
      found.update(repr(sorted(example.items())).encode())
  return found.hexdigest()


def test_rows_are_the_same_in_every_process():
  code = "from tests.data.synthetic import test_free as t; print(t.digest())"
  command = [sys.executable, "-c", code]
  there = subprocess.run(command, capture_output=True, check=True, text=True)
  assert there.stdout.strip() == digest()


def test_texts_and_scenes_of_a_seed_stay():
  found = hashlib.sha256()
  for task in shapes.TASKS:
    for split in shapes.SPLITS:
      one = made(task, split, 123, 0.5)
      place = one.suffix.split("<seg")[0]
      names = map(scenes.fingerprint, one.scenes)
      found.update("\n".join([one.prefix, place, *names]).encode())
  assert found.hexdigest() == GOLDEN


def test_a_share_that_is_none_is_refused():
  with pytest.raises(ValueError, match="free=2 is a share of files, 0 to 1"):
    shapes.Shapes("caption", free=2)
