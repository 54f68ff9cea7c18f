"""Ends a program in order at SIGTERM and Ctrl-C.

The first signal raises `Stopped` wherever the program is: what it has open is
closed, and its exit status is 143 or 130, as of a program that the signal
killed. A program that has more to lose asks `requested` where it can save its
work; once it has asked, a signal only sets what it asks for. A second signal
ends the program at once. Its worker processes hear of none, and end with it.

The processes of a job (pg/job.py) stop together, whichever of them hears of a
signal: it tells the others, each stands still where it asks next and says how
often it has asked, and all stop when they have asked once more than any has.
So they must ask in the same places. If none has asked yet, all are interrupted.
"""

import contextlib
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
_is_bare = False  # whether there is nothing to close
_store = None  # of a job, see `together`
_standstill = threading.Lock()  # held while the processes of a job agree
_calls = 0  # how often this process of a job has asked
_last = None  # at which of them all stop; 0: wherever they are
_writer = None  # end of the pipe that tells _guard of signals
_is_lost = False  # whether Stopped is to be raised again
_is_interrupted = False


class Stopped(SystemExit):
  """A signal ended the work; at a step that was saved, if one is given."""

  def __init__(self, step=None):
    super().__init__(128 + _signal)
    saved = f" at step {step}; the same command continues"
    self.message = f"stopped{'' if step is None else saved}"


def watch():
  """Begins to watch for signals; for the main thread of a program."""
  global _writer
  reader, _writer = os.pipe()
  os.set_blocking(_writer, False)
  signal.set_wakeup_fd(_writer)
  for number in SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _handle)
  sys.unraisablehook = functools.partial(_note, sys.unraisablehook)
  threading.Thread(target=_guard, args=(reader,), daemon=True).start()


def together(store, process, count):
  """Has this process of a job stop where the others do.

  Args:
    store: what they share: `set(key, text)`, of which the first counts,
      `get(key)`, which waits for it, and `end(line, status)`, which ends all.
    process, count: int, which process of how many this is.
  """
  global _store
  _store = store
  args = process, count
  threading.Thread(target=_agree, args=args, daemon=True).start()


@contextlib.contextmanager
def at_once():
  """Lets the first signal end the program here and now: nothing is open yet."""
  global _is_bare
  _is_bare = True
  try:
    yield
  finally:
    _is_bare = False


def _agree(process, count):
  """Waits for a signal to any process of the job; sees when all are to stop."""
  global _signal, _last
  number = int(_store.get("signal"))
  with _standstill:
    _store.set(f"calls/{process}", str(_calls))
    if not process:
      calls = [int(_store.get(f"calls/{i}")) for i in range(count)]
      _store.set("last", str(max(calls) + 1 if any(calls) else 0))
    _last = int(_store.get("last"))
    _signal = number
  if not _last:
    interrupt(Stopped)
  os.write(_writer, b"\0")


def requested():
  """Returns whether to save and stop; from the first call on, keep asking."""
  global _is_asked, _calls
  _is_asked = True
  if not _store:
    return bool(_signal)
  with _standstill:
    _calls += 1
  if _last == 0:
    raise Stopped
  return _last is not None and _calls >= _last


def check():
  """Raises Stopped if a signal came: for work that is done again."""
  # In a job that saves, all processes stop at the same call.
  asked = requested() if _store and _is_asked else _signal
  if asked:
    raise Stopped


def interrupted():
  """Returns whether `interrupt` was called: who waits for others gives up."""
  return _is_interrupted


def interrupt(exception):
  """Raises an exception in the main thread, once it is back in Python."""
  global _is_interrupted
  _is_interrupted = True
  main = ctypes.c_ulong(threading.main_thread().ident)
  ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(exception))


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
  if not _signal and not _store:
    _signal = number
    if not _is_asked and not _is_bare:
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
  signals = _heard(reader)
  left = 0 if _is_bare else GRACE
  while left > 0 and len(signals) < 2:
    if select.select([reader], [], [], 0.1)[0]:
      signals += _heard(reader)
    left -= 0 if _is_asked else 0.1
    if _is_lost:
      _is_lost = False
      interrupt(Stopped)
  text = "stopped at once" if len(signals) > 1 else "stopped"
  status = 128 + (signals[0] if signals else _signal)
  if _store:
    _store.end(text, status)
  end(text, status)


def _heard(reader):
  """Waits for the bytes of signals; tells the other processes of a job.

  A zero is of a signal to another one of them.
  """
  signals = os.read(reader, 16).replace(b"\0", b"")
  if signals and _store:
    _store.set("signal", str(signals[0]))
  return signals


def end(text, status):
  """Ends this process and its workers here and now, with a line of text."""
  os.write(sys.stderr.fileno(), f"{text}\n".encode())
  for child in multiprocessing.active_children():
    child.kill()
  os._exit(status)
