"""Progress bars, lines that say what takes a while, and what may be said."""

import re
import sys

import tqdm

# Characters that move the cursor, colour or turn around what a terminal shows,
# or that cannot be printed at all; not the ends of lines, and not tabs.
_CONTROL = re.compile(
  "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e"
  "\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LOGIN = re.compile(r"(?<=://)[^/\s?#]{0,2000}@")
# Up to what says where in a file at a URL something is, and the sentence's end.
_QUERY = re.compile(
  r"(://[^\s?'\"]{0,2000}\?)[^\s'\"#]+?"
  r"(?=(:\d{1,9})?[:;,.)\]]{0,9}(['\"#\s]|$))"
)
_names = {}  # path -> what it is called


def call(path, name):
  """Lets all that is printed call a path, and what is in it, by a name."""
  _names[path] = name


def plain(text):
  r"""Returns text whose control characters are written out, as "\u001b".

  So nobody's data works the terminal; JSON stays what it was. Paths have the
  names that `call` gave them.
  """
  text = str(text)
  for path, name in _names.items():
    text = text.replace(path, name)
  return _CONTROL.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


def safe(text):
  """Returns `plain` text without what is secret in URLs: logins and queries."""
  return _QUERY.sub(r"\1***", _LOGIN.sub("***@", plain(text)))


_is_mute = False


def mute():
  """Has this process say nothing more: another one of its job does."""
  global _is_mute
  _is_mute = True


def is_mute():
  """Returns whether another process speaks for this one."""
  return _is_mute


def say(text):
  """Prints a line for whoever waits, apart from what a program answers."""
  if not _is_mute:
    print(safe(text), file=sys.stderr, flush=True)


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
    options["disable"] = options.get("disable", False) or _is_mute
    super().__init__(*args, **own | options)

  def say(self, text):
    """Prints lines that stay, above the bar."""
    if not self.disable:
      self.clear()
      self.fp.write(f"{safe(text)}\n")
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
