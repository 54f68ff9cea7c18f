"""Lists the files that one batch passes, from a transfer file to its update.

python -m scripts.batch_path

Trains transfers/forkme.py on four rows of JSON lines and records which of our
files are entered, by any thread: first from the moment the first batch is asked
for until it is handed to `train.update`, then what that step adds while it is
compiled and run. Files are counted whole.
"""

import json
import os
import pathlib
import sys
import tempfile
import threading

import jax
import numpy as np
from PIL import Image

from pg import config, experiment, train
from pg.data import stream

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "transfers/forkme.py"
NUM_ROWS = 4


def trace(function):
  """Returns what a function returns, and the files of ours that it enters."""
  entered = set()

  def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_name != "<module>":
      entered.add(code.co_filename)

  threading.setprofile(profile)
  sys.setprofile(profile)
  try:
    result = function()
  finally:
    sys.setprofile(None)
    threading.setprofile(None)
  paths = {pathlib.Path(name) for name in entered}
  folders = ("pg", "transfers")
  ours = [p for p in paths if any(ROOT / f in p.parents for f in folders)]
  return result, {str(p.relative_to(ROOT)) for p in ours}


def write_rows(folder):
  """Writes a train.jsonl with its images; returns its path."""
  path = os.path.join(folder, "train.jsonl")
  with open(path, "w") as f:
    for i in range(NUM_ROWS):
      pixels = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
      Image.fromarray(pixels).save(os.path.join(folder, f"{i}.jpg"))
      row = dict(image=f"{i}.jpg", prefix="caption en", suffix="a cat")
      f.write(json.dumps(row) + "\n")
  return path


def walk():
  """Returns two sets of files: up to the update, and what the step adds."""
  with tempfile.TemporaryDirectory() as folder:
    path = write_rows(folder)
    changes = dict(batch_size=NUM_ROWS, total=1, warmup=0)
    c = config.load(
      f"{ROOT}/{CONFIG}:train={path},val={path},init=",
      [(key, str(value)) for key, value in changes.items()],
    )
    run = experiment.open(c)
    state = train.init_state(c, run)
    update = train.compile_update(c, run)

    def read():
      batches = stream.train_batches(
        run.data, run.form, c.seed, c.batch_size, options=run.options
      )
      batches = stream.on_devices(batches, run.mesh)
      return batches, next(batches)[-1]

    def step():
      with jax.set_mesh(run.mesh):
        jax.block_until_ready(update(state, batch))

    (batches, batch), data = trace(read)
    _, model = trace(step)
    batches.close()
  data |= {CONFIG, "pg/train.py"}
  return data, model - data


def main():
  total = []
  for title, names in zip(("to the update", "the update"), walk()):
    sizes = {n: len((ROOT / n).read_text().splitlines()) for n in sorted(names)}
    total += sizes.values()
    print(f"{title}: {len(sizes)} files, {sum(sizes.values()):,} lines")
    for name, num_lines in sizes.items():
      print(f"{num_lines:6,}  {name}")
  print(f"in all: {len(total)} files, {sum(total):,} lines")


if __name__ == "__main__":
  main()
