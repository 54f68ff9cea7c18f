"""What sources share: rows of several files, rows that name their images."""

import bisect
import contextlib
import itertools
import operator

from pg.data.formats import checks
from pg.data.storage import files
from pg.pp import image as image_ops


class Concatenation:
  """Finds rows in a concatenation of sequences of known sizes."""

  def __init__(self, sizes):
    self._ends = list(itertools.accumulate(sizes))

  def __len__(self):
    return self._ends[-1] if self._ends else 0

  def locate(self, i):
    """Returns the number of the sequence with row i, and its row there.

    Raises:
      IndexError: no such row; negative numbers do not count from the end.
    """
    i = operator.index(i)
    if not 0 <= i < len(self):
      raise IndexError(f"row {i} of {len(self)}")
    number = bisect.bisect_right(self._ends, i)
    return number, i - (self._ends[number - 1] if number else 0)


class Rows(checks.Checked):
  """The base of sources whose rows name their images.

  A source of this kind has `len()` and `where(i)`, and two methods more:
    _row(i): dict with an image or a list of images as files.py names them.
    _root(i): str, what those names are relative to.
  """

  timeout = 20.0  # seconds that the download of an image may take

  def __getitem__(self, i):
    """Returns row i with its image read (still encoded), or a list of them.

    A video is not read, it becomes the path of its file.

    Raises:
      ValueError: what is wrong with the row or its image; starts with its name.
      IndexError: no such row.
    """
    with self._named(i):
      row, root = self._located(i)
      if "video" in row:
        return {**row, "video": files.clip(row["video"], root)}
      read = lambda name: self._read(name, root)
      image = image_ops.each(row["image"], read)
      return {**row, "image": image, **self._size(row, image)}

  def image_ref(self, i):
    """Returns path or URL of row i's image, a list of several; None: inside."""
    row, root = self._located(i)
    names = row["video"] if "video" in row else row["image"]
    inside = files.is_inline
    ref = lambda name: None if inside(name) else files.resolve(name, root)
    return image_ops.each(names, ref)

  def _size(self, row, image):
    """Returns what a row has of its image's size, where boxes need it."""
    return {}

  def _folder(self, i):
    """Returns the folder of the file that row i is in; None: there is none."""
    return None

  def _located(self, i):
    """Returns row i and its root; ".." in a name starts from `_folder`."""
    row, root, folder = self._row(i), self._root(i), self._folder(i)
    key = "video" if "video" in row else "image"
    if folder is None:
      return row, root
    find = lambda name: files.beside(name, folder, root)
    return {**row, key: image_ops.each(row[key], find)}, root

  def _read(self, name, root):
    return read(name, root, self.timeout)

  @contextlib.contextmanager
  def _named(self, i):
    """Puts the name of row i at the start of what is wrong with it."""
    try:
      yield
    except (OSError, ValueError) as e:
      where, text = self.where(i), str(e)
      text = text if text.startswith(where) else f"{where}: {text}"
      # A name of a megabyte is bad enough once.
      raise ValueError(text if len(text) < 600 else f"{text[:600]}...") from e


def read(name, root, timeout=20.0):
  """Returns the bytes of an image, see `files.read`."""
  try:
    return files.read(name, root, timeout, image_ops.sizes)
  except (OSError, ValueError) as e:
    raise ValueError(f"cannot read an image: {e}") from e


def kept(name):
  """Returns the name of an image for messages; of a URL, where it is kept."""
  if files.is_url(name):
    from pg.data.storage import remote  # it takes long to load

    if (path := remote.kept(name)).exists():
      return f"{name} (kept in {path}: delete that to ask for it again)"
  return name
