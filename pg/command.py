"""The command line of the verbs: arguments, a config, errors in one line."""

import argparse
import contextlib
import difflib
import os
import sys
import warnings

from pg import config, job, progress, stop


class Parser(argparse.ArgumentParser):
  """A parser that takes `_` for `-` in flags, and suggests one for a typo."""

  def parse_known_args(self, args=None, namespace=None):
    words = sys.argv[1:] if args is None else args
    return super().parse_known_args(list(map(self._meant, words)), namespace)

  def _meant(self, word):
    """Returns a word as argparse is to see it; ends with 1 at a typo."""
    flag, equals, value = word.partition("=")
    stem, dot, key = flag.partition(".")
    known = [x for x in self._option_string_actions if x.startswith("--")]
    if not stem.startswith("-") or not stem[1:2].strip("0123456789"):
      return word
    alike = {x.replace("_", "-"): x for x in known}
    plain = stem.replace("_", "-")
    if plain in alike and not dot:
      return alike[plain] + equals + value
    if " " in stem or any(x.startswith(stem) for x in (*known, "-h")):
      return word  # a value, or what argparse knows
    near = difflib.get_close_matches(f"--{plain.lstrip('-')}", alike, n=1)
    if near:
      meant = f"{alike[near[0]]}{dot}{key}"
      sys.exit(f"error: unknown argument {word}; did you mean {meant}?")
    return word


def run(main, doc, *, with_config=True, joins=False, **arguments):
  """Parses the command line and calls `main(args)`.

  Args:
    main: function of an argparse.Namespace; with a config, `args.config` is the
      loaded one.
    doc: str, the verb's docstring, shown by --help.
    with_config: bool, whether --config FILE[:args] is taken; then so is
      --config.key=value for every key. "optional": without one
      `args.config` is None. `args.config_file` is what was written.
    joins: bool, whether `main` can be one process of a job; see pg/job.py.
    **arguments: name -> keyword arguments of `add_argument`.

  A ValueError or OSError, which is what a user can cause, ends the program with
  its message alone; `PG_TRACEBACK=1` shows where it came from. Warnings are
  printed without the place in the code. Nothing that is printed has control
  characters (`progress.plain`), and no error or warning secrets of URLs.
  SIGTERM and Ctrl-C: see pg/stop.py. In a job all processes print the error of
  the first that has one, and process 0 all else.
  """
  # None where a file is run by its path.
  spec = sys.modules["__main__"].__spec__
  parser = Parser(
    prog=spec and f"python -m {spec.name}",
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  if with_config:
    parser.add_argument(
      "--config",
      required=with_config is True,
      metavar="FILE[:ARGS]",
      help="config file",
    )
  for name, options in arguments.items():
    parser.add_argument(f"--{name.replace('_', '-')}", **options)
  args, rest = parser.parse_known_args()
  warnings.showwarning = _warn
  try:
    stop.watch()
    if not joins:
      job.refuse_several(os.environ)
    with job.joined() if joins else contextlib.nullcontext():
      _call(main, args, rest, with_config)
  except stop.Stopped as stopped:
    progress.say(stopped.message)
    raise
  except job.REFUSALS as error:
    if config.literal(os.environ.get("PG_TRACEBACK", "0")):
      raise
    sys.exit(progress.safe(f"error: {error}"))


def _call(main, args, rest, with_config):
  """Calls `main` with its arguments and config; it prints plain text."""
  overrides = _overrides(rest) if with_config else []
  if rest and not with_config:
    raise ValueError(f"unknown argument {rest[0]}; see --help")
  if overrides and not args.config:
    raise ValueError(f"{rest[0]} needs a --config")
  if with_config and args.config:
    args.config_file = args.config
    args.config = config.load(args.config, overrides)
  out = open(os.devnull, "w") if progress.is_mute() else sys.stdout
  with contextlib.redirect_stdout(_Plain(out)):
    main(args)


def _warn(message, category, filename, lineno, file=None, line=None):
  progress.say(f"warning: {message}")


class _Plain:
  """A stream for `print` that gets plain text, whoever prints."""

  def __init__(self, stream):
    self._stream = stream

  def __getattr__(self, name):
    return getattr(self._stream, name)

  def write(self, text):
    return self._stream.write(progress.plain(text))


def _overrides(words):
  """Turns `--config.lr=3e-6` or `--config.lr 3e-6` into pairs.

  Raises:
    ValueError: anything else.
  """
  pairs, words = [], list(words)
  while words:
    word = words.pop(0)
    key, equals, value = word.partition("=")
    if not key.startswith("--config."):
      raise ValueError(f"unknown argument {word}; see --help")
    if not equals and not words:
      raise ValueError(f"{word} has no value")
    pairs.append(
      (key.removeprefix("--config."), value if equals else words.pop(0))
    )
  return pairs
