"""PaliGemma in JAX: `python -m pg.train`, `pg.evaluate`, `pg.predict`, ...

    model = pg.load("runs/mine")
    (answer,) = model.predict("cat.jpg", "detect cat")

`load` is that of pg/model.py; nothing else is loaded before it is used.
"""

import os
import signal
import sys


def __getattr__(name):
  if name != "load":
    raise AttributeError(f"module 'pg' has no attribute {name!r}")
  from pg import model

  return model.load


def _end(number, frame):
  os.write(2, b"stopped\n")
  os._exit(128 + number)


# A verb imports for seconds before it watches for signals (see pg/stop.py).
if sys.argv[0] == "-m":
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)
