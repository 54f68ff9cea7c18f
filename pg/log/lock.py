"""One run per workdir: a second one is refused as long as the first lives.

The file `.lock` in the workdir says whose it is, and is locked for the system
(`flock`), which unlocks it when the process ends, however it ends. Where that
lock is not seen, on another machine or by a file system without it, a beat is:
the file's time of change is renewed every few seconds. The file is emptied and
not removed at the end, so that no two runs can hold two files of this name.
"""

import contextlib
import fcntl
import os
import pathlib
import socket
import threading
import time

import jax

from pg import atomic, progress

FILE = ".lock"
BEAT, PATIENCE = 5.0, 60.0  # seconds


@contextlib.contextmanager
def hold(workdir):
  """Keeps other runs out of a workdir, which is made if needed.

  Args:
    workdir: str.

  Raises:
    ValueError: a run that lives holds it.
  """
  if jax.process_index():  # the first process of a run holds it for all
    yield
    return
  path = pathlib.Path(workdir, FILE)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.touch()
  with open(path, "r+b", buffering=0) as file:
    owner = file.read().decode()
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      is_dead = owner.startswith(_here())
    except BlockingIOError:
      raise ValueError(_refusal(path)) from None
    except OSError:  # no such locks here
      is_dead = False
    if owner and not is_dead and _beats(path, owner):
      raise ValueError(_refusal(path))
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    mine = f"{_here()}process {os.getpid()}, since {since}"
    with atomic.named(path):
      file.truncate(0)
      os.pwrite(file.fileno(), mine.encode(), 0)
    ended = threading.Event()
    args = path, mine, ended
    threading.Thread(target=_beat, args=args, daemon=True).start()
    try:
      yield
    finally:
      ended.set()
      file.truncate(0)


def _here():
  return f"host {socket.gethostname()}, "


def _refusal(path):
  return (
    f"{path.parent} is in use by another run ({path.read_text()}); stop that"
    " one, or name another --workdir"
  )


def _beats(path, owner):
  """Returns whether a process that cannot be asked shows that it lives."""
  progress.say(
    f"watching for {PATIENCE:.0f} s whether its run still lives: {owner}"
  )
  first, end = _changed(path), time.monotonic() + PATIENCE
  while time.monotonic() < end:
    time.sleep(BEAT / 5)
    if _changed(path) != first:
      return True
  return False


def _changed(path):
  with open(path) as file:  # a network file system asks anew when one is opened
    return os.fstat(file.fileno()).st_mtime_ns


def _beat(path, mine, ended):
  """Shows that this process lives; ends it if another one took the workdir.

  Two that begin at once on two machines may not see each other until then.
  """
  while not ended.wait(BEAT):
    with contextlib.suppress(OSError):
      os.utime(path)
      if path.read_text() != mine and not ended.is_set():
        progress.say(f"error: {_refusal(path)}")
        os._exit(1)
