"""The split syntax of TensorFlow Datasets, for any source with named splits.

  train   train[:98%]   train[10:-5]   train[:98%]+restval   all

Slices are of whole rows, a percentage falls on the nearest one (half to even),
and negative numbers count from the end, as in
https://www.tensorflow.org/datasets/splits. That has three surprises: in a small
split "train[:1%]" may be no rows and "train[-1%:]" all of them; "train[10%:20]"
ends at 20%, since a slice has one unit; and order is as written, so that the
rows of "b+a" are those of b, then those of a.
"""

import re
import warnings
from typing import NamedTuple

from pg import config
from pg.data.formats import rows

_PART = re.compile(r"([\w-]+)(?:\[(-?[\d_.]*)(%?):(-?[\d_.]*)(%?)\])?")


class Absent(ValueError):
  """There is no split of that name."""


class Part(NamedTuple):
  """Rows of one split, from `start` up to and without `stop`."""

  split: str
  start: int
  stop: int


def parse(text, sizes, *, clip=False):
  """Returns the tuple of Part that a text stands for.

  Args:
    text: str.
    sizes: mapping from the name of each split to its number of rows; the values
      are asked for where the split is in the text, and no others.
    clip: bool, whether a slice that goes beyond its split ends there, with a
      warning, as Python's do.

  Raises:
    ValueError: not the syntax, an unknown split (Absent), or a slice that goes
      beyond its split or ends before it starts.
  """
  parts = []
  for piece in re.split(r"\s*\+\s*", text.strip()):
    if piece == "all":
      parts += [Part(name, 0, sizes[name]) for name in sizes]
      continue
    match = _PART.fullmatch(piece)
    bounds = match and match.groups()[1:]
    if not match or ("[" in piece and not bounds[0] and not bounds[2]):
      raise ValueError(
        f"{piece!r} in split {text!r} is no split; write it like train,"
        " train[:98%], train[10:-5] or train+validation[:100]"
      )
    if match[1] not in sizes:
      raise Absent(config.unknown(match[1], sizes, "split"))
    num = sizes[match[1]]
    start, stop = _bounds(bounds, num, f"{piece!r} of {num} rows", clip)
    parts.append(Part(match[1], start, stop))
  return tuple(parts)


def _bounds(texts, num, name, clip):
  """Returns first and last + 1 of the rows of a slice, counted from 0."""
  start, percent, stop, also_percent = texts
  unit = percent or also_percent
  ends = []
  for text, default in ((start, 0), (stop, num)):
    try:
      at = (float if unit else int)(text) if text else default
    except ValueError as e:
      what = "percentage" if unit else "whole number"
      raise ValueError(f"{name}: {text!r} is no {what}") from e
    if text and unit:
      if abs(at) > 100:
        raise ValueError(f"{name}: {text}% is more than 100%")
      at = round(at * num / 100)
    if abs(at) > num:
      if not clip:
        raise ValueError(f"{name}: {at} is beyond the end; at most {num}")
      warnings.warn(f"{name}: {at} is beyond the end", stacklevel=4)
      at = max(-num, min(at, num))
    ends.append(at + num if at < 0 else at)
  if ends[0] > ends[1]:
    raise ValueError(f"{name}: it ends at {ends[1]} and starts at {ends[0]}")
  return ends


class Sliced:
  """The rows of named sources that a text in split syntax picks, one source.

  Sliced(files, lambda name: Jsonl(files[name]), "train[:98%]+restval")
  """

  def __init__(self, names, source, text=None, *, clip=False):
    """Opens the sources that the text names.

    Args:
      names: the names of the splits there are.
      source: function from the name of a split to its source; called once for
        each split that is used.
      text: str, split syntax; None where there is only one split.
      clip: bool, see `parse`.

    Raises:
      ValueError: as `parse`; no text and several splits; no rows.
    """
    names = list(names)
    if text is None and len(names) != 1:
      raise ValueError(f"give a split; there are {', '.join(names) or 'none'}")
    opened = _Opened(names, source)
    self.split = names[0] if text is None else text
    parts = parse(self.split, opened, clip=clip)
    self._parts = [(opened.get(p.split), p.start) for p in parts]
    self._rows = rows.Concatenation(p.stop - p.start for p in parts)
    if not len(self):
      sizes = ", ".join(f"{p.split} has {opened[p.split]}" for p in parts)
      raise ValueError(f"split {self.split!r} has no rows ({sizes})")

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    """Returns row i.

    Raises:
      IndexError: not one of the rows.
      ValueError: as the source it is from.
    """
    source, row = self._locate(i)
    return source[row]

  def where(self, i):
    """Returns the name that row i has in the source it is from."""
    source, row = self._locate(i)
    return source.where(row)

  def image_ref(self, i):
    """Returns path or URL of row i's image, None where its source has none."""
    source, row = self._locate(i)
    return getattr(source, "image_ref", lambda row: None)(row)

  def check(self, limit=100):
    """Calls the `check` of the sources that have one."""
    for source in self._sources():
      if hasattr(source, "check"):
        source.check(limit)

  def parts(self):
    """Yields what the rows are made of: paths of files, and bytes."""
    for source in self._sources():
      yield from getattr(source, "parts", tuple)()

  def _sources(self):
    return {id(s): s for s, _ in self._parts}.values()

  def _locate(self, i):
    part, row = self._rows.locate(i)
    source, start = self._parts[part]
    return source, start + row


class _Opened(dict):
  """Sizes of splits by name, whose sources are opened when they are needed."""

  def __init__(self, names, source):
    super().__init__(dict.fromkeys(names))
    self._source, self._opened = source, {}

  def get(self, name):
    if name not in self._opened:
      self._opened[name] = self._source(name)
    return self._opened[name]

  def __getitem__(self, name):
    return len(self.get(name))
