"""Flat names of parameter trees, first-match rules, and readable differences.

A tree is a nested dict whose leaves are arrays or anything with a shape; its
flat form maps `llm/layers/attn/q_einsum/w` to the leaf.
"""

import re


def flatten(tree, prefix=""):
  """Returns the flat form `{"a/b": leaf}` of a nested dict, sorted by name."""
  if not isinstance(tree, dict):
    return {prefix: tree}
  flat = {}
  for key in sorted(tree):
    flat |= flatten(tree[key], f"{prefix}/{key}" if prefix else str(key))
  return flat


def unflatten(flat):
  """Returns the nested dict of a flat one; the inverse of `flatten`."""
  tree = {}
  for name, leaf in flat.items():
    *parents, last = name.split("/")
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = leaf
  return tree


def map_named(function, tree):
  """Returns the tree of `function(name, leaf)`."""
  return unflatten({k: function(k, v) for k, v in flatten(tree).items()})


def match(rules, name):
  """Returns the value of the first rule whose regex matches the whole name.

  Args:
    rules: pairs `(regex, value)`.
    name: str, a flat parameter name.

  Raises:
    ValueError: no rule matches, or one is not a regex.
  """
  for regex, value in rules:
    if _fits(regex, name):
      return value
  raise ValueError(
    f"no rule matches parameter {name!r}; rules: {[r for r, _ in rules]}; add"
    " a last rule ('.*', ...)"
  )


def _fits(regex, name):
  try:
    return re.fullmatch(regex, name)
  except re.error as error:
    raise ValueError(
      f"rule {regex!r} is not a regular expression: {error}; what matches"
      " everything is '.*'"
    ) from error


def unused(rules, names):
  """Returns the regexes that are no name's first match (mostly a typo)."""
  used = {next((r for r, _ in rules if _fits(r, name)), None) for name in names}
  return [regex for regex, _ in rules if regex not in used]


def unmatched(rules, names):
  """Returns the names that no rule matches."""
  return [n for n in names if not any(_fits(regex, n) for regex, _ in rules)]


def diff(expected, found):
  """Describes how the flat names and shapes of two trees differ.

  Args:
    expected: nested dict of leaves with a `shape`.
    found: nested dict of leaves with a `shape`.

  Returns:
    str, one line per missing (-), unexpected (+) or differently shaped (!)
    leaf, but at most 6 for each; empty when the trees agree.
  """
  want, have = flatten(expected), flatten(found)
  shape = lambda leaf: tuple(leaf.shape)
  missing = [f"- missing {k} {shape(want[k])}" for k in want if k not in have]
  more = [f"+ unexpected {k} {shape(have[k])}" for k in have if k not in want]
  other = [
    f"! {k}: wanted {shape(want[k])}, found {shape(have[k])}"
    for k in want
    if k in have and shape(want[k]) != shape(have[k])
  ]
  return "\n".join(some(missing) + some(more) + some(other))


def some(lines, most=6):
  """Returns a list of lines, or its first ones and how many more there are."""
  if len(lines) <= most:
    return lines
  return [*lines[: most - 1], f"... and {len(lines) - most + 1} more"]
