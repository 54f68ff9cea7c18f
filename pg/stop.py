"""Ends a program in order at SIGTERM and Ctrl-C.

The first signal raises `Stopped` wherever the program is: what it has open is
closed, and its exit status is 143 or 130, as of a program that the signal
killed. A program that has more to lose asks `requested` where it can save its
work; once it has asked, a signal only sets what it asks for. A second signal
ends the program at once. Its worker processes hear of none, and end with it.
"""

import ctypes
import functools
import multiprocessing
import os
import select
import signal
import sys
import threading
from multiprocessing import resource_tracker

SIGNALS = (signal.SIGINT, signal.SIGTERM)
QUIET = "ignore:resource_tracker"  # its warnings
GRACE = 5.0  # seconds from the first signal to the end, if nobody asks

_signal = 0  # the number of the first one; 0: there was none
_is_asked = False
_is_lost = False  # whether Stopped is to be raised again


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
  for number in SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _handle)
  sys.unraisablehook = functools.partial(_note, sys.unraisablehook)
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


def ignore():
  """Keeps signals from the worker processes that this thread starts.

  Ctrl-C reaches every process, and some clusters' SIGTERM does. The main thread
  hears of signals as before, and so do workers that it starts.
  """
  # It removes what workers leave that are stopped; that is no news.
  if QUIET not in sys.warnoptions:
    sys.warnoptions.append(QUIET)
  resource_tracker.ensure_running()  # where that starts it, it unblocks signals
  if threading.current_thread() is not threading.main_thread():
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def end_with_parent(*_):
  """Lets this worker process end when its parent does, however that ends."""

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _handle(number, frame):
  global _signal
  if not _signal:
    _signal = number
    if not _is_asked:
      raise Stopped


def _note(usual, found):
  """Notes that Stopped came up in a callback that cannot raise.

  JAX has one at each garbage collection, the first Python after a compilation.
  """
  global _is_lost
  if found.exc_type is not Stopped:
    return usual(found)
  _is_lost = True


def _guard(reader):
  """Ends the program where it does not by itself.

  A handler in Python waits for the main thread, which may be compiling for
  minutes; this thread hears of signals at once.
  """
  global _is_lost
  status = 128 + os.read(reader, 1)[0]
  main = ctypes.c_ulong(threading.main_thread().ident)
  left, again = GRACE, False
  while left > 0 and not again:
    again = select.select([reader], [], [], 0.1)[0]
    left -= 0 if _is_asked else 0.1
    if _is_lost:
      _is_lost = False
      ctypes.pythonapi.PyThreadState_SetAsyncExc(
        main, ctypes.py_object(Stopped)
      )
  os.write(2, b"stopped at once\n" if again else b"stopped\n")
  for child in multiprocessing.active_children():
    child.kill()
  os._exit(status)
