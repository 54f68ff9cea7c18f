"""Measures what it costs to be a job, to stop and to save.

python -m scripts.bench job [--config configs/nano.py]

In turns in one run: seconds from the start of training to its first step, by
one process of two devices and by two of one device each; in those two, from a
SIGTERM to one of them until both have saved and ended. Then, in one process,
how long a save keeps training from its next step.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax

from pg import config, experiment, train
from pg.data import stream
from pg.weights import checkpoint
from scripts import bench

CONFIG = "configs/nano.py"


def start(name, workdir, count):
  """Starts training by some processes, of two devices together."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{s.getsockname()[1]}"
  words = [sys.executable, "-m", "pg.train", "--config", name]
  words += ["--workdir", workdir]
  flag = f"--xla_force_host_platform_device_count={2 // count}"
  found = []
  for i in range(count):
    env = dict(os.environ, XLA_FLAGS=flag, JAX_NUM_PROCESSES=f"{count}")
    if count > 1:
      env |= dict(JAX_COORDINATOR_ADDRESS=address, JAX_PROCESS_ID=f"{i}")
    pipe = subprocess.PIPE if not i else subprocess.DEVNULL
    found.append(subprocess.Popen(words, env=env, stderr=pipe, text=True))
  return found


def first_step(name, count, stops):
  """Returns seconds to the first step; appends those of a stop to `stops`."""
  with tempfile.TemporaryDirectory() as workdir:
    begin = time.perf_counter()
    processes = start(name, workdir, count)
    for line in processes[0].stderr:
      if line.startswith("step 1/"):
        break
    seconds = time.perf_counter() - begin
    time.sleep(2)
    begin = time.perf_counter()
    processes[-1].send_signal(signal.SIGTERM)
    processes[0].stderr.read()
    codes = [process.wait() for process in processes]
    stops.append(time.perf_counter() - begin)
    assert codes == [143] * count, codes
  return seconds


def saves(c, rounds):
  """Returns {name: seconds of each round}: a step, and what a save takes."""
  r = experiment.open(c)
  state = train.init_state(c, r)
  step = train.compile_update(c, r)
  batches = stream.train_batches(r.data, r.form, c.seed, c.batch_size)
  rows = stream.put(next(batches)[0], r.mesh)
  found = {"step": [], "save": []}
  with tempfile.TemporaryDirectory() as workdir:
    with checkpoint.Manager(workdir, max_checkpoints=1) as manager:
      for i in range(1, 4 * (rounds + 1) + 1):
        begin = time.perf_counter()
        with jax.set_mesh(r.mesh):
          state, measured = step(state, rows)
        jax.block_until_ready(measured)
        end = time.perf_counter()
        if i % 4 == 0:
          found["step"].append(end - begin)
          begin = time.perf_counter()
          manager.save(i, state, dict(step=i))
          found["save"].append(time.perf_counter() - begin)
          manager.wait()
  return {name: times[1:] for name, times in found.items()}  # one compiled


def main(args):
  name = args.config_file if args.config else CONFIG
  stops = {"1 process": [], "2 processes": []}
  jobs = {
    "1 process": lambda: first_step(name, 1, stops["1 process"]),
    "2 processes": lambda: first_step(name, 2, stops["2 processes"]),
  }
  bench.show(bench.in_turns(jobs, args.rounds), "s to the first step", 1)
  bench.show(stops, "s from SIGTERM to the end", 1)
  sys.stdout.flush()
  found = saves(args.config or config.load(CONFIG), args.rounds)
  bench.show(found, "s", 3)
  bench.show_ratio(found, "save", "step")


FLAGS = dict(with_config="optional", rounds=dict(type=int, default=3))
