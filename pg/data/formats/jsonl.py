"""JSON-lines files: text in the lines, images beside them or in them.

One object per line; blank lines are skipped, keys of your own are kept:

  {"image": "images/7.jpg", "prefix": "caption en", "suffix": "a red bus"}
  {"image": ["a.png", "b.png"], "prefix": "same?", "suffix": "no", "id": 3}
  {"image": "photos.tar/8.jpg", "prefix": "caption en", "suffix": "a cat"}
  {"video": "clips/9.mp4", "prefix": "caption en", "suffix": "a cat jumps"}

pg/data/storage/files.py says how a line may name its images. A video stays the
path of its file; the op `video` reads the frames it needs.
"""

import functools
import json
import os
import re

import numpy as np

from pg.data.formats import jsonl_files, rows
from pg.data.storage import files, index, lines


class Jsonl(rows.Rows):
  """Rows of JSON-lines files; only where lines start is kept in memory."""

  def __init__(
    self,
    path,
    image_root=None,
    keys=("prefix", "suffix"),
    split=None,
    max_line_bytes=16 << 20,
    timeout=20.0,
  ):
    """Finds the lines of the files; reads no row yet.

    Args:
      path: str, a file (UTF-8), a pattern or a folder of files, or the URL of
        one; a list of those; or a mapping from splits to those.
      image_root: str, the folder that image paths are relative to, a tar file,
        or the URL of one; None is the folder of each file. Paths that begin
        with ".." are from there anyway, and to somewhere in `image_root`.
      keys: what every line must have besides "image" or "video"; other keys
        than these two where the pp makes prefix and suffix from them.
      split: str, split syntax as in "train[:98%]" (splits.parse); the names of
        files say their splits (shards.find). None is all rows.
      max_line_bytes: int, longer lines are bad ones and are not read.
      timeout: seconds that the download of an image may take.

    Raises:
      ValueError: no such file or split, or no rows.
    """
    self.keys, self.timeout = tuple(keys), timeout
    self.image_root = image_root
    # Pieces of files: name, lines, which of them is the first.
    self._pieces, sizes = [], []
    opened = functools.partial(Lines, max_bytes=max_line_bytes)
    for name, found, start, stop in jsonl_files.pieces(path, split, opened):
      self._pieces.append((name, found, start))
      sizes.append(stop - start)
    self._rows = rows.Concatenation(sizes)
    if not len(self):
      raise ValueError(f"{path} has no rows, only blank lines or nothing")

  def __len__(self):
    return len(self._rows)

  def where(self, i):
    """Returns the file and line (from 1) of row i: "train.jsonl:17"."""
    name, found, number = self._locate(i)
    return f"{name}:{found.number(number)}"

  def parts(self):
    """Yields what the rows are made of: paths of files, and bytes."""
    for _, found, _ in self._pieces:
      yield from found.parts()

  def _locate(self, i):
    """Returns name and lines of the file of row i, and which line it is."""
    piece, row = self._rows.locate(i + len(self) if i < 0 else i)
    name, found, start = self._pieces[piece]
    return name, found, start + row

  def _root(self, i):
    return self._folder(i) if self.image_root is None else self.image_root

  def _folder(self, i):
    name = self._locate(i)[0]
    if "://" in name:
      name = re.split("[?#]", name)[0]
    return os.path.dirname(name)

  def _row(self, i):
    """Returns row i with its images as they are named in the file."""
    _, found, number = self._locate(i)
    try:
      row = json.loads(found[number].decode("utf-8-sig"))
    except UnicodeDecodeError as e:
      raise ValueError(f"{self.where(i)} is not JSON in UTF-8: {e}") from e
    except (json.JSONDecodeError, RecursionError) as e:
      raise ValueError(f"{self.where(i)} is not JSON: {e}") from e
    if not isinstance(row, dict):
      raise ValueError(
        f'wanted an object {{"image": ...}}, got {type(row).__name__}'
      )
    media = "video" if "video" in row else "image"
    for key in (media, *self.keys):
      if key not in row:
        got = ", ".join(row) or "an empty object"
        raise ValueError(f'no key "{key}", only {got}')
    _check_types(row)
    return row


def _check_types(row):
  for key in ("prefix", "suffix"):
    try:
      row.get(key, "").encode()
    except (AttributeError, UnicodeEncodeError) as e:
      raise ValueError(
        f'"{key}" should be Unicode text, got {row[key]!r}'
      ) from e
  if "video" in row:
    if not isinstance(row["video"], str) or not row["video"]:
      raise ValueError(f'"video" should be a path, got {row["video"]!r}')
    return
  names = row["image"] if isinstance(row["image"], list) else [row["image"]]
  if not names or not all(map(files.is_image, names)):
    raise ValueError(
      f'"image" should be a path or a list of paths, got {row["image"]!r}'
    )


class Lines:
  """The lines of a file that are not blank; cheap to pickle and to share.

  Each is read when it is asked for.
  """

  def __init__(self, path, max_bytes):
    """Finds the lines, or what an earlier process found.

    Args:
      path: str, a local file.
      max_bytes: int, longer lines are not read.

    Raises:
      OSError: it cannot be read.
    """
    self._path, self._max_bytes = path, max_bytes
    self._index = index.Index(lines.write, path)

  def __len__(self):
    return int(self._index.data[-8:].view(np.int64)[0])

  def parts(self):
    """Returns what the lines are made of: the path, and where they start."""
    return self._path, self._index.data

  def __getitem__(self, i):
    """Returns the bytes of line i of those that are not blank.

    Raises:
      ValueError: it is too long.
      OSError: it cannot be read.
    """
    with open(self._path, "rb") as f:
      f.seek(int(self._numbers(0, len(self))[i]))
      line = f.readline(self._max_bytes + 1)
    if len(line) > self._max_bytes:
      raise ValueError(
        f"the line has more than max_line_bytes = {self._max_bytes} bytes"
      )
    return line

  def number(self, i):
    """Returns the number of line i in the file, from 1."""
    blanks = self._numbers(len(self), -1)
    return i + 1 + int(np.searchsorted(blanks, i, side="right"))

  def _numbers(self, start, stop):
    return self._index.data.view(np.int64)[start:stop]
