"""Parquet and Arrow files, as Hugging Face lays datasets out.

A dataset of their hub is read by its name, and only the files of the split that
is used are downloaded:

  hf://datasets/owner/name            whose files are Parquet or Arrow
  hf://datasets/owner/name/config     one of several configurations
  hf://datasets/owner/name@refs/convert/parquet/config      of one in another
                                      format, what the hub made of it

Columns are the keys of a row. An image is a struct {bytes, path}, and comes out
as its bytes. Where the file says which columns are class labels (the metadata
"huggingface" of its schema), the key with `_name` after it is the label's name,
or None.

Parquet is compressed in groups of rows, often 100 or 1000, and to read a row is
to decompress its group. The last few groups are kept, so reading in order is
fast. Shuffled reading is not: convert the data once to ArrayRecord
(`array_record.write(path, rows)`), or to Arrow, whose rows lie in the file.
"""

import functools
import json
import os
import threading

from pg import config
from pg.data.formats import rows as rows_lib
from pg.data.formats import shards

_GROUPS = 8  # of Parquet that are kept, in all files together
# A group of more bytes that takes so much less in the file is not read on.
_LARGE, _MOST_RATIO = 1 << 30, 100
_BATCH = 64  # rows of it that are read at a time
_LOCKS = [threading.Lock() for _ in range(16)]


class Parquet(shards.Sharded):
  """Rows of Parquet files, or of Arrow files (file or stream format)."""

  suffixes = (".parquet", ".arrow", ".feather")

  def __init__(self, path, split=None, keys=None, image_root=None):
    """Finds the rows.

    Args:
      path, split, keys: as in shards.Sharded; keys are columns.
      image_root: str, the folder that paths of images are relative to, and that
        they are in; None is the folder of each file.
    """
    self._image_root = image_root
    super().__init__(path, split, keys)

  def _table(self, files, keys):
    columns = None if keys is None else tuple(keys)
    root = self._image_root
    read = functools.partial(rows, columns=columns, image_root=root)
    return shards.Table(files, read, noun="row")


@functools.lru_cache(maxsize=1 << 8)  # each keeps its file open
def rows(shard, columns=None, image_root=None):
  """Returns the rows of a file, random access to dicts.

  Args:
    shard: shards.Shard.
    columns: tuple of str, what to read; None is all.
    image_root: str, as for `Parquet`.

  Raises:
    ValueError: no such column.
    pyarrow.ArrowException: the file is broken.
  """
  is_arrow = shard.path.endswith((".arrow", ".feather"))
  return (_Arrow if is_arrow else _Parquet)(shard, columns, image_root)


@functools.lru_cache(maxsize=1 << 8)
def values(shard, column):
  """Returns the values of one column of a Parquet file, random access."""
  return _Column(_Parquet(shard, (column,)), column)


class _Column:
  def __init__(self, rows, column):
    self._rows, self._column = rows, column

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    return self._rows[i][self._column]


class _Parquet:
  """Rows of one Parquet file."""

  def __init__(self, shard, columns, image_root=None):
    from pyarrow import parquet

    self._shard, self._columns = shard, columns
    with parquet.ParquetFile(shard.path) as f:
      self._metadata = f.metadata
      self._decode = _Decoder(f.schema_arrow, columns, shard, image_root)
    numbers = range(self._metadata.num_row_groups)
    sizes = [self._metadata.row_group(n).num_rows for n in numbers]
    self._rows = rows_lib.Concatenation(sizes)

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    number, row = self._rows.locate(i)
    # Threads that read in order want the same group: one of them reads it.
    with _LOCKS[hash((self._shard, number)) % len(_LOCKS)]:
      table = _group(self._shard, number, self._columns)
    return self._decode(table.slice(row, 1).to_pylist()[0])


@functools.lru_cache(maxsize=_GROUPS)
def _group(shard, number, columns):
  """Returns one group of rows of a Parquet file, a pyarrow.Table."""
  import pyarrow as pa
  from pyarrow import parquet

  options = dict(page_checksum_verification=True)
  with parquet.ParquetFile(shard.path, **options) as f:
    group, batches, size = f.metadata.row_group(number), [], 0
    stored = [group.column(i) for i in range(group.num_columns)]
    stored = sum(column.total_compressed_size for column in stored)
    most = max(_LARGE, _MOST_RATIO * min(shard.size, stored))
    _check(group.total_byte_size, most)
    # That says little of a long value that many rows have.
    for batch in f.iter_batches(_BATCH, [number], columns, use_threads=False):
      batches.append(batch)
      size += batch.nbytes
      _check(size, most)
  return pa.Table.from_batches(batches)


def _check(size, most):
  """Raises ValueError for a group that swells when it is read."""
  if size > most:
    raise ValueError(
      f"its group of rows has {size:,} bytes or more when it is read, far more"
      " than in the file; write fewer rows into a group"
    )


class _Arrow:
  """Rows of one Arrow file, which is mapped into memory and not read."""

  def __init__(self, shard, columns, image_root):
    import pyarrow as pa

    mapped = pa.memory_map(shard.path)
    is_file = mapped.read(6) == b"ARROW1"
    mapped.seek(0)
    opened = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(mapped)
    table = opened.read_all()
    self._decode = _Decoder(table.schema, columns, shard, image_root)
    table = table.select(columns) if columns else table
    self._batches, self._sound = table.to_batches(), set()
    self._rows = rows_lib.Concatenation(b.num_rows for b in self._batches)

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    number, row = self._rows.locate(i)
    batch = self._batches[number]
    if number not in self._sound:
      batch.validate(full=True)  # an offset that is wrong would be a crash
      self._sound.add(number)
    return self._decode(batch.slice(row, 1).to_pylist()[0])


class _Decoder:
  """Turns a row of Python values into an example."""

  def __init__(self, schema, columns, shard, image_root):
    for column in columns or ():
      if column not in schema.names:
        raise ValueError(config.unknown(column, schema.names, "column"))
    self._root = image_root or os.path.dirname(shard.path)
    metadata = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(metadata).get("info", {}).get("features", {})
    self._features = {k: f for k, f in features.items() if k in schema.names}

  def __call__(self, row):
    return _name(self._images(row), self._features)

  def _images(self, value):
    if isinstance(value, list):
      return [self._images(item) for item in value]
    if not isinstance(value, dict):
      return value
    if value.keys() != {"bytes", "path"}:
      return {key: self._images(item) for key, item in value.items()}
    if value["bytes"] is not None:
      return value["bytes"]
    if not value["path"]:
      raise ValueError("an image has neither bytes nor a path")
    return rows_lib.read(value["path"], self._root)


def _name(value, features):
  """Adds the names of labels to a dict; `features` says where they are."""
  named = dict(value)
  for key, feature in features.items():
    while isinstance(feature, list) or {"feature", "_type"} <= feature.keys():
      feature = feature[0] if isinstance(feature, list) else feature["feature"]
    if key not in value or value[key] is None:
      continue
    if feature.get("_type") == "ClassLabel" and f"{key}_name" not in value:
      named[f"{key}_name"] = _label(value[key], feature["names"])
    elif "_type" not in feature and isinstance(value[key], dict):
      named[key] = _name(value[key], feature)
    elif "_type" not in feature and isinstance(value[key], list):
      named[key] = [_name(item, feature) for item in value[key]]
  return named


def _label(value, names):
  if isinstance(value, list):
    return [_label(item, names) for item in value]
  known = value is not None and 0 <= value < len(names)
  return names[value] if known else None
