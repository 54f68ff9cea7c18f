"""Ends a program in order at SIGTERM and Ctrl-C.

The first signal raises `Stopped` wherever the program is: what it has open is
closed, and its exit status is 143 or 130, as of a program that the signal
killed. A program that has more to lose asks `requested` where it can save its
work; once it has asked, a signal only sets what it asks for. A second signal
ends the program at once.
"""

import os
import select
import signal
import threading

GRACE = 5.0  # seconds from the first signal to the end, if nobody asks

_signal = 0  # the number of the first one; 0: there was none
_is_asked = False


class Stopped(SystemExit):
  """A signal ended the work; at a step that was saved, if one is given."""

  def __init__(self, step=None):
    super().__init__(128 + _signal)
    saved = f" at step {step}; the same command continues"
    self.message = f"stopped{'' if step is None else saved}"


def watch():
  """Begins to watch for signals; for the main thread of a program."""
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer)
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _handle)
  threading.Thread(target=_guard, args=(reader,), daemon=True).start()


def requested():
  """Returns whether to save and stop; from the first call on, keep asking."""
  global _is_asked
  _is_asked = True
  return bool(_signal)


def check():
  """Raises Stopped if a signal came: for work that is done again."""
  if _signal:
    raise Stopped


def _handle(number, frame):
  global _signal
  if not _signal:
    _signal = number
    if not _is_asked:
      raise Stopped


def _guard(reader):
  """Ends the program where it does not by itself.

  A handler in Python waits for the main thread, which may be compiling for
  minutes; this thread hears of signals at once.
  """
  status = 128 + os.read(reader, 1)[0]
  left = GRACE
  while left > 0 and not select.select([reader], [], [], 0.1)[0]:
    left -= 0 if _is_asked else 0.1
  os.write(2, b"stopped at once\n")
  os._exit(status)
