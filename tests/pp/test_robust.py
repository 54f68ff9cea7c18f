"""The noise of pre-training: ten ways to resize, and JPEG of two kinds."""

import collections
import functools

import numpy as np
import pytest

from pg import pp
from pg.pp import parse, resize, robust
from tests.support import paths

GOLDEN = np.load(paths.GOLDEN / "image.npz")
NOISE = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)

build = functools.lru_cache(parse.build)


def test_random_resize_takes_each_of_ten_ways_about_as_often():
  ways = collections.defaultdict(list)
  for method in resize.METHODS:
    for antialias in (True, False):
      out = resize.stretch(NOISE, (24, 24), method, antialias=antialias)
      ways[out.tobytes()].append((method, antialias))
  assert len(ways) == 9  # "area" is the same with and without
  seen = collections.Counter()
  for row in range(500):
    out = build("random_resize(24)")({"image": NOISE}, pp.Turn(row=row))
    out = out["image"].tobytes()
    seen[out] += 1
  for key, names in ways.items():
    assert 25 * len(names) < seen[key] < 80 * len(names)
  assert set(seen) == set(ways)


def test_random_jpeg_has_qualities_of_75_to_95_and_both_dcts(monkeypatch):
  calls = []

  def jpeg(image, quality, *, precise):
    calls.append((quality, precise))
    return image

  monkeypatch.setattr(robust, "jpeg", jpeg)
  for row in range(2000):
    build("random_jpeg(0.25)")({"image": NOISE}, pp.Turn(row=row))
  qualities, precise = zip(*calls)
  assert 400 < len(calls) < 600
  assert set(qualities) == set(range(75, 96))
  assert 0.4 < np.mean(precise) < 0.6


@pytest.mark.parametrize("dct", ["FAST", "ACCURATE"])
def test_jpeg_compression_equals_tensorflows(dct):
  out = robust.jpeg(GOLDEN["jpeg/source"], 75, precise=dct == "ACCURATE")
  off = np.abs(out.astype(int) - GOLDEN[f"jpeg/INTEGER_{dct}/75"])
  assert off.mean() < 0.1  # the bytes depend on the version of libjpeg
