"""Checksums over the files of a folder, so that damage is found and named.

`checksums.json` lists every file of the subfolders with its size and CRC-32, as
in an `.npz`, and has the CRC-32 of that list: any flipped bit is found, in it,
too.

To write or to compare it reads every file once, in threads, a piece at a time.
CRC-32 itself takes 0.25 s of a core per GB, and lets other threads run; CRC-32C
is the same for many of Orbax's files, which end with their own.
"""

import concurrent.futures
import json
import zlib

from etils import epath

FILE = "checksums.json"
_PIECE = 1 << 17  # bytes
_THREADS = 8


def write(folder):
  """Writes `checksums.json` of all files that are in the subfolders now.

  Raises:
    OSError: it cannot be written, or a file cannot be read.
  """
  folder = epath.Path(folder)
  paths = [p for sub in folder.iterdir() if sub.is_dir() for p in _files(sub)]
  names = [str(path.relative_to(folder)) for path in paths]
  files = dict(zip(names, _each(_sum, paths)))
  content = dict(crc32c=_sum_of_list(files), files=files)
  (folder / FILE).write_text(json.dumps(content))


def damage(folder):
  """Returns what is wrong with a folder's files, a line each; [] is nothing.

  Nothing is known of a folder without checksums, nor of files that came later.
  """
  folder = epath.Path(folder)
  if not (folder / FILE).exists():
    return []
  try:
    content = json.loads((folder / FILE).read_bytes())
    files = content["files"]
    if content["crc32c"] != _sum_of_list(files):
      raise ValueError("other bytes than were written")
  except (ValueError, TypeError, LookupError, OSError) as error:
    return [f"{FILE}: {error}"]
  wrong = _each(lambda x: _wrong(folder / x[0], *x[1]), files.items())
  return [f"{name}: {said}" for name, said in zip(files, wrong) if said]


def _files(folder):
  for path in sorted(folder.iterdir()):
    yield from _files(path) if path.is_dir() else [path]


def _wrong(path, size, crc):
  """Says what is wrong with a file; None is nothing."""
  try:
    found_size, found = _sum(path)
  except FileNotFoundError:
    return "missing"
  except OSError as error:
    return str(error)
  if found_size != size:
    return f"{found_size} bytes, {size} were written"
  return None if found == crc else "other bytes than were written"


def _sum(path):
  """Returns the size and the CRC-32 of a file."""
  size, crc = 0, 0
  with path.open("rb") as f:
    while piece := f.read(_PIECE):
      size, crc = size + len(piece), zlib.crc32(piece, crc)
  return [size, crc]


def _sum_of_list(files):
  return zlib.crc32(json.dumps(files).encode())


def _each(function, items):
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    return list(pool.map(function, items))
