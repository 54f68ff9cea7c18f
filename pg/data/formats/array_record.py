"""ArrayRecord files, as pg's own preparation scripts write them.

  array_record.write("train.array_record-00000-of-00002", rows)

A record is one row, with images as they are and everything else as JSON:

  b"pg1\\n" | u32 size of the JSON, little-endian | JSON, UTF-8 | bytes

The JSON is a list of two objects: the row without its bytes, and how many bytes
there are for each key with bytes, a number or a list of them, in the order in
which they follow:

  [{"prefix": "caption en", "id": 7}, {"image": 73912, "frames": [512, 530]}]

Other records are read as tf.train.Example, which is what TensorFlow Datasets
and many others put into these files. Broken records are found: the format has
checksums of its own (https://github.com/google/array_record).
"""

import contextlib
import functools
import json
import struct

from pg import atomic, config
from pg.data.formats import shards, tf_example

_MAGIC = b"pg1\n"
_HEAD = len(_MAGIC) + 4  # bytes before the JSON
_READER = "readahead_buffer_size:0,max_parallelism:0"  # best for random access


class ArrayRecord(shards.Sharded):
  """Rows of ArrayRecord files."""

  suffixes = (".array_record", ".arrayrecord")

  def _table(self, files, keys):
    made = shards.Table(files, Records)
    if _first(made).startswith(_MAGIC):
      made.decode = functools.partial(unpack, keys=keys)
    else:
      made.decode = tf_example.parse
      made.decode = tf_example.Types(made, keys)
    return made


def _first(rows):
  """Returns the first of the first rows that can be read, or no bytes."""
  for i in range(min(len(rows), 100)):
    with contextlib.suppress(ValueError):
      return rows[i]
  return b""


@functools.lru_cache(maxsize=1 << 8)  # each keeps its file open
class Records:
  """The records of one ArrayRecord file; safe to read from several threads."""

  def __init__(self, shard):
    """Raises ValueError: it is no ArrayRecord file, or is broken off."""
    from array_record.python import array_record_module

    self._reader = array_record_module.ArrayRecordReader(shard.path, _READER)
    if not self._reader.ok():
      raise ValueError(
        f"its {shard.size} bytes are no ArrayRecord file, or one that is broken"
        " off; copy or write it again"
      )

  def __len__(self):
    return self._reader.num_records()

  def __getitem__(self, i):
    return self._reader.read([i])[0]


def write(path, rows):
  """Writes rows to a file and returns how many there were.

  What has its name is complete and need not be written again.

  Args:
    path: str, named as the sources want it: "train.array_record", or
      "train.array_record-00000-of-00008" for one of several.
    rows: iterable of dicts; values are bytes, lists of bytes, or what JSON has.

  Raises:
    ValueError: a value is something else; names the row.
  """
  from array_record.python import array_record_module

  number = -1
  with atomic.replacing(path) as part:
    writer = array_record_module.ArrayRecordWriter(part, "group_size:1")
    with contextlib.closing(writer):
      for number, row in enumerate(rows):
        try:
          writer.write(pack(row))
        except ValueError as e:
          raise ValueError(f"row {number} for {path}: {e}") from e
  return number + 1


def pack(row):
  """Returns the record of a row, bytes.

  Raises:
    ValueError: a value is neither bytes, nor a list of them, nor JSON.
  """
  sizes, chunks, rest = {}, [], {}
  for key, value in row.items():
    if isinstance(value, bytes):
      sizes[key] = len(value)
      chunks.append(value)
    elif _is_list_of_bytes(value):
      sizes[key] = list(map(len, value))
      chunks += value
    else:
      rest[key] = value
  try:
    text = json.dumps([rest, sizes], ensure_ascii=False, allow_nan=False)
  except (TypeError, ValueError) as e:
    raise ValueError(
      f"wanted bytes, lists of bytes, or text, numbers, lists and dicts: {e}"
    ) from e
  text = text.encode()
  return b"".join([_MAGIC, struct.pack("<I", len(text)), text, *chunks])


def _is_list_of_bytes(value):
  items = value if isinstance(value, list) else []
  return items and all(isinstance(item, bytes) for item in items)


def unpack(record, keys=None):
  """Returns the row of a record.

  Args:
    record: bytes, from `pack`.
    keys: list of str, what to return; None is all.

  Raises:
    ValueError: not such a record, or a key is missing.
  """
  if not record.startswith(_MAGIC) or len(record) < _HEAD:
    raise ValueError(f"its {len(record)} bytes are no record of pg's")
  start = _HEAD + struct.unpack_from("<I", record, len(_MAGIC))[0]
  try:
    row, sizes = json.loads(record[_HEAD:start])
    row = {**row}
    for key, size in sizes.items():
      ends = [size] if isinstance(size, int) else size
      chunks = []
      for num in ends:
        chunks.append(record[start : start + num])
        start += num
      row[key] = chunks[0] if isinstance(size, int) else chunks
  except (AttributeError, RecursionError, TypeError, ValueError) as e:
    raise ValueError(f"the JSON of a record is broken: {e}") from e
  if start != len(record):
    raise ValueError(f"{start} bytes should be there, but {len(record)} are")
  if keys is None:
    return row
  return {key: config.lookup(row, key, "key of the record") for key in keys}
