"""Trains as `python -m pg.train` does, and notes which rows a step has read.

CHAOS_FAILS="KeyError:3" raises that at step 3, or later where a run goes on.
"""

import builtins
import json
import os
import runpy
import sys

from scripts.chaos import config


def note_order(path):
  """Makes training append a line `[step, place, sources, rows]` per step."""
  from pg.data import stream
  from pg.log import run

  step = run.Log.step
  kind, _, last = os.environ.get("CHAOS_FAILS", "").partition(":")

  def noted(log, number, measured, rows, *rest):
    sources, indices = rows["source"].tolist(), rows["index"].tolist()
    place, _ = stream.share(config.BATCH_SIZE)
    line = [number, place, sources, indices]
    with open(path, "ab", buffering=0) as f:
      f.write(json.dumps(line).encode() + b"\n")
    if kind and number >= int(last):
      raise getattr(builtins, kind)(f"chaos at step {number}")
    return step(log, number, measured, rows, *rest)

  run.Log.step = noted


if __name__ == "__main__":
  sys.argv[0] = "-m"  # as it is while Python looks for pg.train
  from pg.evals import blind

  blind.NUM_TEXTS = 64  # seconds less at each start
  note_order(os.environ["CHAOS_ORDER"])
  runpy.run_module("pg.train", run_name="__main__", alter_sys=True)
