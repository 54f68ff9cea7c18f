"""COCO's results file of predicted boxes.

COCO numbers 80 of 90 kinds of things; pixels are those of the original image
(https://cocodataset.org/#format-results).
"""

from pg.codecs import boxes

# In the order of their numbers, "-" where one isn't used.
_NAMES = """
person|bicycle|car|motorcycle|airplane|bus|train|truck|boat|traffic light|
fire hydrant|-|stop sign|parking meter|bench|bird|cat|dog|horse|sheep|cow|
elephant|bear|zebra|giraffe|-|backpack|umbrella|-|-|handbag|tie|suitcase|
frisbee|skis|snowboard|sports ball|kite|baseball bat|baseball glove|skateboard|
surfboard|tennis racket|bottle|-|wine glass|cup|fork|knife|spoon|bowl|banana|
apple|sandwich|orange|broccoli|carrot|hot dog|pizza|donut|cake|chair|couch|
potted plant|bed|-|dining table|-|-|toilet|-|tv|laptop|mouse|remote|keyboard|
cell phone|microwave|oven|toaster|sink|refrigerator|-|book|clock|vase|scissors|
teddy bear|hair drier|toothbrush
"""
CATEGORIES = {
  name: i
  for i, name in enumerate(_NAMES.replace("\n", "").split("|"), start=1)
  if name != "-"
}


def coco(records, image_ids):
  """Returns the results of detection, one item per box, and notes on them.

  The score of a box is how likely its name is; 1 where the record has no
  scores. Boxes of other names are left out, and so are those without inside.

  Args:
    records: list of dict with the image's `height` and `width` in `id`.
    image_ids: list of int, their numbers.

  Returns:
    list of {"image_id": int, "category_id": int, "bbox": [x, y, w, h], "score":
    float}; and what was left out or made up, a list of str.

  Raises:
    ValueError: a record without the size of its image, or with another number
      of scores than of boxes.
  """
  found, others, unscored = [], [], 0
  for record, image_id in zip(records, image_ids):
    height, width = _size(record)
    objects, _ = boxes.read(record["prediction"])
    others += [o.label for o in objects if o.label not in CATEGORIES]
    unscored += bool(objects) and "scores" not in record
    for one, score in zip(objects, _scores(record, len(objects))):
      y1, x1, y2, x2 = boxes.to_pixels(one.box, height, width).tolist()
      if one.label in CATEGORIES and y1 < y2 and x1 < x2:
        bbox = [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)]
        item = {"image_id": image_id, "category_id": CATEGORIES[one.label]}
        found.append(item | {"bbox": bbox, "score": score})
  notes = []
  if others:
    names = ", ".join(map(repr, list(dict.fromkeys(others))[:3]))
    notes.append(
      f"{len(others)} boxes are left out, their names are not COCO's: {names}"
    )
  if unscored:
    notes.append(
      f"{unscored} predictions have no scores, their boxes get 1: average"
      " precision is about scores"
    )
  return found, notes


def _scores(record, num):
  scores = record.get("scores", [1.0] * num)
  if len(scores) != num:
    raise ValueError(
      f"{record['where']} has {len(scores)} scores and its prediction has {num}"
      " boxes"
    )
  return scores


def _size(record):
  size = [record["id"].get(key) for key in ("height", "width")]
  if not all(isinstance(n, int) and n > 0 for n in size):
    keys = ", ".join(sorted(record["id"])) or "nothing"
    raise ValueError(
      f"the record of {record['where']} has no height and width of its image"
      f" in pixels, only {keys}; let the data have both in each row"
    )
  return size
