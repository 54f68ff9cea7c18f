"""Preprocessing ops on one example: numpy in, numpy out, no jax.

An op is a function `op(example, ...) -> updates`: it reads what it needs from
the example (a dict), takes its other arguments from the pipeline string (see
parse.py), and returns the keys that change. It never modifies its input. An op
with a parameter `rng` gets the example's `np.random.Generator`. Annotated
parameters (`size: int`) are checked when the string is parsed.

To add one, write it in a file of this folder and give it one worked example as
its test:

  @pp.op
  def upper(example, key: str):
    return {key: pp.text_of(example, key).upper()}
"""

from pg import config

OPS = {}  # name in a pipeline string -> function


def op(function):
  """Registers `function` in OPS under its name and returns it unchanged."""
  if function.__name__ in OPS:
    raise ValueError(f"there are two ops with the name {function.__name__!r}")
  OPS[function.__name__] = function
  return function


def get(example, key):
  """Returns `example[key]`, or raises ValueError naming the nearest key."""
  return config.lookup(example, key, "key of the example")


def text_of(example, key):
  """Returns the text `example[key]`.

  Raises:
    ValueError: no such key, or not a str.
  """
  value = get(example, key)
  if not isinstance(value, str):
    raise ValueError(f"{key!r} should be text, but is {type(value).__name__}")
  return value
