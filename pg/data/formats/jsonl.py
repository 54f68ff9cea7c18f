"""JSON-lines files: text in the lines, images beside them or in them.

One object per line; blank lines are skipped, keys of your own are kept:

  {"image": "images/7.jpg", "prefix": "caption en", "suffix": "a red bus"}
  {"image": ["a.png", "b.png"], "prefix": "same?", "suffix": "no", "id": 3}
  {"image": "photos.tar/8.jpg", "prefix": "caption en", "suffix": "a cat"}
  {"video": "clips/9.mp4", "prefix": "caption en", "suffix": "a cat jumps"}

pg/data/storage/files.py says how a line may name its images. A video stays the
path of its file; the op `video` reads the frames it needs.
"""

import itertools
import json
import os
import re

from pg.data.formats import rows, shards, splits
from pg.data.storage import files, lines

# What a row has, and what the beginnings of other files have.
_ROW = re.compile(rb'^\{.*"(image|video)"\s*:')
_COCO = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[\s*\{')
_OBJECT = re.compile(rb'\{[ \t\r]*\n\s*"')
_ARRAY = re.compile(rb"\[\s*\{")
SUFFIXES = (".jsonl", ".jsonlines", ".json", ".ndjson")


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
    for name, found, start, stop in _pieces(path, split, max_line_bytes):
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


def _pieces(path, split, max_line_bytes):
  """Yields name, Lines, first line and last + 1 of the pieces of a split."""
  if hasattr(path, "items"):
    names = {k: _names(p) for k, p in path.items()}
  else:
    names = {"all": _names(path)}
    if split is not None:
      names = shards.find(names["all"], SUFFIXES)
  opened = {
    k: [(name, _open(name, max_line_bytes)) for name in found]
    for k, found in names.items()
  }
  sizes = {k: sum(len(x) for _, x in pairs) for k, pairs in opened.items()}
  for part in splits.parse("all" if split is None else split, sizes):
    start, stop = part.start, part.stop
    for name, found in opened[part.split]:
      if max(start, 0) < min(stop, len(found)):
        yield name, found, max(start, 0), min(stop, len(found))
      start, stop = start - len(found), stop - len(found)


def _names(path):
  """Returns the names of files that a path, pattern or list stands for."""
  if not isinstance(path, str | os.PathLike):
    return [name for p in path for name in _names(p)]
  path = os.fspath(path)
  wild = "*" if "://" in path else "*?["
  if os.path.isdir(path) or (
    set(wild) & set(path) and not os.path.exists(path)
  ):
    found = shards.find(path, SUFFIXES)
    return sorted(itertools.chain(*found.values()))
  return [path]


def _open(name, max_line_bytes):
  try:
    path = files.local(name)
    with open(path, "rb") as f:
      head = f.read(1 << 16)
    encoding = json.detect_encoding(head[:4])
    if not encoding.startswith("utf-8"):
      raise ValueError(f"{name} is in {encoding.upper()}: save it as UTF-8")
    _refuse_other_json(name, head)
    return lines.Lines(path, max_line_bytes)
  except OSError as e:
    raise ValueError(f"cannot read {name}: {e.strerror or e}") from e


def _refuse_other_json(name, head):
  """Raises ValueError for a file that is JSON as a whole, by its beginning."""
  head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
  first = head.split(b"\n", 1)[0].strip()
  if _ROW.match(first):
    return
  if first.startswith(b"{") and _COCO.search(head):
    raise ValueError(f'{name} is a COCO file, no JSON lines: use source="coco"')
  if _OBJECT.match(head):
    raise ValueError(
      f"{name} is a JSON object over several lines; JSON lines have one on each"
    )
  if _ARRAY.match(head):
    code = "[print(json.dumps(row)) for row in json.load(open(0))]"
    raise ValueError(
      f"{name} is a JSON array, no JSON lines; write one item on each line:"
      f' python -c "import json; {code}" < {name} > rows.jsonl'
    )
