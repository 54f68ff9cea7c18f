"""Builds a preprocessing function from a pipeline string: ops joined by `|`.

  decode | resize(48) | fmt("answer en {question}", out="prefix")

The string is written like Python and parsed by Python's parser, so a `|` or a
bracket inside quotes is safe. It is never evaluated: an op's arguments are
literals (numbers, strings, True, None, lists...) and its name is a key of OPS.
Everything that can be known without data is checked when it is built.
"""

import ast
import functools
import inspect
import types
import typing

from pg import config, pp
from pg.pp import (  # noqa: F401, they put their ops into OPS
  answers,
  ask,
  crop,
  detection,
  draw,
  image,
  keys,
  masks,
  objects,
  resize,
  robust,
  text,
  video,
)

# Modules whose ops change images only.
_IMAGE_OPS = tuple(
  m.__name__ for m in (crop, draw, image, resize, robust, video)
)
# Newer Pythons parse any length, slowly; a recipe has a few hundred characters.
_LONGEST = 20_000
# Parameters that are given by `pp.run` and not in the string.
_GIVEN = ("rng", "turn")


def build(string):
  """Returns the function `(example, turn) -> example` that a string describes.

  The function leaves its input as it is and can be pickled. What an op objects
  to comes out as a ValueError that begins with that op as it was written.

  Args:
    string: str, ops joined by `|`.

  Raises:
    ValueError: not a pipeline, an unknown op, or arguments that do not fit the
      op; the message shows where.
  """
  code = string.strip()
  steps = [_step(node, code) for node in nodes(code)]
  return functools.partial(pp.run, steps)


def run_texts(steps, example, turn):
  """Applies the steps of a pipeline that do not only change images.

  Reading texts alone takes no decoding of images or videos. Where a step wants
  what those have made, as masks want the size of an image, all are applied.

  Args:
    steps, example, turn: as for `run`; draws are those of `run`.
  """
  texts = [_skipped(step) if _is_of_images(step) else step for step in steps]
  try:
    return pp.run(texts, example, turn)
  except ValueError:
    return pp.run(steps, example, turn)


def random_images(steps):
  """Returns the steps, as written, that make another image of a row each time.

  Args:
    steps: of a pipeline, all but those of other modules' ops.
  """
  return [s.source for s in steps if s.wants and _is_of_images(s)]


def _is_of_images(step):
  return step.function.__module__ in _IMAGE_OPS


def _skipped(step):
  return step._replace(function=lambda *_, **__: {})


def _tree(code):
  """Parses `code` as one Python expression."""
  if not code:
    raise ValueError(
      'a pipeline string is empty; write "decode" to change nothing'
    )
  if len(code) > _LONGEST:
    raise ValueError(
      f"a pipeline string has {len(code)} characters; at most {_LONGEST} are"
      f" read. It begins with {code[:60]!r}: is it one?"
    )
  try:
    return ast.parse(code, mode="eval").body
  except SyntaxError as e:
    raise _error(code, e.lineno or 1, (e.offset or 1) - 1, e.msg) from e
  except (ValueError, RecursionError, MemoryError) as e:
    raise _error(code, 1, 0, f"cannot be parsed ({e})") from e


def nodes(string):
  """Returns the ast nodes of a pipeline string's ops, which may be unknown.

  Raises:
    ValueError: not a Python expression.
  """
  node, found = _tree(string.strip()), []
  while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
    found.append(node.right)
    node = node.left
  return [node, *reversed(found)]


def name(node):
  """Returns the name of an op's node, None if it has none."""
  node = node.func if isinstance(node, ast.Call) else node
  return node.id if isinstance(node, ast.Name) else None


def _step(node, code):
  """Checks one `name` or `name(...)` and returns its Step."""
  if name(node) is None:
    raise _at(node, code, "wanted an op: name or name(...)")
  try:
    function = config.lookup(pp.OPS, name(node), "op")
    args, kwargs = _arguments(node) if isinstance(node, ast.Call) else ([], {})
    wants = _check(function, args, kwargs)
  except ValueError as e:
    raise _at(node, code, str(e)) from e
  source = ast.get_source_segment(code, node)
  return pp.Step(source, function, args, kwargs, wants)


def _arguments(call):
  """Returns the positional and keyword arguments of a call."""
  args, kwargs = [_literal(a) for a in call.args], {}
  for keyword in call.keywords:
    if keyword.arg is None or keyword.arg in kwargs:
      raise ValueError(f"{keyword.arg or '**'} is repeated or not a name")
    kwargs[keyword.arg] = _literal(keyword.value)
  return args, kwargs


def _literal(node):
  """Returns the value of a literal."""
  try:
    return ast.literal_eval(node)
  except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as e:
    raise ValueError(
      "arguments are literals, such as 48, 'text', True or [1, 2]; this has"
      f" {type(node).__name__}"
    ) from e


def _check(function, args, kwargs):
  """Checks arguments against the signature; returns what else the op wants.

  Raises:
    ValueError: missing, unknown or repeated arguments, or of another type than
      the parameter is annotated with.
  """
  signature = inspect.signature(function)
  example, *parameters = signature.parameters.values()
  taken = [p for p in parameters if p.name not in _GIVEN]
  call = inspect.Signature(taken)
  try:
    bound = call.bind(*args, **kwargs).arguments
  except TypeError as e:
    raise ValueError(f"{e}; wanted {call}") from e
  for name, value in bound.items():
    wanted = signature.parameters[name].annotation
    if not _fits(value, wanted):
      raise ValueError(f"{name}={value!r} is not allowed; wanted {call}")
  return tuple(name for name in _GIVEN if name in signature.parameters)


def _fits(value, annotation):
  """Returns whether a literal has the annotated type or is one of a Literal."""
  if annotation is inspect.Parameter.empty:
    return True
  if typing.get_origin(annotation) is typing.Literal:
    return value in typing.get_args(annotation)
  if typing.get_origin(annotation) in (types.UnionType, typing.Union):
    return any(_fits(value, one) for one in typing.get_args(annotation))
  # True is an int to Python, but not to who writes resize(True).
  return type(value) is annotation


def _at(node, code, message):
  """Returns a ValueError that points at a node of `code`."""
  # Python counts a node's column in bytes.
  before = _line(code, node.lineno).encode()[: node.col_offset]
  column = len(before.decode(errors="ignore"))
  return _error(code, node.lineno, column, message)


def _error(code, line, column, message):
  """Returns a ValueError that points at a line (from 1) and column (from 0)."""
  return ValueError(f"{message}\n  {_line(code, line)}\n  {' ' * column}^")


def _line(code, number):
  lines = code.splitlines()
  return lines[min(number, len(lines)) - 1]
