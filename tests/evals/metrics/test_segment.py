"""Masks and boxes of referring expressions, and of objects with names."""

import json

import numpy as np
import pytest

from pg.codecs import boxes, masks
from pg.data.synthetic import shapes
from pg.evals import interval
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import segment, statistics
from tests.codecs import test_masks
from tests.support import paths

GOLDEN = paths.GOLDEN / "metrics"
WHOLE = "<loc0000><loc0000><loc1023><loc1023>"
HALF = (0.0, 0.0, 1.0, 0.5)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
  """Returns the reference's arrays, and its tokens and masks as ours."""
  with np.load(GOLDEN / "refcoco_seg.npz") as z:
    z = dict(z)
  codec = tmp_path_factory.mktemp("codec") / "random.npz"
  np.savez(codec, **test_masks.random_tensors())
  names = {256_000 + i: f"<loc{i:04}>" for i in range(1024)}
  names |= {257_024 + i: f"<seg{i:03}>" for i in range(128)}
  texts, examples, start = [], [], 0
  for row, size, box in zip(z["tokens"].tolist(), z["hw"], z["bbox"].tolist()):
    end = row.index(1) if 1 in row else len(row)
    texts.append("".join(names.get(i, " x") for i in row[:end]))
    stop = start - (-size.prod() // 8)
    bits = np.unpackbits(z["masks_packed"][start:stop], count=size.prod())
    mask, start = bits.reshape(size) == 1, stop
    examples.append({"mask": mask, "box": box, "codec": str(codec)})
  return z, texts, examples


def test_referring_expressions_score_as_in_the_reference(golden):
  z, texts, examples = golden
  made = segment.refcoco(texts, examples)
  iou, shared, union, *boxes = made.sums[:, :6].T
  np.testing.assert_allclose(iou, z["iou"], atol=5e-3)
  np.testing.assert_array_equal(boxes, [z["box50"], z["box75"], z["invalid"]])
  scores = made
  summary = json.loads(str(z["summary_json"]))
  assert scores["miou"] == pytest.approx(summary["miou"], abs=1e-3)
  assert scores["box@.5"] == summary["boxacc/0.5"]
  assert scores["box@.75"] == summary["boxacc/0.75"]
  assert scores["invalid"] == summary["invalid"] / 60
  assert scores["ciou"] == shared.sum() / union.sum()
  np.testing.assert_array_equal(made.each, iou)


refcoco = metrics_lib.METRICS["refcoco"]


def text_of(mask, box, label=""):
  """Returns a text with the codes of a mask by the codec that pg has."""
  codes = masks.encode(masks.load(masks.NANO), mask, box)
  return boxes.detect([box], [label], [codes])


def left(height=40, width=80):
  mask = np.zeros((height, width), bool)
  mask[:, : width // 2] = True
  return mask


def test_intersections_and_unions_are_summed_apart():
  """Of a large object half is found, of a small one all."""
  large, small = np.ones((100, 100), bool), np.ones((10, 20), bool)
  whole = (0.0, 0.0, 1.0, 1.0)
  texts = [text_of(left(100, 100), HALF), text_of(small, whole)]
  scores = refcoco(texts, [{"mask": large}, {"mask": small}])
  half = 51 / 100  # 1023 / 2 is rounded up
  assert scores["miou"] == pytest.approx((half + 1) / 2, abs=0.02)
  assert scores["ciou"] == pytest.approx((half * 1e4 + 200) / 10_200, abs=0.02)
  assert scores["box@.5"] == 1
  assert scores["box@.75"] == 0.5
  assert scores["invalid"] == 0


def test_what_does_not_begin_with_a_box_and_a_mask_is_invalid():
  right, mask = text_of(left(), HALF), {"mask": left()}
  place, codes = right[:36], right[36:]
  turned = "<loc1023><loc0512><loc0000><loc0000>" + codes
  texts = ["", "dog", place, codes, turned, f"a {right}", right[:-8]]
  scores = refcoco(texts, [mask] * len(texts))
  assert scores == {
    "miou": 0,
    "ciou": 0,
    "box@.5": 0,
    "box@.75": 0,
    "invalid": 1,
  }
  texts = [right, f" {right}", f"{right}<seg001> dog", f"{right} ; {place} cat"]
  scores = refcoco(texts, [mask] * len(texts))
  assert scores["invalid"] == 0
  assert scores["miou"] > 0.95


def test_the_true_mask_is_what_the_row_has():
  """A mask, polygons of one object or of a list of one, or run lengths."""
  text, shape = text_of(left(), HALF), {"height": 40, "width": 80}
  corners = [[0, 0, 40, 0, 40, 40, 0, 40]]
  runs = {"size": [40, 80], "counts": [0, 1600, 1600]}
  truths = [
    {"mask": left()},
    {"mask": left().astype(np.uint8)[..., None] * 255},
    {"masks": [left()]},
    {"segmentation": corners, **shape},
    {"segmentation": [corners], **shape},
    {"segmentation": np.array(corners), **shape},
    {"segmentation": runs},
    {"segmentation": [runs]},
  ]
  wanted = refcoco([text], truths[:1])
  assert wanted["miou"] > 0.95
  for truth in truths:
    assert refcoco([text], [truth]) == wanted


def test_the_true_box_is_given_or_around_the_mask():
  text, mask = text_of(left(), HALF), {"mask": left()}
  hit = lambda more: refcoco([text], [mask | more])["box@.75"]
  assert hit({}) == hit({"box": HALF}) == hit({"boxes": [HALF]}) == 1
  assert hit({"box": (0, 0.5, 1, 1)}) == hit({"boxes": [(0, 0, 1, 1)]}) == 0
  assert refcoco([text], [{"mask": np.zeros((9, 9), bool)}])["miou"] == 0


def test_masks_are_of_the_codec_that_the_example_names(golden):
  _, (text, *_), (example, *_) = golden
  random = refcoco([text], [example])["miou"]
  nano = refcoco([text], [{**example, "codec": "nano"}])["miou"]
  assert nano == refcoco([text], [{"mask": example["mask"]}])["miou"] != random
  both = [example, {**example, "codec": "nano"}] * 40  # more than a block
  scores = refcoco([text] * 80, both)
  assert scores["miou"] == pytest.approx((nano + random) / 2)
  row = {"boxes": [HALF], "labels": ["cat"], "masks": [left()]}
  assert test_masks.apply("encode_masks | segment", **row)["codec"] == "nano"


def test_examples_without_a_mask_or_with_a_bad_one_are_named():
  text, good = text_of(left(), HALF), {"mask": left()}
  wrong = {
    'example 1: wanted an example with "mask"': {"suffix": text},
    "example 1: got 2 true masks": {"masks": [left()] * 2},
    "example 1: got 0 true masks": {"segmentation": []},
    "example 1: polygons need the pixels": {"segmentation": [[0] * 6]},
    "example 1: wanted a mask": {"mask": "left"},
    "example 1: 'masks' should be a list": {"masks": 7},
    "example 1: 'box' should be": good | {"box": [0, 0, 9, 9]},
    "example 1: got 2 true boxes": good | {"boxes": [HALF] * 2},
  }
  for message, example in wrong.items():
    with pytest.raises(ValueError, match=message):
      refcoco([text] * 2, [good, example])
  with pytest.raises(ValueError, match="no/codec"):
    refcoco([text], [good | {"codec": "no/codec.npz"}])


# Objects with names.


def test_the_scenes_masks_are_scored_by_their_names():
  source = shapes.Shapes("segment", "test", res=48)
  examples = [source[i] for i in range(12)]
  texts = [e["suffix"] for e in examples]
  scores = metrics_lib.METRICS["segment"](texts, examples)
  assert scores["miou"] > 0.7  # what the codes of a mask can say
  assert scores["iou"] > 0.99
  assert scores["precision@.5"] == 1
  assert scores["unparsable"] == 0
  renamed = [text[:-1] + "!" for text in texts]
  scores = metrics_lib.METRICS["segment"](renamed, examples)
  assert scores["miou"] == scores["iou"] == scores["recall@.5"] == 0
  plain = [text[:36] + text[36 + 16 * 8 :] for text in texts]
  scores = metrics_lib.METRICS["segment"](plain, examples)
  assert scores["miou"] == 0
  assert scores["iou"] > 0.99
  assert scores["unparsable"] == 1


def test_each_object_is_compared_with_the_mask_of_its_box_s_partner():
  right = left()[:, ::-1]
  cat, dog = text_of(left(), HALF, "cat"), text_of(right, (0, 0.5, 1, 1), "dog")
  example = {
    "boxes": [HALF, (0, 0.5, 1, 1)],
    "labels": ["cat", "dog"],
    "masks": [left(), right],
  }
  # The first is the one that is asked for: one without objects has no mean.
  single = lambda text, truth: segment.segment(
    [text, cat], [truth, example]
  ).each[0]
  assert single(f"{dog} ; {cat}", example) > 0.95
  assert single(dog, example) == pytest.approx(0.5, abs=0.03)
  assert single(f"{cat} ; {cat}", example) == pytest.approx(0.5, abs=0.03)
  nothing = {"boxes": [], "labels": [], "masks": []}
  assert (single("", nothing), single(cat, nothing)) == (1, 0)
  scores = metrics_lib.METRICS["segment"]([dog, cat], [example, nothing])
  assert scores["miou"] == pytest.approx(0.5, abs=0.03)
  assert scores["precision@.5"] == 0.5


def test_as_many_masks_as_labels_are_wanted():
  cat = text_of(left(), HALF, "cat")
  example = {"boxes": [HALF], "labels": ["cat"], "masks": [left()] * 2}
  with pytest.raises(ValueError, match="2 true masks and 1 labels"):
    metrics_lib.METRICS["segment"]([cat], [example])
  nothing = {"boxes": [], "labels": [], "masks": []}
  with pytest.raises(ValueError, match="none of the 1 examples"):
    metrics_lib.METRICS["segment"]([cat], [nothing])


# All metrics of boxes.


PIECES = """<loc0000> <loc0512> <loc1023> <loc9999> <loc12> <seg000> <seg127>
<seg128> cat dog ; ; | \ud800 \x00 猫 - nan""".split()
PIECES += [" ", "\n", "<seg001>" * 16, WHOLE + "<seg001>" * 16]


@pytest.mark.parametrize(
  "name", ["detect", "segment", "refcoco", "coco_bbox", "coco_segm"]
)
@pytest.mark.parametrize(
  "num", [1000, pytest.param(10_000, marks=pytest.mark.slow)]
)
def test_any_text_has_a_score(name, num):
  """Texts through each of five metrics: scores are within 0 and 1."""
  rng = np.random.default_rng(len(name))
  texts = ["".join(rng.choice(PIECES, size=n)) for n in rng.integers(0, 9, num)]
  example = {
    "suffix": f"{WHOLE} cat",
    "boxes": [[0, 0, 1, 1]],
    "labels": ["cat"],
    "mask": np.ones((8, 8), bool),
    "height": 8,
    "width": 8,
  }
  scores = metrics_lib.score(name, texts, [example] * num)
  found = interval.bootstrap(scores)
  left_out = set()
  if isinstance(scores, statistics.Resampled):
    left_out = interval.UNMEASURED
  assert found.keys() == scores.keys() - left_out
  for key, value in scores.items():
    assert 0 <= value <= 1, key
  for key, one in found.items():
    value = scores[key]
    assert one.value == value, key
    assert one.low - 1e-12 <= value <= one.high + 1e-12, key
