"""Writes submission files for test servers from an evaluator's predictions.

A format is a function of records (records.py): it looks in the `id` of each for
the number or name that the release gave to the question or image. Layouts
marked "read" are those of the release's own code, server page or samples;
"unverified" ones are from memory or from a reader of others: try the server's
validation before you rely on one.

  activitynet_qa  [{"question_id": str, "answer": str}], read
  aokvqa_da, aokvqa_mc  {question_id: {"direct_answer": str}}, and with
                  "multiple_choice"; read. `join` makes one file of both. That
                  the choice is one of the texts to choose from isn't checked.
  coco_captions   [{"image_id": int, "caption": str}], read
  coco_detection  [{"image_id": int, "category_id": int, "bbox": [x, y, w, h],
                  "score": float}] in pixels of the original image, read
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

import json

from pg import atomic, config
from pg.evals import coco_results


def write(path, names, parts):
  """Writes the file of a test server and says what is odd about it.

  Args:
    path: str.
    names: list of str, of FORMATS: one for all parts, or one for each.
    parts: list of the records of an evaluator, records.py.

  Raises:
    ValueError: as `make` and `join`, or another number of formats.
  """
  if len(names) == 1:
    parts = [sum(parts, [])]
  if len(names) != len(parts):
    raise ValueError(
      f"got {len(names)} formats for {len(parts)} files of predictions; wanted"
      " one for all or one for each"
    )
  made, notes = zip(*map(make, names, parts))
  content = made[0] if len(made) == 1 else join(made)
  atomic.write(path, json.dumps(content, ensure_ascii=False))
  for note in sum(notes, []):
    print(f"{path}: {note}")


def make(name, records):
  """Returns the content of a test server's file, and what is odd about it.

  Args:
    name: str, of FORMATS.
    records: list of dict, records.py.

  Returns:
    what JSON has, and a list of str.

  Raises:
    ValueError: an unknown format, no records, or a record without its id or
      with that of another.
  """
  form = config.lookup(FORMATS, name, "submission format")
  if not records:
    raise ValueError(f"no predictions to make a {name} file of")
  made = form(records)
  made, more = made if form == _detection else (made, [])
  notes = []
  empty = [r for r in records if not r["prediction"].strip()]
  if empty:
    notes.append(
      f"{len(empty)} of {len(records)} predictions are empty, the first is that"
      f" of {empty[0]['where']}"
    )
  return made, notes + more


def join(parts):
  """Makes one file of what two evaluators say of the same questions.

    join([{"q": {"direct_answer": "a"}}, {"q": {"multiple_choice": "b"}}]) ==
      {"q": {"direct_answer": "a", "multiple_choice": "b"}}

  Raises:
    ValueError: not such mappings, or two answers of the same kind.
  """
  joined = {}
  for part in parts:
    values = part.values() if isinstance(part, dict) else [part]
    if not all(isinstance(value, dict) for value in values):
      raise ValueError("only aokvqa_da and aokvqa_mc can be joined in one file")
    for key, value in part.items():
      twice = joined.setdefault(key, {}).keys() & value.keys()
      if twice:
        raise ValueError(f"two files have the {sorted(twice)[0]} of {key!r}")
      joined[key] |= value
  return joined


def identity(record, keys, convert):
  """Returns the id that a release gave to a record.

  Args:
    record: dict.
    keys: names it may have in the record's `id`, the likeliest first.
    convert: `number`, or str.

  Raises:
    ValueError: none of the keys, or a value of another kind.
  """
  found = next((k for k in keys if k in record["id"]), None)
  if found is None:
    raise ValueError(
      f'the record of {record["where"]} has no "{keys[0]}", only'
      f" {', '.join(sorted(record['id'])) or 'nothing'}; let the data have that"
      " key in each row"
    )
  try:
    return convert(record["id"][found])
  except ValueError as error:
    raise ValueError(
      f'"{found}" of the record of {record["where"]} is'
      f" {record['id'][found]!r}, wanted a whole number"
    ) from error


def number(value):
  """Returns an int, also of digits in a str or a float."""
  if isinstance(value, bool) or isinstance(value, float) and value % 1:
    raise ValueError(value)
  return int(value)


def _unique(records, names):
  """Returns {name: prediction}.

  Raises:
    ValueError: two records of the same name.
  """
  first = {}
  for record, name in zip(records, names):
    if name in first:
      raise ValueError(
        f"{first[name]['where']} and {record['where']} are both {name!r}; a"
        " test server wants one answer to each"
      )
    first[name] = record
  return {name: r["prediction"].strip() for name, r in first.items()}


def _answers(records, keys, convert):
  """Returns {id: prediction}."""
  return _unique(records, [identity(r, keys, convert) for r in records])


def _list(keys, convert, field):
  """Returns the format [{key: id, field: prediction}]."""
  return lambda records: [
    {keys[0]: name, field: text}
    for name, text in _answers(records, keys, convert).items()
  ]


def _mapping(keys, field=None):
  """Returns the format {id: prediction}, or {id: {field: prediction}}."""
  return lambda records: {
    name: {field: text} if field else text
    for name, text in _answers(records, keys, str).items()
  }


def _vizwiz(records):
  answers = _unique(records, map(_vizwiz_name, records))
  return [{"image": name, "answer": text} for name, text in answers.items()]


def _vizwiz_name(record):
  """Returns an image's file name, also from its number in the test set."""
  ids = record["id"]
  for name in (ids.get("image"), ids.get("file_name"), record.get("image_ref")):
    if isinstance(name, str):
      return name.rsplit("/", 1)[-1]
  i = identity(record, ("image", "image_id", "question_id"), number)
  return f"VizWiz_test_{i:08}.jpg"


def _detection(records):
  keys = [(identity(r, _IMAGE, number), r["prompt"]) for r in records]
  _unique(records, keys)
  return coco_results.coco(records, [i for i, _ in keys])


_QUESTION, _RRC = ("question_id", "questionId"), ("questionId", "question_id")
_IMAGE = ("image_id", "cocoid", "id")
_QUESTIONS = _list(_QUESTION, number, "answer")
_DOCUMENTS = _list(_RRC, number, "answer")
_CAPTIONS = _list(_IMAGE, number, "caption")

FORMATS = {
  "activitynet_qa": _list(_QUESTION, str, "answer"),
  "aokvqa_da": _mapping(_QUESTION, "direct_answer"),
  "aokvqa_mc": _mapping(_QUESTION, "multiple_choice"),
  "coco_captions": _CAPTIONS,
  "coco_detection": _detection,
  "docvqa": _DOCUMENTS,
  "gqa": _list(_RRC, str, "prediction"),
  "infovqa": _DOCUMENTS,
  "nocaps": _CAPTIONS,
  "okvqa": _QUESTIONS,
  "stvqa": _QUESTIONS,
  "textcaps": _list(_IMAGE, str, "caption"),
  "textvqa": _QUESTIONS,
  "vatex": _mapping(("videoID", "video_id")),
  "vizwiz": _vizwiz,
  "vqav2": _QUESTIONS,
}
