r"""Finds files by the names that tools and other machines wrote.

Of "C:\Users\me\birds\images\7.JPG" there may be images/7.jpg here. A name that
is in the folder as it is written comes first. Else a part of it may be written
in another case, in another form of Unicode (macOS), with other slashes, or with
spaces around; and folders at its start may be left out, if the path is absolute
(it was on another machine), if they are the folder's own, as in "train/7.jpg"
for a file in .../train, or "data", which Darknet's lists begin with. That ends
at the first one that is here: "val/7.jpg" is never the 7.jpg beside val.
"""

import functools
import os
import posixpath
import re
import unicodedata

LONGEST = 4096  # characters of a path, as Linux has it
_ABSOLUTE = re.compile(r"\s*([a-zA-Z]:)?/+")


def find(name, root):
  """Returns what the name of a file or folder is in a folder, None without it.

  Args:
    name: str, as it was written.
    root: str, the folder, which what is found is in.
  """
  if len(name) > LONGEST:  # what follows takes the square of its parts
    return None
  root = os.path.abspath(root)
  path = os.path.normpath(os.path.join(root, name))
  if os.path.exists(path):
    inside = path.startswith(os.path.join(root, ""))
    return os.path.relpath(path, root) if inside else None
  name = name.replace("\\", "/")
  absolute = _ABSOLUTE.match(name)
  parts = posixpath.normpath(name[absolute.end() if absolute else 0 :])
  parts = [part.strip() for part in parts.split("/")]
  if not {"", ".", ".."}.isdisjoint(parts):
    return None
  own = [_key(part) for part in root.split(os.sep)]
  for k in range(len(parts)):
    left_out = [_key(part) for part in parts[:k]]
    if k == 0 or absolute or left_out in (["data"], own[-k:]):
      if found := _descend(root, parts[k:]):
        return found
    if _key(parts[k]) in _entries(root):
      return None
  return None


def check_inside(path, root):
  """Raises ValueError for a path that a name led out of a folder."""
  path, root = os.path.abspath(path), os.path.abspath(root)
  if not path.startswith(os.path.join(root, "")):
    raise ValueError(f"{path} is not in {root}")


def _descend(root, parts):
  """Returns a path in a folder whose parts may be written otherwise."""
  found = ""
  for part in parts:
    here = os.path.join(root, found)
    if not os.path.exists(os.path.join(here, part)):
      same = _entries(here).get(_key(part), ())
      if len(same) != 1:
        return None
      (part,) = same
    found = os.path.join(found, part)
  return found


def _key(part):
  """Returns what is the same of names that are written otherwise."""
  return unicodedata.normalize("NFC", part).casefold()


def _entries(folder):
  """Returns the names in a folder by their keys."""
  try:
    return _listed(folder, os.stat(folder).st_mtime_ns)
  except OSError:
    return {}


@functools.lru_cache(maxsize=64)
def _listed(folder, mtime):
  found = {}
  for name in os.listdir(folder):
    found.setdefault(_key(name), []).append(name)
  return found
