"""Average precision equals COCO's, and has intervals."""

import contextlib
import functools
import io

import numpy as np
import pytest

from pg.codecs import boxes, masks
from pg.evals import interval
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import precision
from tests.support import metric_golden

KEYS = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
WHOLE = "<loc0000><loc0000><loc1023><loc1023>"
LEFT = "<loc0000><loc0000><loc1023><loc0512>"


@functools.cache
def golden():
  rows, _ = metric_golden.read("coco_map")
  merged = {k: v for row in rows for k, v in row.items()}
  return merged["gt"], merged["dt"], merged["expected"]


def detections(kind):
  # With boxes too, the areas of masks are those of their boxes.
  left_out = {"bbox": "segmentation", "segm": ""}[kind]
  return [{k: d[k] for k in d if k != left_out} for d in golden()[1]]


@functools.cache
def made(kind):
  return precision.average(golden()[0], detections(kind), kind)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_scores_are_those_of_coco(kind):
  expected = golden()[2][kind]
  scores = dict(made(kind))
  found = [scores[key] for key in KEYS]
  np.testing.assert_allclose(found, expected["stats"], atol=1e-12)
  by_class = expected["per_category_AP"]
  assert by_class.pop("6", -1) == -1  # has no object
  assert "AP/c6" not in scores
  for number, value in by_class.items():
    assert scores[f"AP/c{number}"] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_images_drawn_several_times_score_as_copies_of_them(kind):
  """As pycocotools does on a file that has each image as often as drawn."""
  from pycocotools import coco, cocoeval

  truth, found = golden()[0], detections(kind)
  times = np.random.default_rng(0).multinomial(50, [1 / 50] * 50)
  ids = sorted(i["id"] for i in truth["images"])
  copies = [
    (i, 1000 * i + k) for i, n in zip(ids, times.tolist()) for k in range(n)
  ]
  copy = lambda rows, key: [
    dict(row, **{key: new})
    for i, new in copies
    for row in rows
    if row[key] == i
  ]
  annotations = copy(truth["annotations"], "image_id")
  for n, annotation in enumerate(annotations, 1):
    annotation["id"] = n
  with contextlib.redirect_stdout(io.StringIO()):
    true = coco.COCO()
    true.dataset = dict(truth, annotations=annotations)
    true.dataset["images"] = copy(truth["images"], "id")
    true.createIndex()
    one = cocoeval.COCOeval(true, true.loadRes(copy(found, "image_id")), kind)
    one.evaluate()
    one.accumulate()
    one.summarize()
  scores = made(kind).finish(times)
  np.testing.assert_allclose([scores[k] for k in KEYS], one.stats, atol=1e-12)


# Texts.


def row(labels, places, **more):
  """Returns an example as source `coco` has it, 100 pixels high, 200 wide."""
  shape = {"height": 100, "width": 200}
  return {"boxes": places, "labels": labels, **shape, **more}


def scored(name, texts, examples):
  """Returns scores; COCO's precision of what is all right is 1 - 1e-16."""
  found = metrics_lib.METRICS[name](texts, examples)
  return {key: round(value, 9) for key, value in found.items()}


bbox = functools.partial(scored, "coco_bbox")
segm = functools.partial(scored, "coco_segm")


def test_texts_score_as_results_in_coco_s_form():
  """Golden detections written as locations, and those read back by hand."""
  truth, found, _ = golden()
  names = {c["id"]: c["name"] for c in truth["categories"]}
  of = lambda rows, i: [r for r in rows if r["image_id"] == i]
  texts, examples, results = [], [], []

  def fractions(rows, height, width):
    corners = [[y, x, y + h, x + w] for x, y, w, h in (r["bbox"] for r in rows)]
    return boxes.from_pixels(np.reshape(corners, (-1, 4)), height, width)

  for image in truth["images"]:
    width, height = image["width"], image["height"]
    some = of(found, image["id"])
    places = fractions(some, height, width)
    texts.append(boxes.detect(places, [names[d["category_id"]] for d in some]))
    for d, one in zip(some, boxes.read(texts[-1])[0]):
      y1, x1, y2, x2 = boxes.to_pixels(one.box, height, width).tolist()
      results.append({**d, "bbox": [x1, y1, x2 - x1, y2 - y1]})
      del results[-1]["segmentation"]
    true = of(truth["annotations"], image["id"])
    examples.append(
      {
        "boxes": fractions(true, height, width).tolist(),
        "labels": [names[a["category_id"]] for a in true],
        "iscrowd": [a["iscrowd"] for a in true],
        "area": [a["area"] for a in true],
        "height": height,
        "width": width,
        "scores": [d["score"] for d in some],
      }
    )
  scores = metrics_lib.METRICS["coco_bbox"](texts, examples)
  wanted = precision.average(truth, results, "bbox")
  assert scores.pop("unparsable") == 0
  assert scores.pop("unknown") == 0
  assert scores.keys() == wanted.keys()
  np.testing.assert_allclose(
    list(scores.values()), [wanted[k] for k in scores], atol=1e-6
  )
  assert wanted["AP"] == pytest.approx(
    golden()[2]["bbox"]["stats"][0], abs=0.01
  )


def test_a_likelier_box_first_is_better_than_a_likelier_box_last():
  example = row(["cat"], [[0, 0, 1, 1]])
  text = f"{LEFT} cat ; {WHOLE} cat"
  ap = lambda scores: bbox([text], [example | {"scores": scores}])["AP50"]
  assert ap([0.1, 0.9]) == 1
  assert ap([0.9, 0.1]) == 1  # LEFT has an overlap of one half
  scores = bbox([text], [example | {"scores": [0.9, 0.1]}])
  assert scores["AP75"] == 0.5


def test_boxes_without_scores_are_likely_in_the_order_of_the_text():
  example = row(["cat"], [[0, 0, 1, 1]])
  first = bbox([f"{WHOLE} cat ; {LEFT} cat"], [example])
  last = bbox([f"{LEFT} cat ; {WHOLE} cat"], [example])
  assert (first["AP75"], last["AP75"]) == (1, 0.5)
  # Of two images only the second has scores: that box comes first.
  other = example | {"scores": [0.5]}
  scores = bbox([f"{LEFT} cat", f"{WHOLE} cat"], [example, other])
  assert scores["AP75"] == pytest.approx(51 / 101)


def test_a_box_written_twice_counts_once_with_its_best_score():
  example = row(["cat", "dog"], [[0, 0, 1, 1]] * 2)
  text = f"{WHOLE} cat ; {LEFT} cat ; {WHOLE} cat ; {WHOLE} dog"
  scores = bbox([text], [example | {"scores": [0.1, 0.5, 0.9, 0.2]}])
  assert scores["AP/cat"] == scores["AP/dog"] == 1


def test_what_there_is_not_has_no_score():
  """An image of 100 x 200 pixels has one large object and no others."""
  scores = bbox([f"{WHOLE} cat"], [row(["cat"], [[0, 0, 1, 1]])])
  assert scores.keys() == {
    *("AP AP50 AP75 APl AR1 AR10 AR100 ARl AP/cat unparsable unknown".split())
  }
  assert all(np.isfinite(value) for value in scores.values())


def test_names_that_nothing_has_and_other_text_are_counted_and_left_out():
  examples = [row(["cat"], [[0, 0, 1, 1]]), row([], [], classes=["cow"])]
  texts = [f"{WHOLE} cat ; {WHOLE} dgo ; hello", f"{WHOLE} cow"]
  scores = bbox(texts, examples)
  assert scores["AP"] == 1
  assert scores["unknown"] == pytest.approx(1 / 3)
  assert scores["unparsable"] == 0.5


def test_crowds_cost_nothing_and_need_not_be_found():
  crowd = row(["cat", "cat"], [[0, 0, 1, 0.1], [0, 0.5, 1, 1]], iscrowd=[0, 1])
  text = "<loc0000><loc0000><loc1023><loc0102> cat"
  inside = "<loc0000><loc0600><loc1023><loc0900> cat"
  assert bbox([text], [crowd])["AR100"] == 1
  scores = bbox([f"{text} ; {inside}"], [crowd | {"scores": [0.1, 0.9]}])
  assert scores["AP"] == 1


def test_fields_that_are_null_are_those_that_are_not_there():
  plain = row(["cat"] * 2, [[0, 0, 1, 0.1], [0, 0.5, 1, 1]])
  text = "<loc0000><loc0000><loc1023><loc0102> cat"
  for value in (None, [None, None]):
    assert bbox([text], [plain]) == bbox(
      [text], [plain | {"iscrowd": value, "area": value}]
    )


def segmented(mask, box=(0.25, 0.25, 0.75, 0.75), label="cat"):
  codes = masks.encode(masks.load(masks.NANO), mask, box)
  return boxes.detect([box], [label], [codes])


def square(height=100, width=200):
  mask = np.zeros((height, width), bool)
  mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = True
  return mask


def test_masks_of_texts_are_drawn_on_the_image():
  mask = square()
  corners = [[50.0, 25, 150, 25, 150, 75, 50, 75]]
  # Down each column: of 50 there are 25 pixels outside, 50 inside, 25 outside.
  counts = [50 * 100 + 25, *([50] * 199), 25 + 50 * 100]
  runs = {"size": [100, 200], "counts": counts}
  truths = [{"segmentation": [corners]}, {"segmentation": [runs]}]
  for truth in [*truths, {"masks": [mask]}, {"mask": mask}]:
    example = row(["cat"], [[0.25, 0.25, 0.75, 0.75]], **truth)
    scores = segm([segmented(mask)], [example])
    assert scores["AP75"] == 1
    assert scores["APm"] == scores["AP"]  # 50 x 100 pixels
    assert scores["unparsable"] == 0
    without = segm([f"{WHOLE} cat"], [example])
    assert without == dict.fromkeys(scores, 0.0) | {"unparsable": 1.0}


def test_true_objects_that_are_no_masks_are_refused():
  place, text = [[0.25, 0.25, 0.75, 0.75]], segmented(square())
  wrong = {
    'example 0: wanted an example with "mask"': {},
    "example 0: got 0 true masks and 1 boxes": {"masks": []},
    "polygon.*three points": {"segmentation": [[[1, 2, 3, 4]]]},
    "50 x 50 and its image 100 x 200": {"mask": square(50, 50)},
  }
  for message, truth in wrong.items():
    with pytest.raises(ValueError, match=message):
      segm([text], [row(["cat"], place, **truth)])
  with pytest.raises(ValueError, match="no/codec"):
    segm([text], [row(["cat"], place, mask=square(), codec="no/codec.npz")])


# Bad input.


def test_bad_examples_are_named():
  good = row(["cat"], [[0, 0, 1, 1]])
  wrong = {
    "example 1: .*boxes": {k: good[k] for k in good if k != "boxes"},
    "example 1: wanted 'height' and 'width'": good | {"height": None},
    "example 1: 'scores' has 2 items and the prediction 1 ob": good
    | {"scores": [1, 2]},
    "example 1: 'scores' has nan, item 0": good | {"scores": [float("nan")]},
    "example 1: 'area' has 3 items": good | {"area": [1, 2, 3]},
    "example 1: 'area' should be pixels, but is 'x'": good | {"area": ["x"]},
    "example 1: 'iscrowd' should be 0 and 1": good | {"iscrowd": ["0"]},
  }
  for message, example in wrong.items():
    with pytest.raises(ValueError, match=message):
      bbox([f"{WHOLE} cat"] * 2, [good, example])
  with pytest.raises(ValueError, match="none of the 2 examples has a true box"):
    bbox(["", f"{WHOLE} cat"], [row([], [])] * 2)


def test_empty_predictions_score_0():
  examples = [row(["cat"], [[0, 0, 1, 1]]), row([], [])]
  scores = bbox(["", ""], examples)
  assert scores["AP"] == scores["AR100"] == scores["AP/cat"] == 0


def test_boxes_turned_over_or_without_inside_are_wrong_and_no_error():
  turned = "<loc1023><loc1023><loc0000><loc0000> cat"
  point = "<loc0100><loc0100><loc0100><loc0100> cat"
  example = row(["cat"], [[0, 0, 1, 1]])
  scores = bbox([f"{turned} ; {point} ; {WHOLE} cat"], [example])
  assert scores["AP"] == pytest.approx(1 / 3)


# Intervals.


def test_precision_has_an_interval_of_images_drawn_again():
  found = interval.bootstrap(made("bbox"), resamples=40)
  assert {*KEYS, "AP/c1"} - interval.UNMEASURED <= found.keys()
  for name, one in found.items():
    assert one.low <= one.value <= one.high, name
  assert found["AP"].num == 50
  assert found == interval.bootstrap(made("bbox"), resamples=40)
  assert found["AP"].high - found["AP"].low < 0.2


def test_the_interval_of_a_low_precision_is_around_it():
  """Where the scores say nothing most draws are above the score itself."""
  rng = np.random.default_rng(0)
  examples, texts = [], []
  for i in range(60):  # of 20 classes
    places = [f"<loc0000><loc0000><loc0900><loc{k:04}>" for k in range(5)]
    places[rng.integers(5)] = WHOLE if rng.random() < 0.4 else LEFT
    texts.append(" ; ".join(f"{place} {i % 20}" for place in places))
    scores = rng.random(5).tolist()
    examples.append(row([str(i % 20)], [[0, 0, 1, 1]], scores=scores))
  drawn = metrics_lib.METRICS["coco_bbox"](texts, examples)
  found = interval.bootstrap(drawn)["AP75"]
  assert 0 <= found.low < found.value < found.high < 0.2
  times = np.random.default_rng(1).multinomial(60, [1 / 60] * 60, size=40)
  draws = [drawn.finish(row)["AP75"] for row in times]
  assert np.mean(np.greater(draws, found.value)) > 0.7
  # What chance adds to the score is taken off.
  assert found.low + found.high < 2 * found.value


def test_an_interval_of_few_objects_says_what_it_is_worth():
  """A class of two images, one of twenty: their halves tell little, or much."""
  examples = [row(["cat"], [[0, 0, 1, 1]]) for _ in range(20)]
  examples += [row(["dog"], [[0, 0, 1, 1]]) for _ in range(2)]
  texts = [f"{WHOLE} cat", ""] * 10 + [f"{WHOLE} dog"] * 2
  scores = metrics_lib.METRICS["coco_bbox"](texts, examples)
  found = interval.bootstrap(scores)
  assert (found["AP/cat"].num, found["AP/cat"].level) == (20, 0.95)
  assert (found["AP/dog"].num, found["AP/dog"].level) == (2, 0.5)
  assert (found["AP"].num, found["AP"].level) == (22, 0.9)  # 11 of a class
  narrow = interval.bootstrap(scores, level=0.8)
  assert found["AP/cat"].low < narrow["AP/cat"].low
  assert narrow["AP/cat"].high < found["AP/cat"].high
  # AP50 is worth less where no detection is likelier than another.
  likely = [[0.1 + 0.01 * i] * bool(text) for i, text in enumerate(texts)]
  ranked = [e | {"scores": s} for e, s in zip(examples, likely)]
  ranked = interval.bootstrap(metrics_lib.METRICS["coco_bbox"](texts, ranked))
  assert (found["AP50"].level, ranked["AP50"].level) == (0.83, 0.9)
  assert found["AP75"].level == ranked["AP75"].level == 0.9


def test_texts_that_are_scored_have_the_interval_of_their_metric():
  examples = [row(["cat"], [[0, 0, 1, 1]])] * 6
  texts = [f"{WHOLE} cat"] * 3 + [""] * 3
  scores = metrics_lib.score("coco_bbox", texts, examples)
  found = interval.bootstrap(scores)
  # Those of which nothing was measured have none.
  assert found.keys() == {"AP", "AP50", "AP75", "AR100", "AP/cat"}
  assert found.keys() < scores.keys()
  assert 0 <= found["AP"].low < scores["AP"] < found["AP"].high <= 1
