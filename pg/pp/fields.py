"""Values of an example's keys, checked for what an op can work with."""

import numpy as np

from pg import pp


def text_of(example, key):
  """Returns the text `example[key]`.

  Raises:
    ValueError: no such key, or not a str.
  """
  value = pp.get(example, key)
  if not isinstance(value, str):
    raise ValueError(f"{key!r} should be text, but is {type(value).__name__}")
  return value


def list_of(example, key):
  """Returns the list `example[key]`: a list, tuple or array of any length.

  Raises:
    ValueError: no such key, or not a list.
  """
  value = pp.get(example, key)
  if isinstance(value, np.ndarray) and value.ndim:
    return value
  if not isinstance(value, list | tuple):
    raise ValueError(f"{key!r} should be a list, but is {type(value).__name__}")
  return value


def texts_of(example, key):
  """Returns the list of str `example[key]`.

  Raises:
    ValueError: no such key, not a list, or a list with something else.
  """
  texts = list(list_of(example, key))
  for i, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
        f"{key!r} should be a list of texts, but its item {i} is"
        f" {type(text).__name__}"
      )
  return texts


def names(keys):
  """Returns one key, or a list of keys, as a list.

  Raises:
    ValueError: something else than str in it.
  """
  names = [keys] if isinstance(keys, str) else list(keys)
  for name in names:
    if not isinstance(name, str):
      raise ValueError(f"a key should be text, got {name!r} in {keys!r}")
  return names


def texts_in(example, texts):
  """Returns texts that are given as a list, or as the key of one.

  Raises:
    ValueError: no such key, or something else than str in the list.
  """
  if isinstance(texts, str):
    return texts_of(example, texts)
  return texts_of({"names": texts}, "names")
