r"""Measures how fast the main job trains, and what its input costs.

python -m scripts.bench_train [--config configs/nano.py] [--steps 30]

Prints examples per second of three things that are measured in turns in one
run, so that a machine that is busy with something else slows all of them: the
step alone on one batch, the input pipeline alone, and both as in training.
Then the seconds from the start of a new process to the end of its first step.
"""

import statistics
import subprocess
import sys
import tempfile
import time

import jax

from pg import command, sharding, train
from pg.data import stream

ROUNDS = 5


def rates(c, num_steps):
  """Returns {name: [examples per second in each round]}."""
  r = train.open_run(c)
  state = train.init_state(c, r.cfg, r.tx, r.mesh)
  step = train.compile_update(c, r)
  batches = stream.train_batches(r.data, r.form, c.seed, c.batch_size)
  fixed, _ = next(batches)
  found = {"step": [], "input": [], "both": []}
  for i in range(ROUNDS + 1):
    for name, times in found.items():
      start = time.perf_counter()
      for _ in range(num_steps):
        rows = fixed if name == "step" else next(batches)[0]
        if name != "input":
          with jax.set_mesh(r.mesh):
            state, _ = step(state, sharding.put(rows, r.mesh))
      jax.block_until_ready(state)
      if i:  # the first round compiles
        seconds = time.perf_counter() - start
        times.append(num_steps * c.batch_size / seconds)
  return found, sum(x.size for x in jax.tree.leaves(state["params"]))


def first_step(config):
  """Returns seconds from the start of a process to its first step's end."""
  with tempfile.TemporaryDirectory() as workdir:
    words = [sys.executable, "-m", "pg.train", "--config", config]
    words += ["--workdir", workdir]
    start = time.perf_counter()
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as child:
      for line in child.stderr:
        if line.startswith("step 1/"):
          break
      seconds = time.perf_counter() - start
      child.kill()
  return seconds


def main(args):
  found, size = rates(args.config, args.steps)
  print(
    f"{size:,} parameters, {args.config.res} px, batch {args.config.batch_size}"
  )
  for name, values in found.items():
    low, high = min(values), max(values)
    middle = statistics.median(values)
    print(f"{name:6} {middle:7.0f} examples/s (from {low:.0f} to {high:.0f})")
  median = {k: statistics.median(v) for k, v in found.items()}
  print(
    f"training runs at {median['both'] / median['step']:.2f} x the step alone"
  )
  print(
    f"input alone runs at {median['input'] / median['step']:.1f} x the step"
  )
  words = sys.argv[sys.argv.index("--config") + 1]
  print(f"first step after {first_step(words):.1f} s")


if __name__ == "__main__":
  if "--config" not in sys.argv:
    sys.argv += ["--config", "configs/nano.py"]
  command.run(
    main, __doc__, steps=dict(type=int, default=30, help="steps per round")
  )
