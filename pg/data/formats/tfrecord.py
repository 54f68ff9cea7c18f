"""TFRecord files, read without TensorFlow, at any row.

A file is one record after the other: u64 length, u32 checksum of the length,
the bytes, u32 checksum of the bytes; little-endian; checksums are CRC-32C,
masked (https://www.tensorflow.org/tutorials/load_data/tfrecord). It has no
index: the first reading goes from length to length, and what it finds is kept
(index.py).
"""

import functools
import os
import struct

import numpy as np

from pg.data.formats import shards, splits, tf_example
from pg.data.storage import crc32c, index

SUFFIXES = (".tfrecord", ".tfrecords")
_HEAD, _TAIL = 12, 4  # bytes before and after those of a record


class TfRecord(splits.Sliced):
  """Rows of TFRecord files of tf.train.Example, of which nothing is known.

  The types of the values are found by looking (tf_example.Types). For datasets
  with a dataset_info.json take the source `tfds`, which knows them.
  """

  def __init__(self, path, split=None, keys=None, verify=True):
    """Finds the records.

    Args:
      path: str, a folder, file, pattern or URL of one; a list of files; or a
        mapping from splits to those.
      split: str, split syntax; None where there is only one split.
      keys: list of str, what to return of each row; None is all.
      verify: bool, whether to compare checksums. It takes 0.5 ms per 100 kB,
        and finds what a broken disk or copy made of the data.

    Raises:
      ValueError: no such files, one is missing or broken off, or as Types.
    """
    files = shards.find(path, SUFFIXES)
    read = functools.partial(records, verify=verify)

    def table(name):
      made = shards.Table(files[name], read, tf_example.parse)
      made.decode = tf_example.Types(made, keys)
      return made

    super().__init__(files, table, split)


@functools.lru_cache(maxsize=1 << 14)
def records(shard, verify=True):
  """Returns the records of a file, random access to bytes.

  Raises:
    ValueError: the file is no TFRecord file, or is broken off.
  """
  return Records(shard, verify)


class Records:
  """The records of one TFRecord file; safe to read from several threads."""

  def __init__(self, shard, verify):
    self._path, self._verify = shard.path, verify
    self._ends = index.Index(write_ends, shard.path).data.view(np.int64)

  def __len__(self):
    return len(self._ends)

  def __getitem__(self, i):
    start = int(self._ends[i - 1]) if i else 0
    with open(self._path, "rb") as f:
      f.seek(start)
      data = f.read(int(self._ends[i]) - start)
    body, tail = data[_HEAD:-_TAIL], data[-_TAIL:]
    if len(data) < _HEAD + _TAIL or len(body) != _length(data):
      raise ValueError(f"{self._path} has changed since it was opened")
    if self._verify and _masked(crc32c.crc32c(body)) != _number(tail):
      raise ValueError(
        f"the checksum of its {len(body)} bytes is wrong: they are not as they"
        " were written; copy the file again"
      )
    return body


def _length(head):
  return struct.unpack_from("<Q", head)[0]


def _number(tail):
  return struct.unpack("<I", tail)[0]


def _masked(crc):
  """Returns the form in which checksums are stored; u32, or an array of it."""
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_ends(path, sink):
  """Writes where each record ends, i64[records], after checking all lengths."""
  heads, ends, end = [], [], 0
  with open(path, "rb") as f:
    size = os.fstat(f.fileno()).st_size
    while len(head := f.read(_HEAD)) == _HEAD and end <= size:
      heads.append(head)
      end += _HEAD + _length(head) + _TAIL
      ends.append(end)
      f.seek(min(end, size))
  table = np.frombuffer(b"".join(heads), np.uint8).reshape(-1, _HEAD)
  sums = crc32c.crc32c_rows(table[:, :8]).astype(np.uint64)
  wrong = np.flatnonzero(_masked(sums) != table[:, 8:].copy().view("<u4")[:, 0])
  if len(wrong):
    raise ValueError(
      f"the checksum of the length of record {wrong[0]} is wrong: "
      + ("this is no TFRecord file" if not wrong[0] else "the file is broken")
    )
  if end != size:
    number = len(ends) if end < size else len(ends) - 1
    raise ValueError(
      f"the file is broken off in record {number}: it has {size} bytes; copy it"
      " again"
    )
  sink.write(np.array(ends, np.int64).tobytes())
