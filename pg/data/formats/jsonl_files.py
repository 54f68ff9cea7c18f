"""Finds and opens files of JSON lines, and says what else a file is."""

import itertools
import json
import os
import re

from pg.data.formats import shards, splits
from pg.data.storage import files

# What a row has, and what the beginnings of other files have.
_ROW = re.compile(rb'^\{.*"(image|video)"\s*:')
_COCO = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[\s*\{')
_OBJECT = re.compile(rb'\{[ \t\r]*\n\s*"')
_ARRAY = re.compile(rb"\[\s*\{")
SUFFIXES = (".jsonl", ".jsonlines", ".json", ".ndjson")


def pieces(path, split, opened):
  """Finds the rows of a split in files.

  Args:
    path, split: as of jsonl.Jsonl.
    opened: function from a local path to its jsonl.Lines.

  Yields:
    Name of a file, Lines, first line and last + 1.

  Raises:
    ValueError: no such file or split, or a file that has no JSON lines.
  """
  if hasattr(path, "items"):
    names = {k: _names(p) for k, p in path.items()}
  else:
    names = {"all": _names(path)}
    if split is not None:
      names = shards.find(names["all"], SUFFIXES)
  found = {k: [(x, _open(x, opened)) for x in names[k]] for k in names}
  sizes = {k: sum(len(x) for _, x in pairs) for k, pairs in found.items()}
  for part in splits.parse("all" if split is None else split, sizes):
    start, stop = part.start, part.stop
    for name, lines in found[part.split]:
      if max(start, 0) < min(stop, len(lines)):
        yield name, lines, max(start, 0), min(stop, len(lines))
      start, stop = start - len(lines), stop - len(lines)


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


def _open(name, opened):
  try:
    path = files.local(name)
    with open(path, "rb") as f:
      head = f.read(1 << 16)
    encoding = json.detect_encoding(head[:4])
    if not encoding.startswith("utf-8"):
      raise ValueError(f"{name} is in {encoding.upper()}: save it as UTF-8")
    _refuse_other_json(name, head)
    return opened(path)
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
