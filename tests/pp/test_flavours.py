"""How a model sees images is read from what it was trained with."""

import numpy as np
import pytest

from pg import pp
from pg.pp import flavours, parse
from tests.pp import test_resize

NOISE = np.random.default_rng(0).integers(256, size=(60, 90, 3), dtype=np.uint8)
PLAIN, COARSE = "decode | resize(48)", "decode | resize(48, antialias=False)"


@pytest.mark.parametrize(
  "string, way",
  [
    (PLAIN, PLAIN),
    ("decode", PLAIN),
    (f"flatten | {COARSE} | fmt('a {{b}}', out='prefix')", COARSE),
    ("video(16, 9) | resize(48, antialias=False) | copy('a', 'b')", COARSE),
    (
      "decode(exif=True)|resize(48,flavour='hf')|objects(crowd=False)",
      "decode(exif=True) | resize(48, flavour='hf')",
    ),
    (
      "decode | resize_small(64) | central_crop(48, boxes=True)",
      "decode | resize_small(64) | central_crop(48)",
    ),
    ("decode | inception_crop(95) | random_resize(48)", PLAIN),
    ("decode | resize(48) | draw_box('bbox') | random_jpeg(0.5)", PLAIN),
    ("decode | random_flip(0.5) | resize(48)", PLAIN),
    ("decode | an_op_of_a_fork('x') | resize(48)", PLAIN),
  ],
)
def test_the_part_of_a_pipeline_that_is_the_models(string, way):
  assert flavours.of_pipeline(string, 48) == way
  shown = parse.build(way)({"image": NOISE}, pp.Turn())["image"]
  assert shown.shape == (48, 48, 3)


def test_an_op_of_ones_own_that_changes_images_is_the_models(monkeypatch):
  def inverted(example):
    return {"image": 255 - example["image"]}

  monkeypatch.setitem(pp.OPS, "inverted", inverted)
  string = "decode | inverted | resize(48)"
  assert flavours.of_pipeline(string, 48) == PLAIN  # of this file
  inverted.__module__ = "pg.pp.image"
  assert flavours.of_pipeline(string, 48) == string


def run(pp=PLAIN, data=None, evals=None):
  data = data or dict(source="jsonl", path="a.jsonl")
  return dict(res=48, pp=pp, data=data, evals=evals or {})


def test_a_mixture_is_seen_as_most_of_it_was():
  data = dict(
    a=dict(source="x", pp=COARSE),
    b=dict(source="x", weight=0.75),
    c=dict(source="x", weight=0.5, pp=f"{COARSE} | copy('a', 'b')"),
  )
  assert flavours.of_run(run(data=data)) == COARSE
  data["b"]["weight"] = 1.75
  assert flavours.of_run(run(data=data)) == PLAIN


def test_where_training_draws_an_evaluator_says_how_images_are_seen():
  crop = "decode | resize_small(64) | {}_crop(48)"
  drawn, middle = crop.format("random"), crop.format("central")
  evals = dict(
    inherits=dict(metric="exact"),
    draws=dict(pp=f"{drawn} | copy('a', 'b')"),
    val=dict(pp=f"{middle} | copy('a', 'b')"),
  )
  assert flavours.of_run(run(drawn, evals=evals)) == middle
  # It does not where training says so itself, as in recipes with antialias in
  # training alone.
  assert flavours.of_run(run(PLAIN, evals=evals)) == PLAIN
  assert flavours.of_run(run("decode | random_flip", evals={})) == PLAIN


def test_big_visions_flavour_is_that_of_its_forkme_and_upright():
  key = f"{test_resize.PHOTO}|decode|resize(224,antialias=True)"
  out = test_resize.apply(
    flavours.named("bv", 224), test_resize.read(test_resize.PHOTO)
  )
  assert test_resize.digest(out) == test_resize.SHA256[key]
  for name in flavours.FLAVOURS:
    assert "exif=True" in flavours.named(name, 224)


@pytest.mark.parametrize(
  "key", [key for key in test_resize.SHA256 if "|hf|" in key]
)
def test_the_hf_flavour_is_transformers_bicubic(key):
  name, _, size = key.split("|")
  string = flavours.named("hf", int(size))
  out = test_resize.apply(string, test_resize.read(name))
  assert test_resize.digest(out) == test_resize.SHA256[key]


def test_a_name_that_is_none_says_what_there_is():
  assert flavours.named(COARSE, 48) == COARSE
  with pytest.raises(
    ValueError, match="(?s)unknown op.*wanted bv or hf, or op"
  ):
    flavours.named("bw", 48)


def test_ops_of_images_are_replaced_and_no_others():
  string = f"flatten | {COARSE} | fmt('{{a}} | b', out='prefix')"
  assert flavours.replaced(string, PLAIN) == (
    f"flatten | {PLAIN} | fmt('{{a}} | b', out='prefix')"
  )
  video = "video(16, 9) | resize(48) | copy('a', 'b')"
  assert flavours.replaced(video, COARSE) == (
    f"video(16, 9) | {COARSE} | copy('a', 'b')"
  )
  assert flavours.replaced("flatten", PLAIN) == f"flatten | {PLAIN}"


def test_another_resolution_changes_no_other_number():
  way = "decode | resize_small(64) | central_crop(48)"
  assert flavours.at_resolution(way, 48, 96) == way.replace("(48)", "(96)")


@pytest.mark.parametrize(
  "way, method",
  [
    (COARSE, "bilinear"),
    ("decode | resize(48, flavour='hf')", "bicubic"),
    ("decode | resize(48, 'hf', method='bilinear')", "bilinear"),
    ("decode | resize(48, method='bicubic')", "bicubic"),
    ("decode | resize_small(64) | central_crop(48)", "bilinear"),
  ],
)
def test_the_method_of_a_pipeline_is_that_of_its_resize(way, method):
  assert flavours.method(way) == method
