"""Sharded files of rows: finds the files, and the file of row i.

A dataset is a folder (or one file, a pattern with `*`, a list, or a mapping
from splits to those), here or at a URL. Names say what split a file belongs to
and which of how many it is, as TensorFlow Datasets and Hugging Face write them:

  vqa-train.tfrecord-00003-of-00064   data/train-00000-of-00002.parquet
  train.array_record                  default/train/0000.parquet

In Hugging Face's way, files whose names say nothing are "train".
"""

import glob
import os
import posixpath
import re
from concurrent import futures
from typing import NamedTuple

from pg.data.formats import rows, splits
from pg.data.storage import files

_SHARD = re.compile(r"-(\d{4,})-of-(\d{4,})")
_NO_SPLIT = re.compile(r"(\d+|data|part|shard)?", re.IGNORECASE)
_THREADS = 16  # files that are opened at a time: network disks are slow


class Shard(NamedTuple):
  """A file, and what tells one version of it from another."""

  name: str  # for people: a path or a URL
  path: str  # here
  size: int = 0
  mtime: int = 0  # nanoseconds


def find(path, suffixes):
  """Returns dict from the name of a split to the names of its files, in order.

  Args:
    path: str, a folder, file or pattern; a list of files; or a mapping from
      names of splits to those.
    suffixes: tuple of str, such as ".parquet": the files of a folder to take.

  Raises:
    ValueError: no such files, or those of a split are in several folders (of a
      folder; a pattern says what it means).
  """
  if hasattr(path, "items"):
    return {name: _files(p, suffixes)[1] for name, p in path.items()}
  root, names = _files(path, suffixes)
  splits = {}
  for name in names:
    inside = _plain(name)[len(root) :]
    splits.setdefault(_split(inside, suffixes), []).append(name)
  for split, found in splits.items():
    folders = sorted({posixpath.dirname(name) for name in found})
    if len(folders) > 1 and _is_one(path) and not _wild(os.fspath(path)):
      raise ValueError(
        f"files of the split {split} are in several folders, such as"
        f" {folders[0]} and {folders[1]}; give the one that is meant, or a"
        " pattern for all"
      )
  return {name: splits[name] for name in sorted(splits, key=_customary)}


def _is_one(path):
  return isinstance(path, str | os.PathLike)


def _customary(split):
  """Sorts train before validation before test before others."""
  order = ("train", "validation", "val", "dev", "test")
  return (order.index(split) if split in order else len(order), split)


def _files(path, suffixes):
  """Returns the folder that names are relative to and a list of files."""
  if not _is_one(path):
    return "", [os.fspath(p) for p in path]
  path = os.fspath(path)
  root, names = listed(path, suffixes)
  if not names:
    raise ValueError(
      f"there is no file {path}; wanted a folder, a file or a pattern of"
      f" {' or '.join(suffixes)}"
    )
  if not os.path.isfile(path):
    _check_complete(names)
  return root, names


def listed(path, suffixes):
  """Returns the folder that names are relative to and a list of files, sorted.

  Args:
    path: str, a folder, file or pattern, or a URL of one.
    suffixes: tuple of str, how the names of files end.

  Raises:
    ValueError: a URL that cannot be listed.
  """
  if _is_remote(path):
    root, names = _remote_files(path, suffixes)
  elif os.path.isdir(path):
    root = os.path.join(path, "")
    found = glob.glob(f"{glob.escape(root)}**", recursive=True)
    names = [n for n in found if _has_suffix(n, suffixes)]
  elif os.path.exists(path):
    return os.path.dirname(path), [path]
  else:
    root, names = _fixed(path), glob.glob(path, recursive=True)
  return root, sorted(names)


def _fixed(pattern):
  """Returns the folder that all files of a pattern are in."""
  return posixpath.dirname(re.split(r"[*?[]", pattern)[0])


def _wild(path):
  """Says whether a path is a pattern; a URL may have a query after `?`."""
  return bool(set("*" if _is_remote(path) else "*?[") & set(path))


def _is_remote(path):
  return "://" in path


def _remote_files(path, suffixes):
  pattern = _wild(path)
  if not pattern and _has_suffix(_plain(path), suffixes):
    return posixpath.dirname(_plain(path)), [path]
  import fsspec  # only here: it takes long to load, and most data is local

  try:
    fs, inside = fsspec.url_to_fs(path)
    names = fs.glob(inside) if pattern else fs.find(inside)
  except Exception as e:  # every file system has its own
    raise ValueError(f"cannot list {path}: {e}") from e
  names = [
    name
    for name in names
    if _has_suffix(name, suffixes)
    and not posixpath.basename(name).startswith(".")  # as in a local folder
  ]
  root = _fixed(inside) if pattern else inside
  return fs.unstrip_protocol(root), [fs.unstrip_protocol(n) for n in names]


def _plain(url):
  """Returns a URL without its query and fragment, or a path as it is."""
  return re.split("[?#]", url)[0] if _is_remote(url) else url


def _has_suffix(name, suffixes):
  """Says whether a name ends in a suffix, or in one and a shard's number."""
  ends = "|".join(map(re.escape, suffixes))
  return re.search(rf"({ends})({_SHARD.pattern})?$", name) is not None


def _split(name, suffixes):
  """Returns the split that a file belongs to, by its name in its folder."""
  *folders, base = name.replace(os.sep, "/").strip("/").split("/")
  stem = base[: _SHARD.search(base).start()] if _SHARD.search(base) else base
  for suffix in suffixes:
    stem = stem.removesuffix(suffix)
  split = stem.rpartition("-")[2]
  if not _NO_SPLIT.fullmatch(split):
    return split
  return folders[-1] if folders and folders[-1] != "data" else "train"


def _check_complete(names):
  """Raises ValueError if of N shards one is not there."""
  groups = {}
  for name in names:
    if match := _SHARD.search(posixpath.basename(name)):
      group = name[: name.rindex(match[0])], int(match[2])
      groups.setdefault(group, set()).add(int(match[1]))
  for (start, num), got in groups.items():
    if missing := set(range(num)) - got:
      raise ValueError(
        f"shard {min(missing)} of {num} of {start}* is not there ({len(got)} of"
        f" {num} are); copy or write it again"
      )


def local(name):
  """Returns the Shard of a name, downloaded if it is a URL.

  Raises:
    ValueError: it cannot be read.
  """
  path = files.local(name)
  status = os.stat(path)
  return Shard(name, path, status.st_size, status.st_mtime_ns)


class Sharded(splits.Sliced):
  """The base of sources that are files of rows, in shards or not.

  A format has `suffixes`, how the names of its files end, and a method
  `_table(files, keys)`, which returns the Table of the files of a split.
  """

  def __init__(self, path, split=None, keys=None):
    """Finds the rows.

    Args:
      path: str, a folder, file, pattern or URL of one; a list of files; or a
        mapping from splits to those.
      split: str, split syntax; None where there is only one split.
      keys: list of str, what to return of each row; None is all.

    Raises:
      ValueError: no such files, one is missing or broken, or no such key.
    """
    files = find(path, self.suffixes)
    table = lambda name: self._table(files[name], keys)
    super().__init__(files, table, split)


class Table:
  """The rows of several files, a random-access source.

  Holds names and numbers of rows; `open` keeps what it wants to keep open.
  """

  def __init__(self, names, open, decode=None, noun="record"):
    """Opens all files once, to count their rows.

    Args:
      names: list of str, paths or URLs.
      open: function from Shard to its rows, which have `len()` and `[i]`; can
        be pickled; is called for each row and had better remember the last.
      decode: function from what `open(shard)[i]` is to a dict; can be pickled.
      noun: str, what a row of a file is called in messages.

    Raises:
      ValueError: a file cannot be opened.
    """
    self._open, self.decode, self._noun = open, decode, noun
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      self.shards = list(pool.map(local, names))
      self.lengths = list(pool.map(self._length, self.shards))
    self._rows = rows.Concatenation(self.lengths)

  def _length(self, shard):
    try:
      return len(self._open(shard))
    except Exception as e:  # every file format has its own
      raise ValueError(f"cannot open {shard.name}: {e}") from e

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    """Returns row i.

    Raises:
      ValueError: what is wrong with it; names file and row.
    """
    shard, row = self._locate(i)
    try:
      record = self._open(shard)[row]
      return record if self.decode is None else self.decode(record)
    except Exception as e:  # every file format has its own
      raise ValueError(f"{self.where(i)}: {e}") from e

  def where(self, i):
    """Returns file and row from 0: "x.tfrecord-00001-of-00004 record 7"."""
    shard, row = self._locate(i)
    return f"{shard.name} {self._noun} {row}"

  def parts(self):
    """Returns what the rows are made of: paths of files."""
    return [shard.path for shard in self.shards]

  def _locate(self, i):
    number, row = self._rows.locate(i)
    return self.shards[number], row
