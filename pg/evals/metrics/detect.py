"""Overlap of predicted boxes (`<loc>` tokens) with true ones."""

import numpy as np

from pg.codecs import boxes
from pg.evals.metrics import exact, statistics

# Columns of the sufficient statistics of an image.
IOU, HITS, TRUE, FOUND, FAILED, NUM = range(6)


def detect(predictions, examples):
  """Scores how predicted boxes overlap with true ones of the same label.

  In each image, pairs of a predicted and a true box of the same label are taken
  greedily, largest intersection over union (IoU) first. A true box without a
  partner counts with an IoU of 0.

  Args:
    predictions: list of str, such as "<loc0000><loc0000><loc0512><loc0512> cat
      ; <loc0000><loc0512><loc1023><loc1023> red car".
    examples: list of dicts with the true boxes as such a text, `suffix`.

  Returns:
    Sums of
    iou: mean over all true boxes, in 0..1.
    recall@.5: share of the true boxes met with an IoU of at least 0.5.
    precision@.5: share of the predicted boxes that meet a true one so; 0 where
      none is predicted. Without it, writing many boxes would cost nothing.
    unparsable: share of the predictions with text that is no object.
    The score of an example is `mean`.

  Raises:
    ValueError: a true text that does not parse, or no true box at all.
  """
  return summed(exact.each(_row, predictions, examples))


def summed(rows):
  """Returns the Sums of what `row` returns for each image.

  Raises:
    ValueError: no true box at all.
  """
  rows = np.array(rows, np.float64)
  some = int(np.count_nonzero(rows[:, TRUE]))
  if not some:
    raise ValueError(f"none of the {len(rows)} examples has a true box")

  def finish(sums):
    iou, hits, true, found, failed, num = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):  # the mean of nothing is nan
      scores = {"iou": iou / true, "recall@.5": hits / true}
    scores["precision@.5"] = hits / np.maximum(1, found)
    return scores | {"unparsable": failed / num}

  num = {"iou": some, "recall@.5": some}
  num |= {"precision@.5": len(rows), "unparsable": len(rows)}
  return statistics.Sums(rows, finish, num, mean(rows[:, IOU], rows))


def mean(ious, rows):
  """Returns the mean IoU over the true objects of each image, list of float.

  Where there is no true object: 1.0 for a prediction without any, else 0.0.

  Args:
    ious: f64[images], sums over the true objects of an image.
    rows: f64[images, 6], what `row` returns for each.
  """
  true, nothing = rows[:, TRUE], rows[:, FOUND] == 0
  return np.where(true > 0, ious / np.maximum(1, true), nothing).tolist()


def row(ious, num_found, failed):
  """Returns the sufficient statistics of an image, a tuple as in the columns.

  Args:
    ious: f32[boxes], of each true box with its partner.
    num_found: int, boxes that were predicted.
    failed: whether some text of the prediction is no object.
  """
  ious = ious.astype(np.float64)
  return ious.sum(), np.sum(ious >= 0.5), len(ious), num_found, failed, 1


def _row(prediction, example):
  objects, rest = boxes.read(prediction)
  ious, _ = match(objects, truth(example))
  return row(ious, len(objects), bool(rest))


def truth(example):
  """Returns the true objects in the suffix of an example.

  Raises:
    ValueError: no suffix, or one that does not parse.
  """
  text = example.get("suffix")
  if text is None:
    raise ValueError(
      f'wanted an example with its boxes in "suffix", got {sorted(example)}'
    )
  objects, rest = boxes.read(text)
  if rest:
    raise ValueError(f"{rest[0]!r} is not an object in the true {text!r}")
  return objects


def match(objects, truth):
  """Gives each true box a partner of its label.

  Args:
    objects: list of boxes.Object, predicted.
    truth: the same, true.

  Returns:
    f32[boxes], the IoU with the partner, 0 without; and i64[boxes], its place,
    or -1.
  """
  best = np.zeros(len(truth), np.float32)
  partner = np.full(len(truth), -1)
  overlap = boxes.iou([o.box for o in objects], [o.box for o in truth])
  same = [[o.label == true.label for true in truth] for o in objects]
  overlap *= np.reshape(same, overlap.shape)
  while overlap.size and overlap.max() > 0:
    i, j = np.unravel_index(np.argmax(overlap), overlap.shape)
    best[j], partner[j] = overlap[i, j], i
    overlap[i, :] = overlap[:, j] = 0
  return best, partner
