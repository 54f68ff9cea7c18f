"""Decodes rows that TensorFlow Datasets stores, by features.json.

The features of a row are a tree of dicts and sequences with texts, images,
numbers and so on as leaves. Each leaf has a key of the Example, the path to it
("objects/bbox"), with all its values in one flat list. Leaves in a sequence in
a sequence have two or more keys: the flat list in "<path>/ragged_flat_values",
and how many items each inner list has in "<path>/ragged_row_lengths_0".
"""

import zlib
from typing import NamedTuple

import numpy as np

from pg import config, limits
from pg.data.formats import tf_example

# kind in features.json -> what its values are
_BYTES = {"image": "bytes", "video": "bytes", "text": "text"}
_NUMBERS = ("tensor", "boundingBox", "classLabel")
_CLASSES = (
  "tensorflow_datasets.core.features."  # the others are a dataset's own
)


class Decoder:
  """Turns the records of a dataset into examples."""

  def __init__(self, spec, folder, keys=None):
    """Reads the features and the names of labels.

    Args:
      spec: dict, what is in features.json.
      folder: pathlib.Path, the dataset's.
      keys: list of str, what to return of each record; None is all.

    Raises:
      ValueError: a feature of a kind that is not known, or an unknown key.
    """
    known = spec["featuresDict"]["features"]
    for key in keys or ():
      config.lookup(known, key, "feature")
    self._root = {
      key: _feature(known[key], key, 0, folder)
      for key in (known if keys is None else keys)
    }

  def __call__(self, record):
    """Returns the example in a record.

    Raises:
      ValueError: no Example, or a feature is missing or not as it should be.
    """
    lists = tf_example.parse(record)
    return _example(self._root, lambda leaf: _value(leaf, lists))

  def from_tfds(self, row):
    """Returns the example in a row that TensorFlow Datasets read.

    Raises:
      ValueError: a feature is not as it should be.
    """
    values = dict(_flat(row))
    return _example(self._root, lambda leaf: _plain(leaf, values[leaf.key]))


def tfds_reads(spec, depth=0):
  """Says whether TensorFlow Datasets reads a feature without TensorFlow.

  It keeps single images encoded, but no sequence of them; it imports TensorFlow
  for the class of a video or sound; and sequences of arrays have limits.

  Args:
    spec: dict, a feature in features.json.
    depth: int, how many sequences are around it.
  """
  name = spec.get("pythonClassName", _CLASSES)
  if not name.startswith(_CLASSES) or name.endswith(".Dataset"):
    return False
  if "featuresDict" in spec:
    inside = spec["featuresDict"].get("features", {})
    return all(tfds_reads(feature, depth) for feature in inside.values())
  if "sequence" in spec:
    return tfds_reads(spec["sequence"]["feature"], depth + 1)
  if "image" in spec:
    return not depth
  if "tensor" in spec:
    sizes = spec["tensor"].get("shape", {}).get("dimensions", ())
    is_encoded = spec["tensor"].get("encoding", "none") != "none"
    unknown = [int(n) for n in sizes].count(-1)
    return depth + is_encoded < 3 and depth + unknown < 3
  return not {"text", "boundingBox", "classLabel"}.isdisjoint(spec)


class _Leaf(NamedTuple):
  """A feature with values of its own."""

  key: str  # path to it
  depth: int  # sequences around it
  kind: str  # "bytes", "text", "string" (text if it can be), "number"
  dtype: np.dtype = None  # of numbers
  shape: tuple = ()  # of one item; None: not known
  encoding: str = "none"  # "bytes", "zlib": an item is the bytes of its array
  optional: bool = False
  names: tuple = None  # of the classes of a label


def _feature(spec, key, depth, folder):
  """Returns the _Leaf of a feature, or dict of them."""
  if "featuresDict" in spec:
    inside = spec["featuresDict"].get("features", {})
    return {
      k: _feature(v, f"{key}/{k}", depth, folder) for k, v in inside.items()
    }
  if "sequence" in spec:
    return _feature(spec["sequence"]["feature"], key, depth + 1, folder)
  for kind, values in _BYTES.items():
    if kind in spec:
      return _Leaf(key, depth + (kind == "video"), values)
  for kind in _NUMBERS:
    if kind in spec:
      return _numbers(kind, spec[kind], _Leaf(key, depth, "number"), folder)
  raise ValueError(
    f"feature {key!r} is of no kind that can be read ({', '.join(spec)}); leave"
    " it out with keys=[...]"
  )


def _numbers(kind, spec, leaf, folder):
  """Returns the _Leaf of a tensor, box or label."""
  if kind == "classLabel":
    return leaf._replace(
      dtype=np.dtype("int64"), names=_names(leaf.key, folder)
    )
  default = {"dimensions": [4]} if kind == "boundingBox" else {}
  sizes = [int(n) for n in spec.get("shape", default).get("dimensions", ())]
  shape = tuple(n if n >= 0 else None for n in sizes)
  encoding = spec.get("encoding", "none")
  if spec.get("dtype") == "string":
    leaf = leaf._replace(kind="string")
  else:
    try:
      leaf = leaf._replace(dtype=np.dtype(spec.get("dtype", "float32")))
    except TypeError as e:
      raise ValueError(f"feature {leaf.key!r}: {e}; leave it out") from e
  most = 0 if leaf.depth else 1  # unknown sizes that the number of values tells
  if encoding != "none":
    most = 1 if leaf.depth > 1 else len(shape)
  if shape.count(None) > most:
    raise ValueError(f"feature {leaf.key!r} has an unknown shape; leave it out")
  return leaf._replace(
    shape=shape, encoding=encoding, optional=spec.get("optional", False)
  )


def _names(key, folder):
  """Returns the names of the classes of a label, or None."""
  path = folder / f"{key.replace('/', '-')}.labels.txt"
  try:
    return tuple(path.read_text(encoding="utf-8").splitlines())
  except (OSError, ValueError):
    return None


def _example(node, value_of):
  """Returns the value of a feature, given a function for those of leaves."""
  if isinstance(node, _Leaf):
    return value_of(node)
  values = {key: _example(inner, value_of) for key, inner in node.items()}
  for key, inner in node.items():
    if isinstance(inner, _Leaf) and inner.names and f"{key}_name" not in node:
      values[f"{key}_name"] = _named(values[key], inner.names)
  return values


def _named(label, names):
  if isinstance(label, list):
    return [_named(item, names) for item in label]
  return names[label] if 0 <= label < len(names) else None


def _flat(row, path=""):
  """Yields the values in nested dicts, with the paths to them."""
  for key, value in row.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{path}{key}/")
    else:
      yield f"{path}{key}", value


def _plain(leaf, value, depth=0):
  """Returns what TensorFlow Datasets read as Python values, text as str."""
  if depth < leaf.depth:
    return [_plain(leaf, item, depth + 1) for item in value]
  if leaf.kind == "text":
    return tf_example.text(leaf.key, value)
  if leaf.kind == "string" and isinstance(value, np.ndarray):
    texts = [tf_example.maybe_text(item) for item in value.flat]
    return np.array(texts, object).reshape(value.shape)
  if leaf.kind == "string":
    return tf_example.maybe_text(value)
  return value.item() if isinstance(value, np.generic) else value


def _value(leaf, lists):
  """Returns the value of a leaf, given dict from keys to lists."""
  if leaf.depth > 1:
    return _ragged(leaf, lists)
  key = leaf.key
  if leaf.shape.count(None) > 1:
    key, shapes = f"{key}/value", lists.get(f"{key}/shape", [])
    size = len(leaf.shape)
    shapes = [shapes[i : i + size] for i in range(0, len(shapes), size)]
  else:
    shapes = None
  if key not in lists and not leaf.depth and None not in leaf.shape:
    if leaf.optional:
      return None
    raise ValueError(f"no feature {key!r}, only {', '.join(sorted(lists))}")
  items = _items(leaf, lists.get(key, []), shapes)
  if leaf.depth:
    return items
  if len(items) != 1:
    raise ValueError(f"feature {key!r} has {len(items)} values instead of one")
  return items[0]


def _ragged(leaf, lists):
  """Returns lists of lists of the items of a sequence in a sequence."""
  items = _items(leaf, lists.get(f"{leaf.key}/ragged_flat_values", []))
  for i in reversed(range(leaf.depth - 1)):
    lengths = lists.get(f"{leaf.key}/ragged_row_lengths_{i}", [])
    if (
      not all(isinstance(n, int) for n in lengths)
      or min(lengths, default=0) < 0
    ):
      raise ValueError(f"feature {leaf.key!r}: lengths {lengths[:9]}")
    if sum(lengths) != len(items):
      raise ValueError(
        f"feature {leaf.key!r} has {len(items)} items where {sum(lengths)}"
        " should be"
      )
    ends = np.cumsum([0, *lengths]).tolist()
    items = [items[a:b] for a, b in zip(ends, ends[1:])]
  return items


def _items(leaf, values, shapes=None):
  """Returns the list of items that a flat list of values stands for."""
  if leaf.encoding != "none":
    shapes = shapes or [_minus_one(leaf.shape)] * len(values)
    if len(shapes) != len(values):
      raise ValueError(
        f"feature {leaf.key!r} has {len(values)} values of {len(shapes)} shapes"
      )
    return [_array(leaf, *pair) for pair in zip(values, shapes)]
  stored = bytes
  if leaf.kind == "number":
    stored = float if leaf.dtype.kind == "f" else int
  if values and not isinstance(values[0], stored):
    raise ValueError(
      f"feature {leaf.key!r} should be {stored.__name__}, but is"
      f" {type(values[0]).__name__}"
    )
  if leaf.kind == "number":
    return _group(leaf, np.array(values, stored).astype(leaf.dtype))
  if leaf.kind == "text":
    return [tf_example.text(leaf.key, value) for value in values]
  if leaf.kind == "string":
    values = np.array([tf_example.maybe_text(v) for v in values], object)
    return _group(leaf, values)
  return values


def _group(leaf, values):
  """Returns list of numbers, or of arrays if an item is more than one."""
  if not leaf.shape:
    return values.tolist()
  try:
    if None in leaf.shape and not leaf.depth:
      return [values.reshape(_minus_one(leaf.shape))]
    return list(values.reshape(-1, *leaf.shape))
  except ValueError as e:
    raise ValueError(f"feature {leaf.key!r}: {e}") from e


def _minus_one(shape):
  """Returns a shape as numpy wants it, with -1 for what is not known."""
  return [-1 if n is None else n for n in shape]


def _array(leaf, value, shape):
  """Returns the array that was encoded as bytes."""
  try:
    data = _inflated(value) if leaf.encoding == "zlib" else value
    return np.frombuffer(data, leaf.dtype).reshape(shape)
  except (TypeError, ValueError, zlib.error) as e:
    raise ValueError(
      f"feature {leaf.key!r} is no {leaf.dtype} array: {e}"
    ) from e


def _inflated(value):
  """Returns what zlib made smaller, if it is no more than a row may ask for."""
  stream = zlib.decompressobj()
  data = stream.decompress(value, limits.current().max_bytes + 1)
  limits.check_bytes(len(data), "the array")
  if not stream.eof:
    raise ValueError("it is cut short")
  return data
