"""Inspects one row of a dataset: its lengths, its images, its problems."""

import re
from typing import NamedTuple

import numpy as np

from pg.inspect import duplicates
from pg.pp import image as image_ops

_CONTROL = re.compile(
  r"<(?:pad|eos|bos|unk|mask|image|2mass|unused\d+|(?:start|end)_of_\w+)>"
  r"|\[@BOS@\]"
)
_TOKEN = re.compile(r"<loc[0-9]{4}>|<seg[0-9]{3}>")
# What somebody meant to be a location or segment token, right or wrong.
_MEANT = re.compile(
  r"</?\s*(?:loc|seg)(?![a-z])[\s_:=]*-?[\d.]*\s*/?>?"
  r"|\b(?:loc\d{4}|seg\d{3})\b",
  re.IGNORECASE,
)
# Also what is no white space but not seen (zero-width characters, a BOM), and
# the two characters that a shell makes of "\n".
_BLANK = r"[\s\u200b-\u200d\ufeff]"
_EDGE = re.compile(rf"^{_BLANK}|{_BLANK}\Z|\\[nrt]\Z")
_LOCS = re.compile(r"(?:<loc[0-9]{4}>)+")


class RowReport(NamedTuple):
  """What an inspection keeps of one row."""

  index: int
  problems: tuple = ()  # (key of findings.KINDS, detail)
  status: str = "good"  # or "bad", "skipped"
  images: tuple = ()  # digests
  prefix: str = ""
  suffix: str = ""
  num_prefix: int = 0  # tokens: bos, the prompt, the newline
  num_suffix: int = 0  # tokens: the answer, eos


class RecordingSource:
  """A source that keeps the row it returned last, as it was before the ops."""

  def __init__(self, source):
    self.source, self.row = source, None

  def __len__(self):
    return len(self.source)

  def __getitem__(self, i):
    self.row = self.source[i]
    return self.row

  def __getattr__(self, name):
    return getattr(self.source, name)


def inspect(i, row, example, tok):
  """Returns the RowReport of a row that can be used.

  Args:
    i: int, the row's index.
    row: dict as the source has it.
    example: dict after the ops.
    tok: a Tokenizer.
  """
  images = _as_list(row.get("image", example["image"]))
  if not all(isinstance(image, bytes | np.ndarray) for image in images):
    images = _as_list(example["image"])
  prefix, suffix = example["prefix"], example.get("suffix", "")
  problems = text_problems(
    prefix, example.get("suffix"), example.get("no_loss", ())
  )
  if lost := example.get("left_out"):
    problems += (("left_out", f"{lost} of {len(example['boxes'])} objects"),)
  return RowReport(
    i,
    problems,
    images=tuple(map(duplicates.digest, images)),
    prefix=prefix,
    suffix=suffix,
    num_prefix=1 + len(tok.encode(prefix)) + len(tok.sep),
    num_suffix=len(tok.encode(suffix)) + 1,
  )


def turned(row, example):
  """Returns the problem of boxes in an image that was left as it is stored.

  Where its height and width are annotated and no other way round, they say that
  its boxes are of the stored image, or else the row cannot be used.
  """
  texts = example["prefix"] + example.get("suffix", "")
  if not len(example.get("boxes", _LOCS.findall(texts))):
    return ()
  for image in _as_list(row.get("image", ())):
    way = image_ops.orientation(image) if isinstance(image, bytes) else 1
    said = row.get("height"), row.get("width")
    if way > 1 and not (way > 4 and None not in said and said[0] != said[1]):
      return (("turned", f"orientation {way}"),)
  return ()


def classify_failure(row, error):
  """Returns the kind of finding and the message of a row that cannot be used.

  Args:
    row: dict as the source has it, or None where it could not be read.
    error: what was raised.
  """
  text, kind = str(error), "row"
  if not isinstance(error, ValueError | OSError):
    text = f"{type(error).__name__}: {text}"
  while error:
    kind = "image" if isinstance(error, OSError) else kind
    error = error.__cause__
  for image in _as_list((row or {}).get("image", [])):
    try:
      image_ops.to_rgb(image)
    except ValueError:
      kind = "image"
  return kind, text


def text_problems(prefix, suffix=None, no_loss=()):
  """Returns the problems of a prompt, and of its answer if there is one.

  Args:
    prefix: str.
    suffix: str or None.
    no_loss: (start, stop) pairs, see `prefix_lm.make`: boxes of noise there are
      nobody's mistake.

  Returns:
    tuple of (key of findings.KINDS, detail), each key once.
  """
  found = {}
  for text in (prefix, _without(suffix or "", no_loss)):
    if match := _CONTROL.search(text):
      found.setdefault("control", repr(match[0]))
    for kind, detail in _locations(text):
      found.setdefault(kind, detail)
  if _EDGE.search(prefix):
    found["edges"] = repr(prefix if len(prefix) < 40 else prefix[-20:])
  if suffix is None:
    pass
  elif not suffix.strip():
    found["empty"] = f"prompt {prefix[:60]!r}"
  elif suffix.strip() == prefix.strip():
    found["echo"] = repr(suffix[:60])
  elif _gives_away(prefix, suffix):
    found["leak"] = f"{suffix[:40]!r} in {prefix[-60:]!r}"
  return tuple(found.items())


def _without(text, spans):
  """Returns a text without spans and the control piece that names a box."""
  for start, stop in sorted(spans, reverse=True):
    name = _CONTROL.match(text, stop)
    text = f"{text[:start]} {text[name.end() if name else stop :]}"
  return text


def _gives_away(prefix, suffix):
  """Says whether the prompt has a long answer in it, or ends with any.

  A short one in the middle is mostly a choice ("red or blue?").
  """
  prefix, suffix = prefix.strip().lower(), suffix.strip().lower()
  if suffix not in prefix:  # nearly always, and much faster
    return False
  end = "" if len(suffix.split()) >= 3 else "$"
  return bool(re.search(rf"(?<!\w){re.escape(suffix)}(?!\w){end}", prefix))


def _locations(text):
  """Yields the problems of the locations and segments in a text."""
  for match in _MEANT.finditer(text):
    token = _TOKEN.fullmatch(match[0])
    limit = 1023 if match[0].startswith("<loc") else 127
    if not token or int(match[0][4:-1]) > limit:
      yield "loc", repr(match[0])
  for run in _LOCS.findall(text):
    values = [int(n) for n in re.findall("[0-9]{4}", run)]
    if len(values) != 4:
      yield "loc_count", f"{len(values)} in {run[:60]!r}"
      continue
    y1, x1, y2, x2 = values
    if max(values) > 1023:
      continue
    if y2 < y1 or x2 < x1:
      yield "inverted", run
    elif y2 == y1 or x2 == x1:
      yield "flat", run


def _as_list(images):
  return images if isinstance(images, list | tuple) else [images]
