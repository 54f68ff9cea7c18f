"""Read config files, their arguments and overrides; look names up; durations.

A config file is a Python file with `get_config(arg=None) -> ConfigDict`. On the
command line it is named as `path.py` or `path.py:res=448,model=pg2_3b`; what
stands after the colon reaches `get_config` as a string and `arguments` turns
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
    default = lookup(defaults, name, "config argument")
    if not equals and not isinstance(default, bool):
      raise ValueError(f"config argument {name} has no value; write {name}=...")
    text = text if equals else "True"
    values[name] = _typed(text, default, f"config argument {name}")
  return values


def _typed(text, like, name):
  """Returns the value that a word stands for, in the type of `like`.

  A str takes the word as it is; an int may stand for a float; None takes all.

  Raises:
    ValueError: a value of another type.
  """
  if isinstance(like, str):
    return text
  value = literal(text)
  if isinstance(like, float) and type(value) is int:
    value = float(value)
  if like is not None and type(value) is not type(like):
    raise ValueError(
      f"{name}={text}: wanted {type(like).__name__} like {like!r}"
    )
  return value


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
    raise ValueError(f"{path}: {_complaint(error)}") from error
  _check_names(c, path)
  for key, text in overrides:
    override(c, key, text)
  return c.lock()


def _check_names(c, path):
  """Raises ValueError for a key of an older version, and says the new one."""
  for old, new in RENAMED.items():
    node, (*parents, leaf) = c, old.split(".")
    for name in parents:
      node = node.get(name) or {}
    if leaf in node:
      raise ValueError(f"{path}: the config key {old} is called {new} now")


def _complaint(error):
  """Returns an error's text on one line, without ml_collections' dumps."""
  while error.args and isinstance(error.args[0], Exception):
    error = error.args[0]
  text = " ".join(map(str, error.args))
  for old, new in RENAMED.items():
    if f'"{old.split(".")[-1]}"' in text:
      text += f"; the config key {old} is called {new} now"
  text = re.sub(r' Other fields present: "\{.*\}"', "", text, flags=re.DOTALL)
  return f"{type(error).__name__}: {' '.join(text.split())}"


def override(c, key, text):
  """Sets the dotted `key` of a config to what `text` stands for.

  The type stays, except that durations take numbers and texts, and None goes
  everywhere but into a text. Datasets and evaluators take new keys: who opens
  them knows which there are.

  Raises:
    ValueError: no such key, or a value of another type.
  """
  *parents, leaf = key.split(".")
  node, path = c, "config"
  for name in parents:
    node, path = lookup(node, name, f"{path} key"), f"{path}.{name}"
    if not isinstance(node, ml_collections.ConfigDict):
      raise ValueError(f"{path} is a value, it has no key {leaf!r}")
  if leaf not in node and parents[:1] in (["data"], ["evals"]):
    with node.unlocked():
      node[leaf] = literal(text)
    return
  if leaf not in node and key in RENAMED:
    raise ValueError(f"the config key {key} is called {RENAMED[key]} now")
  old = lookup(node, leaf, f"{path} key")
  if isinstance(old, ml_collections.ConfigDict):
    raise ValueError(f"{path}.{leaf} is a group; set one of {', '.join(old)}")
  if leaf in _DURATION_KEYS:
    value = literal(text)
  elif literal(text) is None and not isinstance(old, str):
    value = None
  else:
    value = _typed(text, old, f"{path}.{leaf}")
  with node.ignore_type():
    node[leaf] = value


# Keys as they were called before -> what they are called now.
RENAMED = {
  "smoothing": "label_smoothing",
  "keep": "max_checkpoints",
  "input.workers": "input.num_workers",
  "input.threads": "input.num_threads",
  "input.ahead": "input.prefetch",
  "bad.max_share": "bad.max_fraction",
}
# Keys that hold a duration, which is an int or a str.
_DURATION_KEYS = ("every", "start", "end", "save_every", "total", "warmup")
_DURATION = re.compile(r"(\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*(ep|%|ex|k ex|M ex|)")


def steps(duration, batch_size, num_examples=None, total=None):
  """Converts a duration to a number of steps, rounded up.

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
  match = _DURATION.fullmatch(str(duration).strip())
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
  return math.ceil(number * factor - 1e-9)  # 100 * (7 / 100) > 7
