"""Files and folders of buckets and web servers, downloaded into a cache."""

import base64
import contextlib
import hashlib
import pathlib
import posixpath
import re
import time

import fsspec
from huggingface_hub import utils

from pg import progress
from pg.data.storage import index

# What tells one version of a remote file from another, in all of fsspec.
_VERSION = ("size", "ETag", "etag", "md5Hash", "mtime", "Last-Modified")
_CHUNK = 16 << 20  # bytes; what an interruption costs at most, with ranges
_ATTEMPTS = 5
_PAUSE = 1.0  # seconds between two attempts


def fetch(name, cache=None, only=None):
  """Returns the local path of a URL that fsspec reads, downloaded if need be.

  A download goes on where the last one broke off, is checked for its size and
  for the checksums there are (`#sha256=` in the name, MD5 from Google's
  storage), then gets its name. Another version there has another path here.

  Args:
    name: str, the URL of a file or folder; a file's may end in `#sha256=<hex>`.
    cache: folder, or None for `~/.cache/pg` ($PG_CACHE).
    only: for a folder: function that says whether to download a file, by its
      path in there; None is all.

  Raises:
    ValueError: the URL means nothing, or a library for it is missing.
    OSError: it cannot be read, broke off or is not what its checksum says.
  """
  url, _, sha256 = name.partition("#sha256=")
  if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
    raise ValueError(f"{name!r}: wanted #sha256= and 64 of 0-9 and a-f")
  with _url_errors(url):
    fs, path = fsspec.url_to_fs(url)
    info = fs.info(path)
    # A web server's folder looks like a file: the list of what is in it.
    is_folder = info["type"] == "directory" or only is not None
    files = _inside(fs, path, only) if is_folder else {path: info}
  title = posixpath.basename(path.partition("?")[0].rstrip("/"))
  if title in ("", ".", "..") or not files or (sha256 and is_folder):
    raise ValueError(
      f"{name!r} names no file; wanted one with a name, as in"
      " gs://bucket/weights.npz, or a folder without #sha256="
    )
  # Another version of the file is another file: no half of each.
  version = [[name, *map(i.get, _VERSION)] for name, i in files.items()]
  version += [i["blob_id"] for i in files.values() if "blob_id" in i]  # hf://
  key = hashlib.sha256(repr((url, sha256, version)).encode()).hexdigest()[:16]
  cache = pathlib.Path(cache or index.folder()).expanduser()
  target = cache / key / title
  target.parent.mkdir(parents=True, exist_ok=True)
  with utils.WeakFileLock(cache / key / ".lock"):
    if not target.exists() and is_folder:
      _download_folder(fs, path, files, target)
    elif not target.exists():
      _download(fs, path, info, target, sha256)
  return str(target)


@contextlib.contextmanager
def _url_errors(url):
  try:
    yield
  except ImportError as error:  # gcsfs, s3fs: said by fsspec
    raise ValueError(f"cannot read {url}: {one_line(error)}") from error
  except ValueError as error:
    raise ValueError(
      f"{url!r} is no address that can be read ({one_line(error)}); wanted"
      " hf://, gs://, s3://, https:// or another that fsspec knows"
    ) from error
  except Exception as error:  # every file system has its own
    cause = error.__cause__ or error
    raise OSError(
      f"cannot read {url}: {type(cause).__name__} {one_line(cause)}; check the"
      " address, the network and who may read it"
    ) from error


def _inside(fs, folder, only):
  """Returns dict from the paths of a folder's files to their info."""
  found = fs.find(folder, detail=True).items()
  if only is not None:
    found = [(p, i) for p, i in found if only(posixpath.relpath(p, folder))]
  # Lists of web servers have no sizes.
  return {p: fs.info(p) if i.get("size") is None else i for p, i in found}


def _download_folder(fs, root, files, target):
  """Downloads the files of a folder, which is renamed when all are there."""
  partial = target.with_name(f"{target.name}.part")
  for path, info in files.items():
    inside = posixpath.relpath(path, root)
    if inside.startswith(".."):
      raise ValueError(f"{path!r} is listed in {root!r} but not inside it")
    if not (partial / inside).exists():
      _download(fs, path, info, partial / inside)
  partial.rename(target)


def _download(fs, path, info, target, sha256=None):
  """Downloads one file under a temporary name, checks it and renames it."""
  target.parent.mkdir(parents=True, exist_ok=True)
  part = target.with_name(f"{target.name}.part")
  size, md5 = info.get("size"), info.get("md5Hash")  # Google's storage has it
  for attempt in range(_ATTEMPTS):
    done = _size(part)
    try:
      _append(fs, path, part, done, size)
      break
    except Exception as error:  # every file system has its own
      if done and isinstance(error, ValueError):  # it cannot start midway
        part.unlink()
      if attempt == _ATTEMPTS - 1:
        raise OSError(
          f"the download of {path} broke off at {_size(part)} of {size} bytes"
          f" ({one_line(error)}); run it again to go on from there"
        ) from error
      time.sleep(_PAUSE)
  if size is not None and _size(part) != size:
    _reject(part, path, f"{_size(part)} bytes", f"{size}")
  if sha256:
    _compare(part, path, "sha256", sha256)
  if md5:
    _compare(part, path, "md5", base64.b64decode(md5).hex())
  part.rename(target)


def _append(fs, path, part, done, size):
  """Downloads what comes after the first `done` bytes to the end of a file."""
  # Web servers need not know ranges: the first attempt is one plain request.
  block = 0 if "https" in fs.protocol and not done else _CHUNK
  options = dict(block_size=block, cache_type="none")
  with (
    fs.open(path, "rb", **options) as source,
    open(part, "ab") as sink,
    progress.Bar(
      desc=posixpath.basename(path),
      total=size,
      initial=done,
      unit="B",
      unit_scale=True,
    ) as bar,
  ):
    source.seek(done)
    while chunk := source.read(_CHUNK):
      sink.write(chunk)
      bar.update(len(chunk))


def _size(path):
  return path.stat().st_size if path.exists() else 0


def _compare(part, path, algorithm, wanted):
  with open(part, "rb") as f:
    got = hashlib.file_digest(f, algorithm).hexdigest()
  if got != wanted:
    _reject(part, path, f"{algorithm} {got}", wanted)


def _reject(part, path, got, wanted):
  part.unlink()
  raise OSError(
    f"the download of {path} is not what it should be: got {got}, wanted"
    f" {wanted}; it was deleted, run it again"
  )


def one_line(error):
  """Returns an error's text on one line."""
  return " ".join(str(error).split())
