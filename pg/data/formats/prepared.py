"""A benchmark's data, as scripts/prepare or TensorFlow Datasets wrote it.

data/vqav2/train.jsonl                names images by their path from it
data/vqav2/val.array_record           holds its images
data/vqav2/1.0.0/dataset_info.json    a dataset as in tfds.py
"""

import pathlib
import re

from pg.data.formats import array_record, jsonl, splits, tfds
from pg.data.storage import files

_NAME = re.compile(r"(.+?)\.(jsonl|array_record)(-\d{4,}-of-\d{4,})?")


class Missing(FileNotFoundError, ValueError):
  """The data, or a split of it, was not prepared."""


def find(path, split=None):
  """Opens splits that are in a folder.

  A slice beyond the end of a split, as incomplete ones have, takes what there
  is: val[-10240:] of 13 rows are these, val[:-10240] are none.

  Args:
    path: str, the folder.
    split: str, split syntax, "train + val"; None where there is only one.

  Returns:
    a source.

  Raises:
    Missing: no such folder or split, or nothing in it; says how to make it.
    ValueError: no split syntax, a split that is there twice, or no rows.
  """
  folder = pathlib.Path(path)
  command = f"python -m scripts.prepare.{folder.name} --raw DIR --out {path}"
  try:
    if folder.is_dir() and any(folder.rglob("dataset_info.json")):
      return tfds.Tfds(data_dir=str(folder), split=split)
    found = _splits(folder)
    if not found:
      raise Missing(f"there is no data in {path}; make it with\n  {command}")
    opened = lambda name: _open(found[name])
    return splits.Sliced(found, opened, split, clip=True)
  except splits.Absent as e:
    raise Missing(f"{path}: {e}\n  ({command} makes all splits)") from e


def _splits(folder):
  """Returns dict from the names of splits to lists of their files.

  Raises:
    ValueError: a split is there in both formats.
  """
  found = {}
  for path in sorted(folder.glob("*.*")):
    if match := _NAME.fullmatch(path.name):
      found.setdefault(match[1], []).append(str(path))
  for name, paths in found.items():
    if len({_is_text(p) for p in paths}) > 1:
      raise ValueError(
        f"{folder} has the split {name} twice: {', '.join(paths)}; delete one"
      )
  return found


def _is_text(path):
  return path.endswith(".jsonl")


def _open(paths):
  if _is_text(paths[0]):
    return _Rows(paths, keys=())
  return array_record.ArrayRecord({"all": paths})


class _Rows(jsonl.Jsonl):
  """Rows whose images may lie anywhere, by their path from the file."""

  def _row(self, i):
    row, folder = super()._row(i), super()._root(i)
    for key in ("image", "video"):
      if key in row:
        row[key] = _absolute(row[key], pathlib.Path(folder).absolute())
    return row

  def _root(self, i):
    return "/"


def _absolute(name, folder):
  if isinstance(name, list):
    return [_absolute(item, folder) for item in name]
  if files.is_inline(name) or files.is_url(name):
    return name
  return str(folder / name)
