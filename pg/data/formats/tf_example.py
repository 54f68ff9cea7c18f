"""tf.train.Example messages, read without TensorFlow.

An Example is a map from keys to lists of bytes, of float32 or of int64. What a
list stands for (one value or several? a text or an image?) is not in it, and is
found by looking at some of the data.
"""

from typing import NamedTuple

from pg import config

_SAMPLES = 100  # records that are looked at


def parse(record):
  """Returns dict from the keys of a serialized Example to their lists.

  Args:
    record: bytes.

  Raises:
    ValueError: not an Example.
  """
  # Only here: they take half a second.
  from google.protobuf import message
  from tensorflow_datasets.proto import tf_example_pb2

  try:
    features = tf_example_pb2.Example.FromString(record).features.feature
  except message.DecodeError as e:
    raise ValueError(
      f"the {len(record)} bytes are no tf.train.Example: {e}"
    ) from e
  lists = {}
  for key, feature in features.items():
    kind = feature.WhichOneof("kind")
    lists[key] = list(getattr(feature, kind).value) if kind else []
  return lists


class _Type(NamedTuple):
  """What the lists under one key stand for."""

  kind: type  # of the values: bytes, str, float or int; None: always empty
  several: bool  # a list of values, else exactly one
  always: bool  # in all records


class Types:
  """Turns records into examples, with types found in some of them."""

  def __init__(self, rows, keys=None):
    """Looks at up to 100 records, evenly spread; broken ones do not count.

    A key whose lists have one value each is that value, else a list; bytes that
    are UTF-8 everywhere are text; what is in all of them has to be in all.

    Args:
      rows: a source whose rows are what `parse` returns.
      keys: list of str, what to return of each record; None is all.

    Raises:
      ValueError: none of the records can be read, a key has values of several
        types, or `keys` has one that no record has.
    """
    rows = _sample(rows)
    found = dict.fromkeys(key for row in rows for key in row)
    for key in keys or ():
      config.lookup(found, key, "key of the records")
    self._all = keys is None
    self._types = {
      key: _type(key, [row[key] for row in rows if key in row], len(rows))
      for key in (found if keys is None else keys)
    }

  def __call__(self, record):
    """Returns the example in a record.

    Raises:
      ValueError: no Example, or a key is missing or not of its type.
    """
    lists = parse(record)
    if self._all:
      for key in lists.keys() - self._types.keys():
        raise ValueError(f"key {key!r} is in none of the first records read")
    example = {}
    for key, wanted in self._types.items():
      if key in lists:
        example[key] = _value(key, lists[key], wanted)
      elif wanted.always:
        raise ValueError(
          f"no key {key!r}, only {', '.join(sorted(lists)) or 'an empty map'}"
        )
      elif wanted.several:
        example[key] = []
    return example


def _sample(rows):
  """Returns up to 100 of the rows, evenly spread, those that can be read."""
  num, sample, error = min(_SAMPLES, len(rows)), [], None
  for i in range(num):
    try:
      sample.append(rows[i * len(rows) // num])
    except ValueError as e:
      error = error or e
  if error and not sample:
    raise error
  return sample


def _type(key, lists, num):
  """Returns the _Type that fits all the lists of a key, of `num` records."""
  values = [value for values in lists for value in values]
  kinds = {type(value) for value in values}
  if len(kinds) > 1:
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f"key {key!r} has values of several types: {names}")
  kind = kinds.pop() if kinds else None
  if kind is bytes and all(isinstance(maybe_text(v), str) for v in values):
    kind = str
  several = any(len(values) != 1 for values in lists)
  return _Type(kind, several, always=len(lists) == num)


def maybe_text(value):
  """Returns bytes as text if they are UTF-8, else as they are."""
  try:
    return value.decode()
  except UnicodeDecodeError:
    return value


def _value(key, values, wanted):
  """Returns a list of an Example as its value or values."""
  if not wanted.several and len(values) != 1:
    raise ValueError(f"key {key!r} has {len(values)} values, others have one")
  stored = bytes if wanted.kind is str else wanted.kind
  for value in values:
    if stored is not None and not isinstance(value, stored):
      raise ValueError(
        f"key {key!r} should be {stored.__name__}, but is"
        f" {type(value).__name__}"
      )
  if wanted.kind is str:
    values = [text(key, value) for value in values]
  return values if wanted.several else values[0]


def text(key, value):
  """Returns bytes as text, or raises ValueError that names the key."""
  try:
    return value.decode()
  except UnicodeDecodeError as e:
    raise ValueError(f"key {key!r} is not UTF-8 text: {e}") from e
