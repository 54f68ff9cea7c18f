"""The fingerprint of a run's datasets: what their rows are, not where they lie.

It tells on resume whether a run would go on with the examples that it began
with. It is small, for it is in every checkpoint, and takes as long for a
billion rows as for thousands, but for the index of JSON lines.
"""

import contextlib
import datetime
import decimal
import hashlib
import json
import os
import zlib

import numpy as np

from pg import limits
from pg.data.formats import checks

NUM_ROWS = 64  # of a dataset that are read, evenly spread
# Of its files together: 16 MiB are read as a whole, of more this many blocks.
NUM_BLOCKS, BLOCK = 256, 1 << 16  # bytes
# Values of Parquet that JSON does not have, and that a text stands for.
_TEXTS = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)
# Arguments of sources that say where the data lie, and how they are read.
PLACES = ("path", "image_root", "captions", "data_dir", "timeout")


def take(data):
  """Returns the fingerprint of datasets, for JSON.

  Args:
    data: tuple of pipeline.Dataset.

  Returns:
    {name: dict}, of the dataset's spec without PLACES and
      number: int, which of the mixture it is.
      len: int, rows.
      files: str, digest of what its files and its index of rows hold.
      rows: {row: digest} of some rows and their images; without those that
        cannot be read now.
  """
  return {
    d.name: {
      **{k: v for k, v in json.loads(d.spec).items() if k not in PLACES},
      "number": number,
      "len": len(d.source),
      "files": _files(getattr(d.source, "parts", tuple)()),
      "rows": _rows(d),
    }
    for number, d in enumerate(data)
  }


def _rows(dataset):
  source, found = dataset.source, {}
  for i in checks.spread(len(source), NUM_ROWS):
    with (
      # TypeError: a row that JSON cannot say, such as keys that do not sort.
      contextlib.suppress(ValueError, OSError, TypeError),
      limits.within(dataset.limits),
    ):
      found[str(i)] = _row(source[i])
  return found


def _row(row):
  if isinstance(row.get("video"), str):  # a path
    row = {**row, "video": _files([row["video"]])}
  text = json.dumps(row, sort_keys=True, default=_plain)
  return _hex(text.encode())


def _plain(value):
  """Returns what stands for a value that JSON does not have."""
  if isinstance(value, bytes):
    return _hex(value)
  if isinstance(value, _TEXTS):
    return str(value)
  array = np.asarray(value)
  if array.dtype == object:
    return array.tolist()
  return [str(array.dtype), array.shape, _hex(array.tobytes())]


def _files(parts):
  """Returns the digest of paths of files, of which it reads blocks, and bytes.

  The sizes of all files are in it, and blocks of each.
  """
  digest, sizes = hashlib.sha256(), {}
  for part in parts:
    if isinstance(part, str):
      sizes[part] = os.path.getsize(part)
    else:
      # The index of ten million lines is 80 MB: 19 ms, and 53 by SHA-256.
      digest.update(repr(zlib.crc32(part)).encode())
  digest.update(repr([*sizes.values()]).encode())
  whole = max(1, sum(sizes.values()))
  for path, size in sizes.items():
    # Rounded up: then blocks of a small file leave nothing out.
    num = min(-(-size // BLOCK), -(-NUM_BLOCKS * size // whole))
    with open(path, "rb") as f:
      for k in range(num):
        f.seek(max(0, size - BLOCK) * k // max(1, num - 1))
        digest.update(f.read(BLOCK))
  return digest.hexdigest()[:16]


def _hex(data):
  return hashlib.sha256(data).hexdigest()[:16]
