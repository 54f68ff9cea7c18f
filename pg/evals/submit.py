"""Writes what test servers ask for, from the predictions of an evaluator.

A format is a function of records (records.py): it looks in the `id` of each for
the number or name that the release gave to the question or picture. Layouts
marked "read" are those of the release's own code, server page or samples;
"unverified" ones are from memory or from a reader of others: try the server's
validation before you rely on one.

  activitynet_qa  [{"question_id": str, "answer": str}], read
  aokvqa_da, aokvqa_mc  {question_id: {"direct_answer": str}}, and with
                  "multiple_choice"; read. `join` makes one file of both. That
                  the choice is one of the texts to choose from isn't checked.
  coco_captions   [{"image_id": int, "caption": str}], read
  coco_detection  [{"image_id": int, "category_id": int, "bbox": [x, y, w, h],
                  "score": float}] in pixels of the whole picture, read
  docvqa, infovqa [{"questionId": int, "answer": str}], read
  gqa             [{"questionId": str, "prediction": str}], unverified
  nocaps          as coco_captions, unverified
  okvqa, vqav2    [{"question_id": int, "answer": str}], read; OK-VQA has no
                  server, its file is for the official scoring code
  stvqa           [{"question_id": int, "answer": str}], unverified; task 3
  textcaps        [{"image_id": str, "caption": str}], unverified
  textvqa         [{"question_id": int, "answer": str}], read
  vatex           {videoID: caption}, unverified
  vizwiz          [{"image": "VizWiz_test_00000007.jpg", "answer": str}], read
"""

import functools
import json
import os
import warnings

from pg import config
from pg.evals import detections


def write(path, name, records):
  """Writes the file of a test server, under another name until it is complete.

  Args:
    path: str.
    name: str, of FORMATS.
    records: list of dict, records.py.

  Raises:
    ValueError: as `make`.
  """
  save(path, make(name, records))


def make(name, records):
  """Returns the content of a test server's file; warns of empty predictions.

  Args:
    name: str, of FORMATS.
    records: list of dict, records.py.

  Raises:
    ValueError: an unknown format, no records, or a record without its id or
      with that of another.
  """
  form = config.lookup(FORMATS, name, "submission format")
  if not records:
    raise ValueError(f"no predictions to make a {name} file of")
  made = form(records)
  empty = [r for r in records if not r["prediction"].strip()]
  if empty:
    warnings.warn(
      f"{name}: {len(empty)} of {len(records)} predictions are empty, the first"
      f" is of {_where(empty[0])}; they are in the file as they are",
      stacklevel=2,
    )
  return made


def save(path, made):
  """Writes JSON, under another name until it is complete."""
  os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
  with open(f"{path}.tmp", "w", encoding="utf-8") as f:
    json.dump(made, f, ensure_ascii=False)
  os.replace(f"{path}.tmp", path)


def join(parts):
  """Makes one file's content of several, as A-OKVQA's of two evaluators.

    join([{"q": {"direct_answer": "a"}}, {"q": {"multiple_choice": "b"}}]) ==
      {"q": {"direct_answer": "a", "multiple_choice": "b"}}

  Raises:
    ValueError: a list and a mapping, or two answers to the same question.
  """
  if len({type(part) for part in parts}) > 1:
    raise ValueError("these submission formats cannot be one file")
  if isinstance(parts[0], list):
    # What is said of an item: its answer, caption, or box and score.
    joined = sum(parts, [])
    _check_unique([_identity(item) for item in joined], "the files")
    return joined
  joined = {}
  for part in parts:
    for key, value in part.items():
      old = joined.setdefault(key, {} if isinstance(value, dict) else value)
      if not isinstance(value, dict):
        if old is not value:
          raise ValueError(f"the files both have an answer to {key!r}")
      elif old.keys() & value.keys():
        raise ValueError(
          f"the files both have the {sorted(old.keys() & value.keys())[0]} of"
          f" {key!r}"
        )
      else:
        old.update(value)
  return joined
