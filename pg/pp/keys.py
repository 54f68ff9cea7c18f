"""Ops that copy, rename, drop and join keys, and that skip examples."""

import numbers

import numpy as np

from pg import pp
from pg.pp import fields

_ANY = object()  # "whatever value, if there is one"


@pp.op
def copy(example, key: str, out: str):
  """Gives a value a second name: `copy("caption", out="suffix")`."""
  return {out: pp.get(example, key)}


@pp.op
def rename(example, key: str, out: str):
  """Gives a value another name: `rename("texts", out="answers")`."""
  value = pp.get(example, key)
  return {key: pp.DROP, out: value}


@pp.op
def drop(example, keys: str | list):
  """Takes keys away, large ones that no metric needs: `drop("mask")`."""
  names = fields.names(keys)
  for name in names:
    pp.get(example, name)
  return dict.fromkeys(names, pp.DROP)


@pp.op
def gather(example, keys: list, out: str):
  """Makes a list of several keys: `gather(["left", "right"], out="image")`."""
  return {out: [pp.get(example, key) for key in fields.names(keys)]}


@pp.op
def flatten(example):
  """Makes keys of nested dicts: {"a": {"b": 1}} becomes {"a/b": 1}."""
  nested = {k: v for k, v in example.items() if isinstance(v, dict)}
  return dict.fromkeys(nested, pp.DROP) | dict(_flat(nested))


def _flat(tree):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from ((f"{key}/{k}", v) for k, v in _flat(value))
    else:
      yield key, value


@pp.op
def keep_if(example, key: str, value=_ANY):
  """Skips a row unless a key has a value.

  `keep_if("answers")` keeps rows where the key is there and neither None nor an
  empty text or list; `keep_if("issimple", True)` those with that value;
  `keep_if("type", ["comp", "presence"])` those with one of several.

  Raises:
    pp.Skip: the row is not kept.
    ValueError: with a value: no such key, or neither text nor number.
  """
  if not _matches(example, key, value):
    raise _skip(example, key)
  return {}


@pp.op
def skip_if(example, key: str, value=_ANY):
  """Skips the rows that `keep_if` keeps, and keeps the others."""
  if _matches(example, key, value):
    raise _skip(example, key)
  return {}


def _skip(example, key):
  """Returns a Skip that says what the key has, or of what type it is."""
  found = example.get(key)
  short = found is None or isinstance(found, str | numbers.Number | np.bool_)
  return pp.Skip(f"{key!r} is {str(found)[:60] if short else type(found)}")


def _matches(example, key, value):
  if value is _ANY:
    found = example.get(key)
    if isinstance(found, np.ndarray):
      return found.size > 0
    if isinstance(found, str | bytes | list | tuple | dict):
      return len(found) > 0
    return found is not None
  found = pp.get(example, key)
  if found is not None and not isinstance(
    found, str | numbers.Number | np.bool_
  ):
    raise ValueError(
      f"{key!r} should be text or a number, but is {type(found).__name__}"
    )
  return found in value if isinstance(value, list) else found == value
