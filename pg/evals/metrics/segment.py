"""Overlap of predicted masks (`<seg>` tokens) with true ones.

An example's true masks are its `mask` (bool[height, width]), `masks` (one for
each object) or `segmentation` (polygons or run lengths, of one object or each
of several), see `pp.masks.mask_of`. Predictions are drawn in the same size.

Which network the tokens are of is the example's `codec`, a path or URL, as the
op encode_masks writes it; an op such as fmt("vae-oid.npz", out="codec") does
too. Without it it is the one that pg has, masks.NANO: released checkpoints need
another one.
"""

import re

import numpy as np

from pg.codecs import boxes as boxes_lib
from pg.codecs import masks as masks_lib
from pg.evals.metrics import detect, exact, statistics
from pg.pp import masks as mask_ops
from pg.pp import objects as objects_lib

# Masks that are decoded at a time.
_BLOCK = 64
# What a referring expression is answered with; what comes after is not read.
_ANSWER = re.compile(r"\s*(?:<loc[0-9]{4}>){4}(?:<seg[0-9]{3}>){16}")


def refcoco(predictions, examples):
  """Scores referring expressions: RefCOCO, RefCOCO+, RefCOCOg.

  As big_vision's evaluator: only four locations and 16 codes at the start of a
  prediction are read. Examples have one true mask and perhaps its box, `box` or
  the only one of `boxes`; else it is the one around the mask.

  Returns:
    Sums of
    miou: mean over examples of the masks' intersection over union (IoU) in the
      size of the true mask, the published number.
    ciou: sum of all intersections over sum of all unions.
    box@.5, box@.75: share of the boxes with an IoU of at least that.
    invalid: share of predictions without such a start, or with a box that has
      no inside; their IoUs are 0.

  Raises:
    ValueError: an example without a true mask or with several, or a codec that
      cannot be read.
  """
  rows = np.array(_refer(predictions, examples), np.float64)

  def finish(sums):
    iou, shared, union, half, most, invalid, num = np.moveaxis(sums, -1, 0)
    scores = {"miou": iou / num, "ciou": statistics.quotient(shared, union)}
    scores |= {"box@.5": half / num, "box@.75": most / num}
    return scores | {"invalid": invalid / num}

  num = dict.fromkeys(finish(rows[0]), len(rows))
  return statistics.Sums(rows, finish, num, rows[:, 0].tolist())


def segment(predictions, examples):
  """Scores masks with names, matched as `detect.detect` does it.

  Predictions are such as "<loc....>x4<seg...>x16 cat ; ..."; examples have
  `boxes`, `labels` and as many true masks.

  Returns:
    Sums of miou, the mean over true objects of the IoU of their mask with that
    of their box's partner; iou, recall@.5 and precision@.5 of the boxes; and
    unparsable, the share of predictions with text that is no object with a
    mask. The score of an example is `detect.mean` of its masks.

  Raises:
    ValueError: as `refcoco`, also for a key that is missing.
  """
  rows = np.array(_segment(predictions, examples), np.float64)
  boxes = detect.summed(rows[:, 1:])

  def finish(sums):
    with np.errstate(invalid="ignore"):  # the mean of nothing is nan
      mean = sums[..., 0] / sums[..., 1 + detect.TRUE]
    return {"miou": mean} | boxes.finish(sums[..., 1:])

  num = {"miou": boxes.num["iou"]} | boxes.num
  each = detect.mean(rows[:, 0], rows[:, 1:])
  return statistics.Sums(rows, finish, num, each)


def true_masks(example):
  """Returns the true masks of an example, a list of bool[height, width].

  Raises:
    ValueError: none, or one that is no mask.
  """
  return [mask_ops.mask_of(value, example) for value in true_values(example)]


def true_values(example):
  """Returns what the true masks are made from, one for each object."""
  for key in ("mask", "masks", "segmentation"):
    value = example.get(key)
    if value is None:
      continue
    if key == "mask" or isinstance(value, dict):
      return [value]
    if not isinstance(value, list | tuple | np.ndarray):
      raise ValueError(f"{key!r} should be a list, got {str(value)[:80]}")
    # A polygon is a list of numbers, an object a list of polygons.
    polygons = key == "segmentation" and len(value) and _are_numbers(value[0])
    return [list(value)] if polygons else list(value)
  raise ValueError(
    'wanted an example with "mask", "masks" or "segmentation", got'
    f" {sorted(example)}"
  )


def decoded(found):
  """Yields f32[64, 64] for each (boxes.Object with codes, example) of a list.

  A block at a time: one by one takes six times as long.
  """
  for i in range(0, len(found), _BLOCK):
    block = found[i : i + _BLOCK]
    codecs = [example.get("codec") or "nano" for _, example in block]
    masks = np.empty((len(block), masks_lib.SIDE, masks_lib.SIDE), np.float32)
    for codec in set(codecs):
      rows = [j for j, name in enumerate(codecs) if name == codec]
      codes = [block[j][0].codes for j in rows]
      masks[rows] = masks_lib.decode(mask_ops.network(codec), codes)
    yield from masks


def _are_numbers(value):
  value = list(value) if isinstance(value, list | tuple | np.ndarray) else []
  return (
    bool(value)
    and np.ndim(value[0]) == 0
    and not isinstance(value[0], dict | str | bytes)
  )


def _refer(predictions, examples):
  """Returns the sufficient statistics of `refcoco`, a tuple per example."""
  answers = exact.each(lambda p, _: _answer(p), predictions, examples)
  found = [(a, e) for a, e in zip(answers, examples) if a]
  answers, masks = iter(answers), decoded(found)

  def row(_, example):
    one, truth = next(answers), true_masks(example)
    if len(truth) != 1:
      raise ValueError(f"got {len(truth)} true masks; wanted one")
    (truth,) = truth
    if one is None:
      return 0, 0, np.sum(truth), 0, 0, 1, 1
    overlap = _overlap(next(masks), one.box, truth)
    box = boxes_lib.iou([one.box], [_true_box(example, truth)]).item()
    return *overlap, box >= 0.5, box >= 0.75, 0, 1

  return exact.each(row, predictions, examples)


def _answer(prediction):
  """Returns the object that a prediction starts with; None: invalid."""
  start = _ANSWER.match(prediction)
  objects, _ = boxes_lib.read(start[0]) if start else ([], None)
  if not objects or not objects[0].codes:
    return None
  y1, x1, y2, x2 = objects[0].box
  return objects[0] if y1 < y2 and x1 < x2 else None


def _true_box(example, mask):
  """Returns the box of an object, y1 x1 y2 x2 in 0..1."""
  if example.get("box") is not None:
    return objects_lib.checked([example["box"]], "box")[0]
  if example.get("boxes") is not None:
    found = objects_lib.boxes_of(example)
    if len(found) != 1:
      raise ValueError(f"got {len(found)} true boxes; wanted one")
    return found[0]
  y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
  if not y.size:
    return np.zeros(4)
  edges = [y[0], x[0], y[-1] + 1, x[-1] + 1]
  return boxes_lib.from_pixels(edges, *mask.shape)


def _segment(predictions, examples):
  """Returns those of `segment`: the sum of IoUs of masks, then `detect.row`."""
  matched = exact.each(_match, predictions, examples)
  found = [
    (objects[i], example)
    for (objects, *_, partner), example in zip(matched, examples)
    for i in partner
    if i >= 0 and objects[i].codes
  ]
  matched, masks = iter(matched), decoded(found)

  def row(_, example):
    (objects, rest, ious, partner), truths = next(matched), true_masks(example)
    if len(truths) != len(ious):
      raise ValueError(f"got {len(truths)} true masks and {len(ious)} labels")
    total = sum(
      _overlap(next(masks), objects[i].box, truth)[0]
      for truth, i in zip(truths, partner)
      if i >= 0 and objects[i].codes
    )
    failed = bool(rest) or not all(o.codes for o in objects)
    return total, *detect.row(ious, len(objects), failed)

  return exact.each(row, predictions, examples)


def _match(prediction, example):
  """Returns objects, other text, and what `detect.match` does."""
  objects, rest = boxes_lib.read(prediction)
  names = objects_lib.labels_of(example)
  truth = map(boxes_lib.Object, objects_lib.boxes_of(example), names)
  return objects, rest, *detect.match(objects, list(truth))


def _overlap(mask, box, truth):
  """Returns IoU (0 of two empty masks), intersection and union in pixels."""
  found = masks_lib.paste(mask, box, *truth.shape)
  shared, union = np.sum(found & truth), np.sum(found | truth)
  return shared / max(1, union), shared, union
