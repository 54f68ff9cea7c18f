"""Trains as `python -m pg.train` does, and notes which rows a step has read."""

import json
import os
import runpy
import sys


def note_order(path):
  """Makes training append a line `[step, sources, rows]` per step."""
  from pg.log import run

  step = run.Log.step

  def noted(log, number, measured, rows, *rest):
    line = [number, rows["source"].tolist(), rows["index"].tolist()]
    with open(path, "ab", buffering=0) as f:
      f.write(json.dumps(line).encode() + b"\n")
    return step(log, number, measured, rows, *rest)

  run.Log.step = noted


if __name__ == "__main__":
  sys.argv[0] = "-m"  # as it is while Python looks for pg.train
  from pg.evals import blind

  blind.NUM_TEXTS = 64  # seconds less at each start
  note_order(os.environ["CHAOS_ORDER"])
  runpy.run_module("pg.train", run_name="__main__", alter_sys=True)
