"""JSON-lines files: text in the lines, images in files of their own."""

import array
import json
import os

from pg.pp import image as image_ops


class Jsonl:
  """Rows of a JSON-lines file; its images are files of their own.

  One object per line, blank lines are skipped:

    {"image": "images/7.jpg", "prefix": "caption en", "suffix": "a red bus"}
    {"image": ["a.png", "b.png"], "prefix": "same?", "suffix": "no", "id": 3}

  Only the position of each line is kept in memory.
  """

  def __init__(self, path, image_root=None, keys=("prefix", "suffix")):
    """Finds the lines of a file; reads no row yet.

    Args:
      path: str, the JSON-lines file, UTF-8.
      image_root: str, the folder that image paths are relative to; None is the
        folder of `path`.
      keys: what every line must have besides "image"; other keys than these
        two where the pp makes prefix and suffix from them.

    Raises:
      ValueError: no such file, or no rows in it.
    """
    self.path = os.fspath(path)
    self.keys = ("image", *keys)
    self.image_root = os.path.dirname(self.path)
    if image_root is not None:
      self.image_root = os.fspath(image_root)
    try:
      self._starts, self._lines = _index(self.path)
    except OSError as e:
      raise ValueError(f"cannot read {self.path}: {e.strerror}") from e
    if not self._starts:
      raise ValueError(f"{self.path} has no rows, only blank lines or nothing")

  def __len__(self):
    return len(self._starts)

  def __getitem__(self, i):
    """Returns row i with its image read (still encoded), or a list of them.

    Raises:
      ValueError: malformed JSON, not an object, a missing key, or a missing
        image; the message names file and line.
    """
    row = self._row(i)
    paths = row["image"]
    if isinstance(paths, list):
      return {**row, "image": [self._read(i, p) for p in paths]}
    return {**row, "image": self._read(i, paths)}

  def where(self, i):
    """Returns the file and line (from 1) of row i: "train.jsonl:17"."""
    return f"{self.path}:{self._lines[i]}"

  def check(self, limit=100):
    """Validates every line, that every image is there, and that some decode.

    Args:
      limit: int, of how many rows to decode the images, evenly spread; None is
        all.

    Raises:
      ValueError: names file, line and image of the first problem, and says how
        many rows have one.
    """
    num_decoded = len(self) if limit is None else min(limit, len(self))
    decoded = {i * len(self) // num_decoded for i in range(num_decoded)}
    problems = []
    for i in range(len(self)):
      try:
        self._check(i, decode=i in decoded)
      except ValueError as e:
        problems.append(e)
    if problems:
      raise ValueError(
        f"{problems[0]} (rows with a problem: {len(problems)} of {len(self)})"
      ) from problems[0]

  def _check(self, i, *, decode):
    for path in _as_list(self._row(i)["image"]):
      full = os.path.join(self.image_root, path)
      if not os.path.isfile(full):
        raise ValueError(f"{self.where(i)}: there is no image {full}")
      if decode:
        try:
          image_ops.to_rgb(self._read(i, path))
        except ValueError as e:
          raise ValueError(f"{self.where(i)}: {full}: {e}") from e

  def _row(self, i):
    """Returns row i with its image paths as they are in the file."""
    with open(self.path, "rb") as f:
      f.seek(self._starts[i])
      line = f.readline()
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as e:
      raise ValueError(f"{self.where(i)} is not JSON: {e}") from e
    if not isinstance(row, dict):
      raise ValueError(
        f'{self.where(i)}: wanted an object {{"image": ...}}, got'
        f" {type(row).__name__}"
      )
    missing = [key for key in self.keys if key not in row]
    if missing:
      raise ValueError(
        f'{self.where(i)}: no key "{missing[0]}", only'
        f" {', '.join(row) or 'an empty object'}"
      )
    self._check_types(i, row)
    return row

  def _check_types(self, i, row):
    for key in ("prefix", "suffix"):
      try:
        row.get(key, "").encode()
      except (AttributeError, UnicodeEncodeError) as e:
        raise ValueError(
          f'{self.where(i)}: "{key}" should be Unicode text, got {row[key]!r}'
        ) from e
    paths = _as_list(row["image"])
    if not paths or not all(isinstance(p, str) and p for p in paths):
      raise ValueError(
        f'{self.where(i)}: "image" should be a path or a list of paths, got'
        f" {row['image']!r}"
      )

  def _read(self, i, path):
    """Returns the bytes of an image of row i."""
    try:
      with open(os.path.join(self.image_root, path), "rb") as f:
        return f.read()
    except (OSError, ValueError) as e:
      raise ValueError(f"{self.where(i)}: cannot read an image: {e}") from e


def _index(path):
  """Returns start and number of each line that is not blank, as arrays."""
  starts, numbers, start = array.array("q"), array.array("q"), 0
  with open(path, "rb") as f:
    for number, line in enumerate(f, 1):
      if line.strip():
        starts.append(start)
        numbers.append(number)
      start += len(line)
  return starts, numbers


def _as_list(value):
  return value if isinstance(value, list) else [value]
