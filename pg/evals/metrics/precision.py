"""Average precision and recall of detections, as COCO defines them.

pycocotools matches the objects of each image. Precision and recall are computed
from the matches here, so that images can be drawn again and a score has a
confidence interval.
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np

from pg.evals.metrics import statistics

# Scores: the number of the area range, how many detections of an image count,
# and whether it is precision.
_SCORES = {
  "AP": (0, 100, True),
  "AP50": (0, 100, True),
  "AP75": (0, 100, True),
  "APs": (1, 100, True),  # objects below 32 x 32 pixels
  "APm": (2, 100, True),
  "APl": (3, 100, True),  # above 96 x 96
  "AR1": (0, 1, False),
  "AR10": (0, 10, False),
  "AR100": (0, 100, False),
  "ARs": (1, 100, False),
  "ARm": (2, 100, False),
  "ARl": (3, 100, False),
}
# Of the thresholds of overlap .5, .55 ... .95, those of AP50 and AP75.
_THRESHOLDS = {"AP50": slice(0, 1), "AP75": slice(5, 6)}
_RECALLS = np.linspace(0, 1, 101)
# Up to so many classes each has a score of its own, as in PASCAL VOC.
_FEW = 20


def average(truth, detections, kind):
  """Scores COCO's average precision and recall.

  Args:
    truth: dict, a file of annotations in COCO's format.
    detections: list of dicts, a file of results in COCO's format.
    kind: "bbox" or "segm".

  Returns:
    Resampled of AP to ARl, those for which there is an object, and AP/<class>
    where there are at most 20. Its examples are images in the order of their
    ids.
  """
  curves, size = _curves(truth, detections, kind)
  names = {c["id"]: c["name"] for c in truth["categories"]}
  few = len(names) <= _FEW
  finish = lambda times: _finish(curves, times, names if few else {})
  # Images with an object that counts, of each class and area range.
  with_any = {
    name: [len(np.unique(curve.true)) for curve in areas]
    for name, areas in curves.items()
  }
  num, support = dict.fromkeys(_SCORES, size), {}
  for score, (area, *_) in _SCORES.items():
    each = [counts[area] for counts in with_any.values() if counts[area]]
    support[score] = float(np.mean(each)) if each else 0.0
  if few:
    num |= {_class(names[n]): counts[0] for n, counts in with_any.items()}
  tied = len({detection["score"] for detection in detections}) < 2
  return statistics.Resampled(size, finish, num, support, tied=tied)


class Curve(NamedTuple):
  """Objects of a class within an area range, and what was found of them."""

  true: np.ndarray  # i64[objects], the image of each object that counts
  image: np.ndarray  # i64[detections], the image of each, likeliest first
  rank: np.ndarray  # i64[detections], its place in its image
  right: np.ndarray  # bool[thresholds, detections], has a partner that counts
  wrong: np.ndarray  # the same, has none; neither: its partner is ignored


def _curves(truth, detections, kind):
  """Returns {class: [Curve of each area range]}, and the number of images."""
  from pycocotools import coco, cocoeval

  quiet = io.StringIO()
  with contextlib.redirect_stdout(quiet):
    true = coco.COCO()
    true.dataset = dict(
      truth, annotations=list(map(dict, truth["annotations"]))
    )
    true.createIndex()
    if detections:
      found = true.loadRes(list(map(dict, detections)))
    else:
      found = coco.COCO()
    place = {i: n for n, i in enumerate(sorted(true.getImgIds()))}
    curves = {}
    for name in sorted(true.getCatIds()):
      images = {*true.catToImgs[name], *found.catToImgs[name]}
      if images:
        one = cocoeval.COCOeval(true, found, kind)
        one.params.catIds, one.params.imgIds = [name], sorted(images)
        one.evaluate()  # class by class: pairs without objects cost time
        parts = np.reshape(np.array(one.evalImgs, object), (4, -1))
        curves[name] = [_curve(row, place) for row in parts]
  return curves, len(place)


def _curve(parts, place):
  """Makes a Curve of an area range's images, each as pycocotools has it."""
  index = [place[p["image_id"]] for p in parts]
  num = [len(p["dtScores"]) for p in parts]
  join = lambda key: np.concatenate([p[key] for p in parts], axis=-1)
  # As there: stable, so that equal scores stay in the order of images.
  order = np.argsort(-join("dtScores"), kind="stable")
  match, ignored = join("dtMatches") > 0, join("dtIgnore").astype(bool)
  right, wrong = match & ~ignored, ~match & ~ignored
  counts = np.repeat(index, [len(p["gtIgnore"]) for p in parts])
  return Curve(
    counts[join("gtIgnore") == 0],
    np.repeat(index, num)[order],
    np.concatenate([np.arange(n) for n in num])[order],
    right[:, order],
    wrong[:, order],
  )


def _finish(curves, times, names):
  """Returns the scores of images that are there `times`, i64[images]."""
  precisions = {
    (name, area): _precision(curve, times)
    for name, areas in curves.items()
    for area, curve in enumerate(areas)
    if times[curve.true].any()
  }
  scores = {}
  for score, (area, most, is_precision) in _SCORES.items():
    kept = [name for name in curves if (name, area) in precisions]
    if not kept:
      continue
    if is_precision:
      part = _THRESHOLDS.get(score, slice(None))
      values = [precisions[name, area][part] for name in kept]
    else:
      values = [_recall(curves[name][area], times, most) for name in kept]
    scores[score] = float(np.mean(values))
  for name, text in names.items():
    if (name, 0) in precisions:
      scores[_class(text)] = float(np.mean(precisions[name, 0]))
  return scores


def _precision(curve, times):
  """Returns f64[thresholds, 101], the precision at each recall."""
  weight = times[curve.image]
  right = np.cumsum(weight * curve.right, axis=1)
  wrong = np.cumsum(weight * curve.wrong, axis=1)
  recall = right / times[curve.true].sum()
  precision = right / (right + wrong + np.spacing(1))
  # The best at this recall or a higher one; 0 beyond the last.
  best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
  best = np.pad(best, ((0, 0), (0, 1)))
  at = [np.searchsorted(row, _RECALLS) for row in recall]
  return np.take_along_axis(best, np.array(at), axis=1)


def _recall(curve, times, most):
  """Returns the recall at each threshold, f64[thresholds]."""
  weight = times[curve.image] * (curve.rank < most)
  return curve.right @ weight / times[curve.true].sum()


def _class(name):
  return f"AP/{name.replace('/', '')}"
