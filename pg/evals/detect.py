"""Scores boxes that a model wrote as `<loc>` tokens, by their overlap."""

import numpy as np

from pg.codecs import boxes
from pg.evals import exact, table


def detect(predictions, examples):
  """Matches predicted with true boxes and makes the Table of how they agree.

  In each image, pairs of a predicted and a true box of the same label are taken
  greedily, largest intersection over union (IoU) first. A true box without a
  partner counts with an IoU of 0.

  Args:
    predictions: list of str, such as "<loc0000><loc0000><loc0512><loc0512> cat
      ; <loc0000><loc0512><loc1023><loc1023> red car".
    examples: list of dicts with the true boxes as such a text, `suffix`.

  Returns:
    Table of
    iou: mean over all true boxes, in 0..1.
    recall@.5: share of the true boxes met with an IoU of at least 0.5.
    precision@.5: share of the predicted boxes that meet a true one so; 0 where
      none is predicted. Without it, writing many boxes would cost nothing.
    unparsable: share of the predictions with text that is no object.

  Raises:
    ValueError: no predictions, not as many as examples, a true text that does
      not parse, or no true box at all.
  """
  rows = np.array(exact.each(_row, predictions, examples), np.float64)
  if not rows[:, _NUM_TRUE].sum():
    raise ValueError(
      f"none of the {len(examples)} examples has a true box in its suffix"
    )

  def finish(sums):
    iou, hits, true, found, failed, num = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore"):  # the mean of nothing is nan
      scores = {"iou": iou / true, "recall@.5": hits / true}
    scores["precision@.5"] = hits / np.maximum(1, found)
    return scores | {"unparsable": failed / num}

  some = int(np.count_nonzero(rows[:, _NUM_TRUE]))
  num = {"iou": some, "recall@.5": some}
  num |= {"precision@.5": len(rows), "unparsable": len(rows)}
  return table.Table(rows, finish, num)


# The column of a Table's summands that is the number of true boxes.
_NUM_TRUE = 2


def _row(prediction, example):
  """Returns what an image adds to the sums."""
  objects, rest = boxes.parse(prediction)
  ious = _match(objects, _truth(example)).astype(np.float64)
  hits = np.sum(ious >= 0.5)
  return ious.sum(), hits, len(ious), len(objects), bool(rest), 1


def per_example(prediction, example):
  """Returns the mean IoU over an image's true boxes, in 0..1.

  Where there is no true box: 1.0 for a prediction without boxes, else 0.0.
  """
  objects, _ = boxes.parse(prediction)
  truth = _truth(example)
  if not truth:
    return float(not objects)
  return float(np.mean(_match(objects, truth)))


def _truth(example):
  text = example.get("suffix")
  if text is None:
    raise ValueError(
      f'wanted an example with its boxes in "suffix", got {sorted(example)}'
    )
  objects, rest = boxes.parse(text)
  if rest:
    raise ValueError(f"{rest[0]!r} is not an object in the true {text!r}")
  return objects


def _match(objects, truth):
  """Returns the IoU of each true box with its partner, 0 without: f32[N]."""
  best = np.zeros(len(truth), np.float32)
  overlap = boxes.iou([box for box, _ in objects], [box for box, _ in truth])
  same = [[name == true for _, true in truth] for _, name in objects]
  overlap *= np.reshape(same, overlap.shape)
  while overlap.size and overlap.max() > 0:
    i, j = np.unravel_index(np.argmax(overlap), overlap.shape)
    best[j] = overlap[i, j]
    overlap[i, :] = overlap[:, j] = 0
  return best
