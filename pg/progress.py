"""Progress bars, and lines that say what takes a while."""

import sys

import tqdm


def say(text):
  """Prints a line for whoever waits, apart from what a program answers."""
  print(text, file=sys.stderr, flush=True)


class Bar(tqdm.tqdm):
  """A tqdm bar; where it cannot be overwritten, a line every ten seconds.

  Takes what tqdm takes. Work that is done before the first line is due shows
  nothing.
  """

  monitor_interval = 0  # each update looks at the clock: no thread need do so

  def __init__(self, *args, file=None, **options):
    file = file or sys.stderr
    self._in_place = file.isatty()
    if self._in_place:
      own = dict(file=file, mininterval=0.5, dynamic_ncols=True)
    else:
      own = dict(file=_Lines(file), mininterval=10.0)
    own |= dict(delay=own["mininterval"], miniters=1)
    super().__init__(*args, **own | options)

  def say(self, text):
    """Prints lines that stay, above the bar."""
    if not self.disable:
      self.clear()
      self.fp.write(f"{text}\n")
      if self._in_place:
        self.refresh()


class _Lines:
  """Makes lines of what tqdm writes over and over, for files and pipes."""

  def __init__(self, stream):
    self._stream = stream
    self.flush = stream.flush

  def write(self, text):
    if text := text.replace("\x1b[A", "").strip():
      self._stream.write(f"{text}\n")
