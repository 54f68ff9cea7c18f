"""Measures how fast the main job trains, and what its input costs.

python -m scripts.bench train [--config configs/nano.py] [--steps 30]

Prints examples per second of three things that are measured in turns in one
run, so that a machine that is busy with something else slows all of them: the
step alone on one batch, the input pipeline alone, and both as in training.
Then the seconds from the start of a new process to the end of its first step,
twice: with no compiled program at hand, and with those of the first start.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time

import jax

from pg import config, experiment, train
from pg.data import stream
from scripts import bench

CONFIG = "configs/nano.py"


def rates(c, num_steps, rounds):
  """Returns {name: [examples per second in each round]}, and parameters."""
  r = experiment.open(c)
  state = train.init_state(c, r)
  step = train.compile_update(c, r)
  batches = stream.train_batches(r.data, r.form, c.seed, c.batch_size)
  fixed, _ = next(batches)

  def job(name):
    nonlocal state
    start = time.perf_counter()
    for _ in range(num_steps):
      rows = fixed if name == "step" else next(batches)[0]
      if name != "input":
        with jax.set_mesh(r.mesh):
          state, _ = step(state, stream.put(rows, r.mesh))
    jax.block_until_ready(state)
    return num_steps * c.batch_size / (time.perf_counter() - start)

  names = ("step", "input", "training")
  jobs = {name: functools.partial(job, name) for name in names}
  bench.in_turns(jobs, 1)  # compiles
  found = bench.in_turns(jobs, rounds)
  return found, sum(x.size for x in jax.tree.leaves(state["params"]))


def first_step(name, cache):
  """Returns seconds from the start of a process to its first step's end.

  Args:
    name: str, the config.
    cache: str, the folder where compiled programs are kept.
  """
  env = os.environ | dict(PG_CACHE=cache)
  env.pop("JAX_COMPILATION_CACHE_DIR", None)
  with tempfile.TemporaryDirectory() as workdir:
    words = [sys.executable, "-m", "pg.train", "--config", name]
    words += ["--workdir", workdir]
    start = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stderr=pipe, text=True, env=env) as child:
      for line in child.stderr:
        if line.startswith("step 1/"):
          break
      seconds = time.perf_counter() - start
      child.kill()
  return seconds


def main(args):
  c = args.config or config.load(CONFIG)
  found, size = rates(c, args.steps, args.rounds)
  print(f"{size:,} parameters, {c.res} px, batch {c.batch_size}")
  bench.show(found, "examples/s")
  bench.show_ratio(found, "training", "step")
  bench.show_ratio(found, "input", "step")
  words = args.config_file if args.config else CONFIG
  with tempfile.TemporaryDirectory() as cache:
    first, second = (first_step(words, cache) for _ in range(2))
  print(f"first step after {first:.1f} s, of a second start {second:.1f} s")


FLAGS = dict(
  with_config="optional",
  steps=dict(type=int, default=30, help="steps per round"),
  rounds=dict(type=int, default=5),
)
