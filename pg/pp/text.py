"""Text ops: fields of an example -> prefix (the prompt) and suffix (answer)."""

import numbers
import string

from pg import pp


@pp.op
def fmt(example, template: str, out: str):
  """Fills a template: `fmt("answer en {question}", out="prefix")`.

  Each `{key}` stands for a text or number of the example; `{{` and `}}` are
  single braces.

  Raises:
    ValueError: no such key, a value that is no text or number, or a template
      with more than plain keys.
  """
  parts = []
  for literal, key, spec, conversion in string.Formatter().parse(template):
    parts.append(literal)
    if key is None:
      continue
    if spec or conversion:
      raise ValueError(
        f"{template!r}: write plain {{{key}}}, without ':' or '!'"
      )
    value = pp.get(example, key)
    if not isinstance(value, str | numbers.Number):
      raise ValueError(
        f"{{{key}}} should be text or a number, but is {type(value).__name__}"
      )
    parts.append(str(value))
  return {out: "".join(parts)}


@pp.op
def lower(example, key: str):
  """Makes a text lower case: `lower("suffix")`."""
  return {key: pp.text_of(example, key).lower()}


@pp.op
def choice(example, key: str, out: str, *, rng):
  """Picks one of a list at random: `choice("answers", out="suffix")`.

  Raises:
    ValueError: no such key, not a list, or an empty one.
  """
  values = pp.get(example, key)
  if not isinstance(values, list | tuple) or not values:
    raise ValueError(
      f"{key!r} should be a list of at least one, got {values!r}"
    )
  return {out: values[rng.integers(len(values))]}
