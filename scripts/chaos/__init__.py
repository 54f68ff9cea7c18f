"""Damages runs and what they read, and counts what comes of it."""

import collections
import os
import random
import re
import resource
import signal
import time

BYTES = 3 << 30  # that one try may take, in `bounded`
# What pg/command.py prints as one line, control characters written out.
REFUSALS = (ValueError, OSError, FloatingPointError)
LONGEST = 2000  # characters of a message


class Row:
  """What came of one kind of damage, over all tries."""

  def __init__(self, name):
    self.name, self.seconds = name, 0.0
    self.survived = self.refused = 0
    self.failures = []
    self.notes = collections.Counter()

  def fail(self, case, text):
    """Notes a failure; what it begins with, up to a number, is its kind."""
    self.notes[re.split(r"[:\d\n]", text)[0].strip()] += 1
    self.failures.append(f"{self.name}, {case}: {text}")

  def settle(self, case, error, fine=None):
    """Counts a try that ended with an error, or with none.

    Args:
      case: str, what was tried.
      error: None or what was raised.
      fine: "" or None where the value was right, else what is wrong with it.
    """
    if error is None and not fine:
      self.survived += 1
    elif error is None:
      self.fail(case, fine)
    elif wrong := complaint(error):
      self.fail(case, wrong)
    else:
      self.refused += 1


def complaint(error):
  """Returns what is wrong with an error as an answer to a person, or ""."""
  text = str(error)
  what = f"{type(error).__name__}: {text[:300]!r}"
  if not isinstance(error, REFUSALS):
    return f"raw {what}"
  if not text.strip() or len(text) > LONGEST:
    return f"a message of {len(text)} characters: {what}"
  return ""


class TooLong(BaseException):
  """A try takes longer than it may; nobody is to catch it on the way."""


def bounded(function, *args, seconds=60):
  """Calls a function; returns its value and None, or None and its exception.

  It gets so many seconds, and BYTES more than the process has.
  """

  def late(*_):
    raise TooLong(f"still running after {seconds} s")

  limits = resource.getrlimit(resource.RLIMIT_AS)
  with open("/proc/self/statm", encoding="ascii") as f:
    now = int(f.read().split()[0]) * resource.getpagesize()
  before = signal.signal(signal.SIGALRM, late)
  resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, limits[1]))
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    return function(*args), None
  except (Exception, TooLong, SystemExit) as error:
    return None, error
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.signal(signal.SIGALRM, before)


def rng_of(seed, name, number):
  """Returns the random.Random of one try, the same whatever else is tried."""
  return random.Random(f"{seed} {name} {number}")


def mutate(rng, data):
  """Returns bytes with some damage, and what it is."""
  size = len(data)
  at = rng.randrange(size)
  kind = rng.choice(
    ("bit", "bit", "bit", "bits", "cut", "empty", "zeros", "insert", "remove")
  )
  data = bytearray(data)
  if kind == "bit":
    data[at] ^= 1 << rng.randrange(8)
  elif kind == "bits":
    for _ in range(rng.randrange(2, 64)):
      data[rng.randrange(size)] ^= 1 << rng.randrange(8)
  elif kind == "cut":
    del data[at:]
  elif kind == "empty":
    data.clear()
  elif kind == "zeros":
    length = min(rng.randrange(1, 4096), size - at)
    data[at : at + length] = bytes(length)
  elif kind == "insert":
    data[at:at] = rng.randbytes(rng.randrange(1, 64))
  else:
    del data[at : at + rng.randrange(1, 64)]
  return bytes(data), f"{kind} at {at} of {size}"


# Values that nobody means, for JSON.
NASTY = (
  None,
  True,
  -1,
  0,
  -0.5,
  1e308,
  float("nan"),
  float("inf"),
  2**70,
  10**9,
  "",
  " ",
  "nonsense",
  "\x1b[2J\x07",
  "\ud800",
  "\x00",
  "a" * 100_000,
  "../../../etc/passwd",
  "/dev/zero",
  "/proc/self/mem",
  [],
  {},
  [[[[]]]],
  {"a": {"b": None}},
)


def replace_value(rng, tree):
  """Sets or removes a random value of a JSON object; returns what was done."""
  places, stack = [], [("", tree)]
  while stack:
    path, node = stack.pop()
    keys = node if isinstance(node, dict) else range(len(node))
    for key in keys:
      places.append((f"{path}/{key}", node, key))
      if isinstance(node[key], dict | list):
        stack.append((f"{path}/{key}", node[key]))
  path, node, key = rng.choice(places)
  if rng.random() < 0.15:
    del node[key]
    return f"{path} removed"
  node[key] = rng.choice(NASTY)
  return f"{path} = {node[key]!r:.40}"


def quiet():
  """Drops what libraries of this process log about damaged files."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def timed(function, *args):
  """Returns a function's Row with the seconds it took."""
  start = time.monotonic()
  row = function(*args)
  row.seconds = time.monotonic() - start
  return row


def write(path, data):
  """Writes bytes to a new file, whatever the name stood for before."""
  if os.path.lexists(path):
    os.unlink(path)
  with open(path, "wb") as f:
    f.write(data)
