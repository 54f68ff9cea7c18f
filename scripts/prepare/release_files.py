"""The files of an official release: finds, opens and checks them.

A release is a folder with archives that were unpacked, each at the top or in a
folder of its own. Annotations may still be packed as .gz, .bz2 or .xz.
"""

import bisect
import bz2
import collections
import csv
import fnmatch
import functools
import gzip
import json
import lzma
import os

_OPEN = {"": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# Folders of images may hold 100,000 more: those are not looked into.
_MAX_FOLDERS = 100


class Missing(ValueError):
  """Files of a release that are not there."""


class Raw:
  """A release's folder."""

  def __init__(self, root):
    """Names a release.

    Args:
      root: str, the folder.

    Raises:
      ValueError: no such folder.
    """
    self.root = os.path.abspath(os.fspath(root))
    if not os.path.isdir(self.root):
      raise ValueError(
        f"there is no folder {root}; give the one with the unpacked archives of"
        " the release as --raw"
      )
    self.lenient = False  # then `need` leaves it to those who open files
    self._origins = {}  # name of a file -> where it comes from
    self.absent = set()  # paths of images and clips that are not there
    self.num_absent = collections.Counter()  # the same by archive

  def need(self, files):
    """Says which files are read, and looks for all of them.

    Args:
      files: mapping from the name of a file or folder to where it comes from:
        {"captions.json": "annotations.zip from cocodataset.org"}.

    Raises:
      Missing: lists all that are not there, with where to get them.
    """
    self._origins.update(files)
    gone = [self._absence(name) for name in files if not self.find(name)]
    if gone and not self.lenient:
      raise Missing("\n".join(gone))

  def _absence(self, name):
    """Returns a line that says what is missing and what to do."""
    origin = self._origins.get(name, "")
    text = f"{name} is not in {self.root}" + (origin and f"; get {origin}")
    archive = origin.split(" ")[0]
    if archive and os.path.isfile(os.path.join(self.root, archive)):
      text = f"{name} is not in {self.root}, but {archive} is: unpack it"
    return text

  @functools.cached_property
  def _folders(self):
    """The root, the folders in it, and those in these; sorted."""
    inner = _folders(self.root)
    deeper = [path for folder in inner for path in _folders(folder)]
    return [self.root, *inner, *deeper]

  def find(self, name):
    """Returns the path of a file or folder, None if it is not there.

    Raises:
      ValueError: there are several in different folders.
    """
    found = [
      path
      for folder in self._folders
      for end in _OPEN
      if os.path.exists(path := os.path.join(folder, name) + end)
    ]
    if len(found) > 1 and os.path.dirname(found[0]) != os.path.dirname(
      os.path.join(self.root, name)
    ):
      raise ValueError(
        f"there are several {name}: {', '.join(found)}; leave one of them"
      )
    return found[0] if found else None

  def shards(self, pattern, origin):
    """Returns the paths of the files whose names match, sorted by name.

    Args:
      pattern: str, "train-*.tar".
      origin: str, where they come from.

    Raises:
      Missing: there is none.
    """
    found = [
      os.path.join(folder, name)
      for folder in self._folders
      for name in fnmatch.filter(os.listdir(folder), pattern)
    ]
    if not found:
      raise Missing(f"{pattern} is not in {self.root}; get {origin}")
    return sorted(found, key=os.path.basename)

  def path(self, name):
    """Returns the path of a file.

    Raises:
      Missing: it is not there; says where to get it.
    """
    path = self.find(name)
    if path is None:
      raise Missing(self._absence(name))
    return path

  def open(self, name, newline=None):
    """Opens a text file in UTF-8, also where it is packed."""
    path = self.path(name)
    function = _OPEN.get(os.path.splitext(path)[1], open)
    return function(path, "rt", encoding="utf-8-sig", newline=newline)

  def json(self, name, want=(), hook=None):
    """Returns what is in a JSON file.

    Args:
      name: str, the file.
      want: keys that it must have; of a list, its first item.
      hook: function from each object in it, a dict, to what is kept of it.

    Raises:
      ValueError: not JSON, or a key is missing; says which there are.
    """
    with self.open(name) as f:
      try:
        made = json.load(f, object_hook=hook)
      except ValueError as e:
        raise ValueError(f"{self.path(name)} is not JSON in UTF-8: {e}") from e
    first = made[0] if isinstance(made, list) and made else made
    self._check(first, want, self.path(name))
    return made

  def lines(self, name, want=()):
    """Yields (where, dict) of the lines of a JSON-lines file."""
    path = self.path(name)
    for number, text in enumerate(self.text_lines(name), 1):
      if not text.strip():
        continue
      where = f"{path}:{number}"
      try:
        row = json.loads(text)
      except ValueError as e:
        raise ValueError(f"{where} is not JSON: {e}") from e
      self._check(row, want, where)
      yield where, row

  def csv(self, name, want=()):
    """Yields dicts of the rows of a table with a line of names on top."""
    with self.open(name, newline="") as f:
      reader = csv.DictReader(f)
      self._check(dict.fromkeys(reader.fieldnames or ()), want, self.path(name))
      for row in reader:
        if None in row or None in row.values():
          raise ValueError(
            f"{self.path(name)}:{reader.line_num} has not as many columns as"
            f" the first line, {', '.join(reader.fieldnames)}"
          )
        yield row

  def text_lines(self, name):
    """Yields the lines of a text file, without their ends."""
    with self.open(name) as f:
      try:
        for line in f:
          yield line.rstrip("\n")
      except UnicodeDecodeError as e:
        raise ValueError(f"{self.path(name)} is not UTF-8: {e}") from e

  def _check(self, row, want, where):
    if want and not isinstance(row, dict):
      raise ValueError(
        f"{where}: wanted an object with {', '.join(want)}, got"
        f" {type(row).__name__}"
      )
    gone = [key for key in want if key not in row]
    if gone:
      raise ValueError(
        f"{where} has no {', '.join(map(repr, gone))}, only"
        f" {', '.join(map(repr, row)) or 'nothing'}; it is of another version"
        " of the release"
      )

  def image(self, name, archive):
    """Returns the path of an image, there or not.

    One that is not there is counted: rows with it are left out.

    Args:
      name: str, "train2014/7.jpg".
      archive: str, what it comes from: "train2014.zip from cocodataset.org".
    """
    return self._media([name], name, archive)

  def coco(self, folder, photo):
    """Returns the path of a photo of COCO, as `image`.

    Args:
      folder: str, "val2014".
      photo: str, the name of its file, or its number.
    """
    if isinstance(photo, int):
      start = "" if folder.endswith("2017") else f"COCO_{folder}_"
      photo = f"{start}{photo:012d}.jpg"
    archive = f"{folder}.zip from cocodataset.org"
    return self.image(f"{folder}/{photo}", archive)

  def video(self, id, patterns, archive):
    """Returns the path of a clip, there or not.

    Args:
      id: str, what the release calls it.
      patterns: names that a clip may have, in order of preference, with {} for
        the id and * for anything: "clips/{}.mp4", "{}_*.mp4".
      archive: str, what it comes from.
    """
    patterns = [patterns] if isinstance(patterns, str) else patterns
    names = [pattern.replace("{}", id) for pattern in patterns]
    return self._media(names, names[0], archive)

  def _media(self, names, default, archive):
    for name in names:
      folder, base = os.path.split(name)
      for path, there, in_order in self._listings(folder):
        if base in there:
          return os.path.join(path, base)
        if "*" in base:
          start = base[: base.index("*")]
          at = bisect.bisect_left(in_order, start)
          while at < len(in_order) and in_order[at].startswith(start):
            if fnmatch.fnmatchcase(in_order[at], base):
              return os.path.join(path, in_order[at])
            at += 1
    path = os.path.join(self.root, default)
    if path not in self.absent:
      self.absent.add(path)
      self.num_absent[archive] += 1
    return path

  def _listings(self, folder):
    """Returns the places a folder of the release has, with what is there."""
    if folder not in self._listed:
      self._listed[folder] = [
        (path, set(names := sorted(os.listdir(path))), names)
        for above in self._folders
        if os.path.isdir(path := os.path.join(above, folder))
      ]
    return self._listed[folder]

  @functools.cached_property
  def _listed(self):
    return {}


def _folders(path):
  with os.scandir(path) as entries:
    found = sorted(e.path for e in entries if e.is_dir())
  return found if len(found) <= _MAX_FOLDERS else []
