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

import google_crc32c
import numpy as np

from pg import limits
from pg.data.formats import shards, tf_example
from pg.data.storage import index

_HEAD, _TAIL = 12, 4  # bytes before and after those of a record


class TfRecord(shards.Sharded):
  """Rows of TFRecord files of tf.train.Example, of which nothing is known.

  The types of the values are found by looking (tf_example.Types). For datasets
  with a dataset_info.json take the source `tfds`, which knows them.
  """

  suffixes = (".tfrecord", ".tfrecords")

  def _table(self, files, keys):
    made = shards.Table(files, Records, tf_example.parse)
    made.decode = tf_example.Types(made, keys)
    return made


@functools.lru_cache(maxsize=1 << 14)
class Records:
  """The records of one TFRecord file; safe to read from several threads."""

  def __init__(self, shard):
    """Raises ValueError: it is no TFRecord file, or is broken off."""
    self._path = shard.path
    self._ends = index.Index(write_ends, shard.path).data.view(np.int64)

  def __len__(self):
    return len(self._ends)

  def __getitem__(self, i):
    start = int(self._ends[i - 1]) if i else 0
    size = int(self._ends[i]) - start
    limits.check_bytes(size, "the record")
    with open(self._path, "rb") as f:
      f.seek(start)
      data = f.read(size)
    body, tail = data[_HEAD:-_TAIL], data[-_TAIL:]
    if len(data) < _HEAD + _TAIL or len(body) != _length(data):
      raise ValueError(f"{self._path} has changed since it was opened")
    # 14 us per 100 kB to find what a broken disk or copy made of it.
    if _masked(google_crc32c.value(body)) != _number(tail):
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
  """Returns the form in which checksums are stored; u32."""
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_ends(path, sink):
  """Writes where each record ends, i64[records], after checking all lengths."""
  ends, end = [], 0
  with open(path, "rb") as f:
    size = os.fstat(f.fileno()).st_size
    while len(head := f.read(_HEAD)) == _HEAD and end <= size:
      if _masked(google_crc32c.value(head[:8])) != _number(head[8:]):
        raise ValueError(
          f"the checksum of the length of record {len(ends)} is wrong: "
          + ("the file is broken" if ends else "this is no TFRecord file")
        )
      end += _HEAD + _length(head) + _TAIL
      ends.append(end)
      f.seek(min(end, size))
  if end != size:
    number = len(ends) if end < size else len(ends) - 1
    raise ValueError(
      f"the file is broken off in record {number}: it has {size} bytes; copy it"
      " again"
    )
  sink.write(np.array(ends, np.int64).tobytes())
