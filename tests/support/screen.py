"""A terminal that remembers what it shows, and a clock that tests set."""

import io
import time

import tqdm


class Terminal(io.StringIO):
  def isatty(self):
    return True

  def lines(self):
    """Returns what a user sees: a carriage return starts a line again."""
    shown = []
    for line in self.getvalue().removesuffix("\n").split("\n"):
      seen = ""
      for text in line.split("\r"):
        seen = text + seen[len(text) :]
      shown.append(seen.rstrip())
    return shown


class Clock:
  """The time that tqdm sees."""

  def __init__(self, monkeypatch):
    self.now = 1000.0
    for module in (time, tqdm.std):
      monkeypatch.setattr(module, "time", lambda: self.now)
