"""Checksums over the files of a folder, so that damage is found and named.

`checksums.json` lists every file of the subfolders with its size and CRC-32, as
in an `.npz`, and has the CRC-32 of that list: any flipped bit is found, in it,
too.

To write or to compare it reads every file once, in threads, a piece at a time.
CRC-32 itself takes 0.25 s of a core per GB, and lets other threads run; CRC-32C
is the same for many of Orbax's files, which end with their own. Google's
storage knows the MD5 of each file, of the bytes that arrived: a list made there
has these, and is compared with a listing, without a download.
"""

import base64
import hashlib
import json
import zlib

from etils import epath

from pg.data.storage import bucket

FILE = "checksums.json"
_PIECE = 1 << 17  # bytes


def write(folder):
  """Writes `checksums.json` of all files that are in the subfolders now.

  Raises:
    OSError: it cannot be written, or a file cannot be read.
  """
  folder = epath.Path(folder)
  if bucket.is_bucket(folder):
    files = {k: v for k, v in bucket.files(str(folder)).items() if "/" in k}
  else:
    paths = [p for sub in folder.iterdir() if sub.is_dir() for p in _files(sub)]
    names = [str(path.relative_to(folder)) for path in paths]
    files = dict(zip(names, bucket.each(_sum, paths)))
  content = dict(crc32c=_sum_of_list(files), files=files)
  (folder / FILE).write_text(json.dumps(content))


def damage(folder):
  """Returns what is wrong with a folder's files, a line each; [] is nothing.

  Nothing is known of a folder without checksums, nor of files that came later.

  Raises:
    OSError: a bucket does not answer.
  """
  folder, listed = epath.Path(folder), None
  try:
    if bucket.is_bucket(folder):
      listed = bucket.files(str(folder))
      content = bucket.read(f"{folder}/{FILE}")
    else:
      content = (folder / FILE).read_bytes()
  except FileNotFoundError:
    return []
  except OSError as error:
    if bucket.is_bucket(folder):
      raise
    return [f"{FILE}: {error}"]
  try:
    content = json.loads(content)
    files = content["files"]
    if content["crc32c"] != _sum_of_list(files):
      raise ValueError("other bytes than were written")
  except (ValueError, TypeError, LookupError) as error:
    return [f"{FILE}: {error}"]

  def wrong_of(name):
    there = (None, None) if listed is None else listed.get(name)
    return _wrong(folder / name, *files[name], there) if there else "missing"

  wrong = bucket.each(wrong_of, files)
  return [f"{name}: {said}" for name, said in zip(files, wrong) if said]


def _files(folder):
  for path in sorted(folder.iterdir()):
    yield from _files(path) if path.is_dir() else [path]


def _wrong(path, size, written, listed):
  """Says what is wrong with a file; None is nothing.

  Args:
    path: epath.Path.
    size, written: what was written: bytes, and CRC-32 or MD5.
    listed: the same, as a bucket has it; (None, None) elsewhere, or where it
      does not know.
  """
  try:
    size_now, now = listed
    if now is None or isinstance(written, int):
      size_now, now = _sum(path, like=written)
  except FileNotFoundError:
    return "missing"
  except OSError as error:
    if bucket.is_bucket(path):
      raise
    return str(error)
  if size_now != size:
    return f"{size_now} bytes, {size} were written"
  return None if now == written else "other bytes than were written"


def _sum(path, like=0):
  """Returns the size of a file, and its CRC-32 or, like a str, its MD5."""
  size, crc, md5 = 0, 0, hashlib.md5() if isinstance(like, str) else None
  with path.open("rb") as f:
    while piece := f.read(_PIECE):
      size += len(piece)
      if md5:
        md5.update(piece)
      else:
        crc = zlib.crc32(piece, crc)
  if md5:
    return [size, f"md5:{base64.b64encode(md5.digest()).decode()}"]
  return [size, crc]


def _sum_of_list(files):
  return zlib.crc32(json.dumps(files).encode())
