"""Read config files, their arguments and overrides; look names up; durations.

A config file is a Python file with `get_config(arg=None) -> ConfigDict`. On the
command line it is named as `path.py` or `path.py:res=448,model=pg2_3b`; what
stands after the colon reaches `get_config` as a string and `arguments` turns
it into values. Single keys are overridden with `--config.lr=3e-6`.
"""

import ast
import difflib
import importlib.machinery
import importlib.util
import math
import os
import re
import sys
import traceback

import ml_collections

from pg import schema

_PG = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(_PG)


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
  c = _run(path, arg or None)
  if not isinstance(c, ml_collections.ConfigDict):
    raise ValueError(
      f"{path}: get_config returned {_short(c)}: wanted an"
      " ml_collections.ConfigDict; does it end with `return c`?"
    )
  validate(c)
  complete(c)
  for key, text in overrides:
    override(c, key, text)
  validate(c)
  return c.lock()


def complete(c):
  """Sets the keys that a config older than they are does not have."""
  with c.unlocked():
    for key, value in schema.DEFAULTS.items():
      if key not in c:
        c[key] = value
  return c


def _run(path, arg):
  """Returns what `get_config(arg)` of a config file returns."""
  if _ROOT not in sys.path:  # for `from transfers import base`
    sys.path.insert(0, _ROOT)
  loader = importlib.machinery.SourceFileLoader("pg_config_file", path)
  module_spec = importlib.util.spec_from_loader(loader.name, loader)
  module = importlib.util.module_from_spec(module_spec)
  try:
    loader.exec_module(module)
    return module.get_config(arg)
  except (Exception, SystemExit) as error:
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, ValueError) and _is_ours(frames[-1]):
      raise  # it says what is wrong with an argument
    lines = [f.lineno for f in frames if f.filename == path]
    where = f"{path}:{lines[-1]}" if lines else path
    if isinstance(error, SyntaxError):
      where = f"{error.filename or path}:{error.lineno or 1}"
    raise ValueError(f"{where}: {_complaint(error)}") from error


def _is_ours(frame):
  return os.path.dirname(os.path.abspath(frame.filename)) == _PG


def _complaint(error):
  """Returns an error's text on one line, without ml_collections' dumps."""
  while error.args and isinstance(error.args[0], Exception):
    error = error.args[0]
  text = error.msg if isinstance(error, SyntaxError) else ""
  text = text or " ".join(map(str, error.args))
  for old, new in RENAMED.items():
    if f'"{old.split(".")[-1]}"' in text:
      text += f"; the config key {old} is called {new} now"
  text = re.sub(r' Other fields present: "\{.*\}"', "", text, flags=re.DOTALL)
  return f"{type(error).__name__}: {' '.join(text.split())}"


def validate(c, *, complete=False):
  """Checks every key of a config against `schema.KEYS`.

  Args:
    c: the config.
    complete: bool, also complains of keys that are absent.

  Raises:
    ValueError: all that is wrong, a line each.
  """
  found = [x for name, value in c.items() for x in _wrong(name, value)]
  if complete:
    needed = {k.partition(".")[0] for k in schema.KEYS} - {"arg"}
    found += [
      f"config.{name} is missing: wanted {schema.KEYS.get(name, 'a group')}"
      for name in sorted(needed - set(c))
    ]
  if found:
    raise ValueError("\n".join(found))
  durations = c.get("total"), c.get("warmup")
  if None not in durations and "ep" not in f"{durations}":
    warmup(c, steps(c.total, c.batch_size))


def _wrong(name, value):
  """Yields what is wrong with a key of a config, or the keys of a group."""
  of_group = [k for k in schema.KEYS if k.startswith(f"{name}.")]
  if name == "schedule" and schema.allows(schema.KEYS[name], value):
    for i, (_, rule) in enumerate(value):
      if schema.allows("group", rule):
        yield from _wrong_spec(f"schedule[{i}]", "schedule", rule)
  elif name in schema.KEYS or not of_group:
    yield from _wrong_value(name, name, value)
  elif not schema.allows("group", value):
    yield f"config.{name} is {_short(value)}: wanted a group of keys"
  elif name not in ("data", "evals"):
    for key in value:
      yield from _wrong_value(f"{name}.{key}", f"{name}.{key}", value[key])
  elif name == "data" and not schema.allows("group", value.get("source", {})):
    yield from _wrong_spec(name, name, value)
  else:
    for key in value:
      if not schema.NAME.fullmatch(key):
        yield f"config.{name}: {key!r} is no name; it has letters, digits, .-+_"
      yield from _wrong_spec(f"{name}.{key}", name, value[key])


def _wrong_spec(path, name, spec):
  """Yields what is wrong with a dataset, evaluator or rule of the schedule."""
  if not schema.allows("group", spec):
    yield f"config.{path} is {_short(spec)}: wanted a group of keys"
    return
  for key, value in spec.items():
    if f"{name}.*.{key}" in schema.KEYS:  # else it is for who opens them
      yield from _wrong_value(f"{path}.{key}", f"{name}.*.{key}", value)


def _wrong_value(path, key, value):
  """Yields what is wrong with a value; `key` is its name in the schema."""
  kind = schema.KEYS.get(key)
  if key in RENAMED:
    yield f"the config key {key} is called {RENAMED[key]} now"
  elif kind is None:
    group = key.rpartition(".")[0]
    known = [
      k.rpartition(".")[2] for k in schema.KEYS if k.rpartition(".")[0] == group
    ]
    yield unknown(path, known, "config key")
  elif not schema.allows(kind, value):
    yield f"config.{path} is {_short(value)}: wanted {kind}{_hint(key, value)}"


def _hint(key, value):
  """Returns the nearest value that is there, to be said after."""
  known = schema.choices(schema.KEYS[key]) if isinstance(value, str) else ()
  near = difflib.get_close_matches(str(value), known, n=1)
  return f'; did you mean "{near[0]}"?' if near else ""


def _short(value):
  text = " ".join(repr(value).split())
  return text if len(text) < 80 else f"{text[:77]}..."


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
  if leaf in schema.DURATIONS:
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
    ValueError: not a duration, or its unit needs what was not given, or more
      than 2^31 steps.
  """
  match = schema.DURATION.fullmatch(str(duration).strip())
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
  if number * factor >= 2**31:
    raise ValueError(f"duration {duration!r} is beyond 2^31 steps")
  return math.ceil(number * factor - 1e-9)  # 100 * (7 / 100) > 7


def warmup(c, total, num_examples=None):
  """Returns how many steps a config warms up for.

  Args:
    c: the config, with `warmup` and `batch_size`.
    total: int, steps in the run; 0 only evaluates.
    num_examples: int or None, as for `steps`.

  Raises:
    ValueError: more than there are, so that `lr` is never reached.
  """
  found = steps(c.warmup, c.batch_size, num_examples, total)
  if found > total > 0:
    raise ValueError(
      f"config.warmup is {c.warmup!r}, {found} steps: wanted at most total,"
      f" {total}; write a share of it, such as --config.warmup=5%"
    )
  return found
