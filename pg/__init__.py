"""PaliGemma in JAX: `python -m pg.train`, `pg.evaluate`, `pg.predict`, ...

    model = pg.load("runs/mine")
    (answer,) = model.predict("cat.jpg", "detect cat")

`load` is `pg.ask.load.load`; nothing else is loaded before it is used.
"""

import contextlib
import os
import signal
import sys


def __getattr__(name):
  if name != "load":
    raise AttributeError(f"module 'pg' has no attribute {name!r}")
  _keep_programs()
  from pg.ask import load

  return load.load


def _keep_programs():
  """Has JAX keep compiled programs, if its own variables do not say where.

  They are in `~/.cache/pg/xla`, or `$PG_CACHE/xla`, and can be deleted at any
  time; JAX_ENABLE_COMPILATION_CACHE=0 keeps none. Of no effect where JAX was
  imported before.
  """
  folder = os.path.expanduser(os.environ.get("PG_CACHE") or "~/.cache/pg")
  folder = os.path.join(folder, "xla")
  if "JAX_COMPILATION_CACHE_DIR" in os.environ or "://" in folder:
    return
  with contextlib.suppress(OSError):
    os.makedirs(folder, exist_ok=True)
    if os.access(folder, os.W_OK):  # else JAX warns of each program
      os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
      seconds = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
      os.environ.setdefault(seconds, "0.1")


def _end(number, frame):
  os.write(2, b"stopped\n")
  os._exit(128 + number)


# A verb imports for seconds before it watches for signals (see pg/stop.py).
if sys.argv[0] == "-m":
  _keep_programs()
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)
