"""PaliGemma in JAX: `python -m pg.train`, `pg.evaluate`, `pg.predict`, ..."""

import os
import signal
import sys


def _end(number, frame):
  os.write(2, b"stopped\n")
  os._exit(128 + number)


# A verb imports for seconds before it watches for signals (see pg/stop.py).
if sys.argv[0] == "-m":
  for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, _end)
