"""COCO's average precision of predicted boxes and masks.

Texts and examples become two files in COCO's format, annotations and results,
which pg/evals/metrics/precision.py scores.
"""

import math

import numpy as np
from pycocotools import mask as coco_mask

from pg.codecs import boxes as boxes_lib
from pg.codecs import masks as masks_lib
from pg.evals.metrics import exact, precision, segment, statistics
from pg.pp import masks as mask_ops
from pg.pp import objects as objects_lib


def bbox(predictions, examples):
  """Scores COCO's average precision of boxes.

  Args:
    predictions: list of str, such as "<loc0000><loc0000><loc0512><loc0512> cat
      ; <loc0000><loc0512><loc1023><loc1023> red car".
    examples: list of dicts with `boxes`, `labels`, `height` and `width` (pixels
      of the original image), perhaps `iscrowd` and `area`, as the source
      `coco` gives them, and `scores`: list of float, how likely each object of
      `boxes.read(prediction)` is. Where no example has them all are 1, and
      average precision is that of objects in the order of images: a number of
      its own, below the one with scores. Where some have them, the objects of
      the others come last.

  Returns:
    Resampled of AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm and
    ARl, in 0..1, those for which there is an object; AP/<class> of up to 20
    classes; unparsable, the share of predictions with text that is no object;
    and unknown, the share of objects with a name that no true object has and
    that is in no example's `classes`: they are left out. Of the same name and
    box twice in an image the likelier is kept.

  Raises:
    ValueError: no true object, an example without a key or with a bad one, or
      scores that are not finite or not as many as objects.
  """
  return _score(predictions, examples, true_boxes, _found_boxes, "bbox")


def segm(predictions, examples):
  """As `bbox`, of masks: objects without 16 codes are `unparsable`.

  Examples also have `segmentation` (polygons or run lengths), `masks` or `mask`
  (bool[height, width]), and perhaps `codec`, see pg/evals/metrics/segment.py.
  """
  return _score(predictions, examples, true_masks, _found_masks, "segm")


def _score(predictions, examples, true, found, kind):
  scored = any(e.get("scores") is not None for e in examples)
  truths = exact.each(lambda _, e: true(e), predictions, examples)
  if not any(truths):
    raise ValueError(f"none of the {len(examples)} examples has a true box")
  names = {name for e in examples for name in e.get("classes") or ()}
  names |= {label for group in truths for label, _ in group}
  names = {name: number for number, name in enumerate(sorted(names), 1)}
  read = lambda p, e: _results(p, e, names, 0.0 if scored else 1.0)
  kept, rest, unknown, num = zip(*exact.each(read, predictions, examples))
  results = found(kept, examples)
  bad = [
    bool(other) or len(a) < len(b) for other, a, b in zip(rest, results, kept)
  ]
  truth = {
    "images": [
      {"id": i, "height": e["height"], "width": e["width"]}
      for i, e in enumerate(examples)
    ],
    "annotations": _numbered(truths, names),
    "categories": [{"id": n, "name": name} for name, n in names.items()],
  }
  average = precision.average(truth, _numbered(results, names), kind)
  bad, unknown, num = np.array([bad, unknown, num], np.int64)

  def finish(times):
    shares = {"unparsable": float(times @ bad / times.sum())}
    shares["unknown"] = float(times @ unknown / max(1, times @ num))
    return average.finish(times) | shares

  more = {"unparsable": len(num), "unknown": len(num)}
  counted = average.num | more
  return statistics.Resampled(
    average.size, finish, counted, average.support, tied=average.tied
  )


def _numbered(groups, names):
  """Returns the objects of all images in COCO's form."""
  found = [
    {"image_id": i, "category_id": names[label], **fields}
    for i, group in enumerate(groups)
    for label, fields in group
  ]
  return [{"id": n, **fields} for n, fields in enumerate(found, 1)]


def true_boxes(example):
  """Returns the label and the fields of each true object.

  Raises:
    ValueError: an example that cannot be scored.
  """
  return _truths(example, lambda boxes, *_: [{} for _ in boxes])


def true_masks(example):
  """As `true_boxes`, with masks."""
  return _truths(example, _masks)


def _truths(example, more):
  height, width = _size(example)
  labels, boxes = objects_lib.labels_of(example), objects_lib.boxes_of(example)
  crowds = [0] * len(boxes)
  if example.get("iscrowd") is not None:
    crowds = objects_lib.crowds_of(example)
  fields = more(boxes, example, height, width)
  areas = objects_lib.areas_of(example)
  for one, box, crowd, area in zip(fields, boxes, crowds, areas):
    *_, w, h = one["bbox"] = _bbox(box, height, width)
    one["iscrowd"] = crowd
    one["area"] = one.get("area", w * h) if area is None else area
  return list(zip(labels, fields))


def _masks(boxes, example, height, width):
  values = segment.true_values(example) if len(boxes) else []
  if len(values) != len(boxes):
    raise ValueError(f"got {len(values)} true masks and {len(boxes)} boxes")
  return [_runs(value, example, height, width) for value in values]


def _runs(value, example, height, width):
  """Returns the fields of a true mask, polygons drawn as COCO does it."""
  if isinstance(value, list | tuple):
    mask_ops.polygons(value, 1, 1)  # is it one?
    parts = [np.asarray(p, np.float64).tolist() for p in value]
    runs = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
  else:
    mask = mask_ops.mask_of(value, example)
    if mask.shape != (height, width):
      raise ValueError(
        f"a mask is {mask.shape[0]} x {mask.shape[1]} and its image {height} x"
        f" {width} pixels"
      )
    runs = _encode(mask)
  return {"segmentation": runs, "area": float(coco_mask.area(runs))}


def _encode(mask):
  return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def _results(prediction, example, names, default):
  """Returns the objects of an image, and what is left out of them.

  Returns:
    list of (boxes.Object, score) with a known name; other text; the number of
    objects with an unknown name; and of all.
  """
  objects, rest = boxes_lib.read(prediction)
  best = {}
  for one, score in zip(objects, _scores(example, len(objects), default)):
    key = one.label, one.box
    if key not in best or best[key][1] < score:
      best[key] = one, score
  kept = [(one, score) for one, score in best.values() if one.label in names]
  return kept, rest, len(best) - len(kept), len(best)


def _scores(example, num, default):
  values = example.get("scores")
  if values is None:
    return [default] * num
  if len(values) != num:
    raise ValueError(
      f"'scores' has {len(values)} items and the prediction {num} objects"
    )
  scores = [float(value) for value in values]
  for i, score in enumerate(scores):
    if not math.isfinite(score):
      raise ValueError(f"'scores' has {score}, item {i}; wanted numbers")
  return scores


def _found_boxes(groups, examples):
  """Returns the label and fields of objects, a list for each image."""
  return [
    [
      (one.label, {"bbox": _bbox(one.box, *_size(e)), "score": score})
      for one, score in group
    ]
    for group, e in zip(groups, examples)
  ]


def _found_masks(groups, examples):
  """The same of masks: objects without codes are left out."""
  found = [
    (one, e) for g, e in zip(groups, examples) for one, _ in g if one.codes
  ]
  masks = segment.decoded(found)
  paste = lambda one, e: masks_lib.paste(next(masks), one.box, *_size(e))
  return [
    [
      (one.label, {"segmentation": _encode(paste(one, e)), "score": score})
      for one, score in group
      if one.codes
    ]
    for group, e in zip(groups, examples)
  ]


def _bbox(box, height, width):
  """Returns x, y, width and height in pixels; a box turned over is empty."""
  y1, x1, y2, x2 = (float(v) for v in box)
  w, h = max(0.0, x2 - x1) * width, max(0.0, y2 - y1) * height
  return [x1 * width, y1 * height, w, h]


def _size(example):
  size = example.get("height"), example.get("width")
  if not all(isinstance(n, int | np.integer) and n > 0 for n in size):
    raise ValueError(
      "wanted 'height' and 'width', the pixels of the original image; got"
      f" {size[0]!r} and {size[1]!r}"
    )
  return size
