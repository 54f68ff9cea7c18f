"""Read config files, their arguments and overrides; look names up; durations.

A config file is a Python file with `get_config(arg=None) -> ConfigDict`. On the
command line it is named as `path.py` or `path.py:res=448,model=pg2_3b`; what
stands behind the colon reaches `get_config` as a string and `arguments` turns
it into values. Single keys are overridden with `--config.lr=3e-6`.
"""

import ast
import difflib
import importlib.util
import math
import os
import re
import sys

import ml_collections

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def lookup(table, name, kind):
  """Returns `table[name]`.

  Raises:
    ValueError: `name` is not in the table; the message names the nearest key.
  """
  if name in table:
    return table[name]
  raise ValueError(unknown(name, table, kind))


def unknown(name, known, kind):
  """Returns the message for an unknown name, with the nearest known one."""
  near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
  hint = f'did you mean "{near[0]}"?' if near else "there is no similar one;"
  names = ", ".join(sorted(map(str, known)))
  return f'unknown {kind} "{name}"; {hint} Known: {names}.'


def literal(text):
  """Returns the Python value a command line word stands for, else the word."""
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def arguments(arg, **defaults):
  """Parses `"res=448,freeze"` over defaults into a ConfigDict of arguments.

  A bare word means True. Every name must be among the defaults; a value must
  have the default's type (an int where a float is meant is fine).

  Raises:
    ValueError: an unknown name, or a value of another type.
  """
  values = ml_collections.ConfigDict(defaults)
  for word in filter(None, (arg or "").split(",")):
    name, equals, text = word.partition("=")
    lookup(values, name, "config argument")
    value = literal(text) if equals else True
    default = defaults[name]
    if isinstance(default, str):
      value = text
    elif default is not None and not isinstance(value, type(default)):
      if isinstance(default, float) and isinstance(value, int):
        value = float(value)
      else:
        raise ValueError(
          f"config argument {name}={text}: wanted {type(default).__name__} like"
          f" {default!r}"
        )
    values[name] = value
  return values


def load(spec, overrides=()):
  """Loads `path.py[:args]` and applies `("lr", "3e-6")` overrides.

  Args:
    spec: str, the path of the config file, optionally with `:arguments`.
    overrides: pairs of a dotted key and the text of its value.

  Returns:
    A locked ConfigDict.

  Raises:
    ValueError: no such file, no such key, or a value of another type.
  """
  path, _, arg = spec.partition(":")
  if not os.path.isfile(path):
    raise ValueError(
      f"no config file {path!r}; configs live in configs/ and transfers/"
    )
  module_spec = importlib.util.spec_from_file_location("pg_config_file", path)
  module = importlib.util.module_from_spec(module_spec)
  if _ROOT not in sys.path:  # for `from transfers import base`
    sys.path.insert(0, _ROOT)
  module_spec.loader.exec_module(module)
  try:
    c = module.get_config(arg or None)
  except (AttributeError, KeyError, TypeError) as error:
    raise ValueError(f"{path}: {error}") from error
  for key, text in overrides:
    override(c, key, literal(text))
  return c.lock()


def override(c, key, value):
  """Sets the dotted `key` of a config to `value`, which must keep its type.

  Raises:
    ValueError: no such key, or a value of another type.
  """
  *parents, leaf = key.split(".")
  node = c
  for i, name in enumerate(parents):
    node = lookup(node, name, f"config key under '{'.'.join(parents[:i])}'")
    if not isinstance(node, ml_collections.ConfigDict):
      raise ValueError(f"config key {key!r}: {name!r} is a value, not a group")
  old = lookup(node, leaf, "config key")
  if isinstance(old, float) and isinstance(value, int):
    value = float(value)
  free = old is None or value is None or leaf in ("total", "every")
  if not free and not isinstance(value, type(old)):
    raise ValueError(
      f"config.{key}={value!r}: wanted {type(old).__name__} like {old!r}"
    )
  with node.ignore_type():
    node[leaf] = value


_DURATION = re.compile(r"^([0-9.eE+]+?)\s*(ep|%|ex|k ex|M ex|)$")


def steps(duration, batch_size, num_examples=None, total=None):
  """Converts a duration to a number of steps, at least 1 unless it is 0.

  `500` or `"500"` steps, `"10ep"` epochs, `"64k ex"` examples, `"25%"` of the
  run.

  Args:
    duration: int or str.
    batch_size: examples per step over all devices.
    num_examples: examples in one epoch, needed for "ep".
    total: steps in the run, needed for "%".

  Raises:
    ValueError: not a duration, or its unit needs what was not given.
  """
  match = _DURATION.match(str(duration).strip())
  if not match:
    raise ValueError(
      f'{duration!r} is not a duration; write 500, "10ep", "25%", "64k ex" or'
      ' "1M ex"'
    )
  number, unit = float(match[1]), match[2]
  needs = {"ep": num_examples, "%": total}
  if needs.get(unit, 0) is None:
    what = "a number of training examples" if unit == "ep" else "a total"
    raise ValueError(f"duration {duration!r} needs {what}; there is none here")
  factor = {
    "": 1,
    "%": (total or 0) / 100,
    "ep": (num_examples or 0) / batch_size,
    "ex": 1 / batch_size,
    "k ex": 1e3 / batch_size,
    "M ex": 1e6 / batch_size,
  }[unit]
  return max(1, math.ceil(number * factor - 1e-9)) if number else 0
