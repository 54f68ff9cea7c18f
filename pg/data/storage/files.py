"""Reads the images that rows name: files, members of tar files, URLs, base64.

A row names an image in one of these ways:

  "images/7.jpg"            a file in the root: a folder, or the URL of one
  "photos.tar/7.jpg"        a member of a tar file in the root; so is "7.jpg"
                            where the root is "photos.tar"
  "https://host/7.jpg"      a URL, also gs://, s3://, hf://; kept in the cache
  "data:image/jpeg;base64,/9j/4AAQ..."
  {"base64": "/9j/4AAQ..."}

What is not in the root by its name is refused, as "../../etc/passwd" is; links
in the root may point anywhere, and the root "/" allows any file. A URL that a
row names is not of this machine or its network (a root may be), unless limits
allow it, and what it gives has to be an image. In a root that
somebody gave, "../images/7.jpg" is beside the folder of the file that says so
(`beside`). lookup.py says what else is the name of a file in the root:
"IMAGES\\7.JPG".
"""

import base64
import binascii
import functools
import os
import posixpath
import re

from pg import limits, progress
from pg.data.storage import lookup, tar

# Rows of strangers name URLs too: nothing here reads files of this machine.
SCHEMES = ("http", "https", "gs", "gcs", "s3", "hf", "memory")
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_DATA = re.compile(r"data:[\w.+/-]*(;[\w.=-]+)*;base64,", re.ASCII)


def read(name, root, timeout=20.0, check=lambda data: None):
  """Returns the bytes of an image.

  Args:
    name: str or dict, see the top of this file.
    root: str, what paths are relative to.
    timeout: seconds that a download may take.
    check: function that raises ValueError unless bytes are an image, before
      they are kept in the cache.

  Raises:
    ValueError: it cannot be read, is empty, too large, or not in the root.
    OSError: a local file cannot be read.
  """
  data = _inline(name)
  if data is None:
    path = resolve(name, root)
    if place := _member(path, public=_is_limited(name, root)):
      data = tar.read(*place)
    elif _URL.match(path):
      from pg.data.storage import remote  # it takes long to load

      public = _is_limited(name, root)
      data = remote.image(path, check, timeout=timeout, public=public)
    else:
      data = limits.read(path)
  if not data:
    raise _empty(name)
  return data


def check(name, root):
  """Raises ValueError or OSError unless an image is there; reads no URL."""
  data = _inline(name)
  if data is not None:
    if not data:
      raise _empty(name)
    return
  path = resolve(name, root)
  if place := _member(path, public=_is_limited(name, root)):
    tar.find(*place)
  elif not _URL.match(path):
    if not os.path.isfile(path):
      raise ValueError(f"there is no image {path}")
    if not os.path.getsize(path):
      raise _empty(path)


def clip(name, root):
  """Returns the path of a video in a root.

  Raises:
    ValueError: it is not there, or somewhere else.
  """
  if is_url(name, root):
    raise ValueError(f"the video {short(name)} is at a URL: download it")
  check(name, root)
  return resolve(name, root)


def resolve(name, root):
  """Returns the path or URL of an image in a root.

  Raises:
    ValueError: it is not in the root, or a URL of a kind that is not read.
  """
  root = os.fspath(root)
  if len(name) > lookup.LONGEST:
    raise ValueError(f"a name too long: {short(name)}")
  if match := _URL.match(name):
    if match[1].lower() not in SCHEMES or "::" in name:
      raise ValueError(
        f"an image may be at {', '.join(SCHEMES)}, not at {short(name)}"
      )
    return name
  if _URL.match(root):
    path = posixpath.normpath(name)
    if path.startswith(("/", "../")) or path == "..":
      raise _outside(name, root)
    return f"{root.rstrip('/')}/{path}"
  root = os.path.abspath(root)
  path = os.path.normpath(os.path.join(root, name))
  inside = path.startswith(os.path.join(root, ""))
  if inside and os.path.exists(path):
    return path
  if not _member(path) and (found := lookup.find(name, root)):
    return os.path.join(root, found)
  if not inside:
    raise _outside(name, root)
  return path


def beside(name, folder, root):
  """Returns a name that begins with ".." as the path from a folder to it.

  Args:
    name: as at the top of this file.
    folder: str, path or URL, where the file is that has the name.
    root: str, what it has to be in; else the name stays as it is.
  """
  if not isinstance(name, str) or not name.startswith(".."):
    return name
  path, root = _joined(folder, name.replace("\\", "/")), os.fspath(root)
  root = root if _URL.match(root) else os.path.abspath(root)
  return path if path.startswith(root.rstrip("/") + "/") else name


def _joined(folder, name):
  """Returns the path or URL of a name in a folder, without ".."."""
  if match := _URL.match(folder := os.fspath(folder)):
    rest = posixpath.normpath(f"/{folder[match.end() :]}/{name}")
    return match[0] + rest.lstrip("/")
  return os.path.abspath(os.path.join(folder, name))


def local(name, only=None):
  """Returns the local path of a file or folder, downloaded if it is a URL.

  Args:
    name: str, path or URL.
    only: for a folder: function that says whether to download a file, by its
      path in there; None is all.

  Raises:
    ValueError: it cannot be read.
  """
  path = os.fspath(name)
  try:
    if "://" in path:
      from pg.data.storage import remote  # it takes long to load

      path = remote.fetch(path, only=only)
    os.stat(path)
  except OSError as e:
    raise ValueError(f"cannot read {name}: {e.strerror or e}") from e
  return path


def is_url(name, root=""):
  """Returns whether the name of an image is a URL."""
  where = (name, os.fspath(root))
  return isinstance(name, str) and any(map(_URL.match, where))


def _is_limited(name, root):
  """Says whether a row names a URL whose host has to be public.

  That is one which is not in the root that somebody gave.
  """
  foreign = not str(name).startswith(os.fspath(root).rstrip("/") + "/")
  return is_url(name) and foreign and not limits.current().private_hosts


def is_image(value):
  """Says whether a value of a row names an image."""
  if isinstance(value, dict):
    return list(map(type, value.values())) == [str] and "base64" in value
  return isinstance(value, str) and value != ""


def is_inline(name):
  """Says whether an image is in the row itself."""
  return isinstance(name, dict) or name.startswith("data:")


def short(name):
  """Returns the name of an image for messages: base64 is cut."""
  text = name if isinstance(name, str) else repr(name)
  said = progress.safe(text[:5000])
  return said if len(said) < 200 else f"{said[:80]}... ({len(text)} characters)"


def _outside(name, root):
  start = _URL.match(root)[0] if _URL.match(root) else ""
  paths = root.removeprefix(start), _joined(root, name).removeprefix(start)
  both = start + os.path.commonpath(paths)
  return ValueError(
    f"the image {short(name)} is not in {root}; set image_root to a folder"
    f' that it is in, such as "{both}" ("/" is any)'
  )


def _empty(name):
  return ValueError(f"the image {short(name)} is empty: it has 0 bytes")


def _inline(name):
  """Returns the bytes of base64 in the row itself, None if it names a file."""
  if isinstance(name, dict):
    text = name["base64"]
  elif name.startswith("data:"):
    match = _DATA.match(name)
    if not match:
      raise ValueError(f"wanted data:...;base64,... but got {short(name)}")
    text = name[match.end() :]
  else:
    return None
  try:
    return base64.b64decode("".join(text.split()), validate=True)
  except (binascii.Error, ValueError) as e:
    raise ValueError(f"the image is no base64 ({e}): {short(text)}") from e


def _member(path, *, public=False):
  """Returns the tar file in a path and the member's name, None without one.

  Args:
    path: str, path or URL.
    public: bool, whether the host of a URL has to be public.
  """
  for match in re.finditer(r"\.tar(?=/)", path):
    outer, inner = path[: match.end()], path[match.end() + 1 :]
    if _URL.match(path):
      return _local(outer, public), inner
    if os.path.isfile(outer):
      return outer, inner
  return None


@functools.lru_cache(maxsize=1 << 12)
def _local(url, public):
  from pg.data.storage import remote  # it takes long to load

  return remote.fetch(url, public=public)
