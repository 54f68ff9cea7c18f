"""Records of predictions: what is kept of each, and their JSON lines.

A record is a line of `predictions/<evaluator>-<step>.jsonl`:

  index       row of the data
  where       its name, such as "val.jsonl:17"
  image_ref   path or URL of its image, a list of several; where the data has
              one and does not hold the image itself
  id          its numbers and short texts: what test servers ask for
  prompt, prediction, logp (of the whole prediction)
  truth       the suffix, "" where there is none
  answers, task, kind   where the example has them
  score       where the metric is a mean over examples
  scores      one per object of the prediction: how likely its name is
  image       what the model saw, PNG in base64: of NUM_IMAGES, the first and
              the worst, those whose `image_ref` is no image file at hand
"""

import base64
import io
import json
import math
import re

import numpy as np
from PIL import Image

from pg import atomic, progress
from pg.codecs import boxes, tokenizer

NUM_IMAGES = 24
# Longest text that is kept of a row, besides prompt and answers.
_MAX_TEXT = 200


def record(index, where, ref, text, logp, example):
  """Returns the record of an answer, without `score` and images."""
  kept = {k: example[k] for k in ("answers", "task", "kind") if k in example}
  ids = {
    k: _plain(v)
    for k, v in example.items()
    if k not in ("prefix", "suffix", "scores", "image_ref") and _is_short(v)
  }
  record = {"index": index, "where": progress.safe(where), "id": ids}
  if ref:
    record["image_ref"] = ref
  record |= {"prompt": example["prefix"], "truth": example.get("suffix", "")}
  record |= {"prediction": text, "logp": logp}
  if "scores" in example:
    record["scores"] = example["scores"]
  return record | kept


def _is_short(value):
  value = _plain(value)
  if isinstance(value, str):
    return len(value) <= _MAX_TEXT
  return isinstance(value, int | float) and math.isfinite(value)


def _plain(value):
  return value.item() if isinstance(value, np.generic) else value


def object_scores(tok, tokens, logp):
  """Returns how likely the name of each object is, in 0..1.

  An object is what `boxes.read` takes for one: exactly four locations, then
  perhaps codes of a mask, then the tokens of its name. Its score is their
  probability given everything before, as in PaliGemma 2, appendix C; it is 1
  without a name.

  Args:
    tok: Tokenizer.
    tokens: i32[L], what a model wrote.
    logp: f32[L].

  Returns:
    list of float, as many as `boxes.read(tok.decode(tokens))` has objects;
    None where the text spells locations out with other tokens.
  """
  first = tok.vocab_size - len(tokenizer.ADDED)
  tokens = [int(t) for t in tokens]
  end = tokens.index(tok.eos) if tok.eos in tokens else len(tokens)
  pieces = tok.pieces(tokens[:end])
  # What each token is: a location, the end of an object, or part of a name.
  kinds = "".join(
    "L" if first <= token < first + 1024 else ";" if ";" in piece else "."
    for token, piece in zip(tokens, pieces)
  )
  if "L" not in kinds:
    return []
  scores = []
  for one in re.finditer("(L+)([^L;]*)", kinds):
    if len(one[1]) == 4:
      named = [
        float(logp[i])
        for i in range(*one.span(2))
        if tokens[i] < first and pieces[i].strip("▁ ")
      ]
      scores.append(math.exp(math.fsum(named)))
  objects, _ = boxes.read(tok.decode(tokens))
  return scores if len(scores) == len(objects) else None


def is_image(ref):
  """Returns whether an `image_ref` is an image file at hand, or a list of them.

  One at a URL is not, nor is a video.
  """
  names = ref if isinstance(ref, list) else [ref]
  if not names or not all(isinstance(name, str) for name in names):
    return False
  try:
    for name in names:
      with Image.open(name):
        pass
  except (OSError, ValueError, Image.DecompressionBombError):
    return False
  return True


def png(images):
  """Encodes u8[M, R, R, 3], side by side, as base64 PNG text."""
  out = io.BytesIO()
  Image.fromarray(np.concatenate(images, axis=1)).save(out, "PNG")
  return base64.b64encode(out.getvalue()).decode()


def write(path, records):
  """Writes records as JSON lines, under another name until all are there."""
  with atomic.replacing(path) as part, open(part, "w", encoding="utf-8") as f:
    for record in records:
      f.write(progress.plain(json.dumps(record, ensure_ascii=False)) + "\n")


def read(path):
  """Reads what `write` wrote, also of an older run.

  Returns:
    list of dict, each with `index`, `where`, `prompt`, `truth`, `prediction`,
    `id` and, where the line has it, the rest.

  Raises:
    ValueError: no lines, or one that is no such record; it is named.
  """
  records, lines = [], {}
  with open(path, encoding="utf-8") as f:
    for i, line in enumerate(f, start=1):
      try:
        record = _checked(json.loads(line))
      except ValueError as error:
        raise ValueError(f"{path}:{i}: {error}") from error
      index = record["index"]
      if index in lines:
        raise ValueError(
          f"{path}:{i}: index {index} is also that of line {lines[index]}"
        )
      lines[index] = i
      records.append(record)
  if not records:
    raise ValueError(f"{path} is empty, wanted a line for each prediction")
  return records


def _checked(record):
  """Returns a line's record, complete.

  Raises:
    ValueError: a key is missing, or has another kind of value.
  """
  if not isinstance(record, dict):
    raise ValueError(f"wanted a JSON object, got {str(record)[:60]!r}")
  kinds = {"index": int, "prompt": str, "truth": str, "prediction": str}
  for key, kind in kinds.items():
    if not isinstance(record.get(key), kind):
      raise ValueError(
        f'wanted "{key}" of type {kind.__name__}, got {record.get(key)!r}; is'
        " this a file of predictions?"
      )
  for key in ("score", "logp"):
    value = record.get(key, 0.0)
    if not isinstance(value, int | float) or not math.isfinite(value):
      raise ValueError(f'wanted a finite number as "{key}", got {value}')
  return {"where": f"index {record['index']}", "id": {}} | record
