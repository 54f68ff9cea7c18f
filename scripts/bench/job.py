"""Measures what it costs to be a job, to save and to stop.

python -m scripts.bench job [--config configs/nano.py]

By one process of two devices and by two of one device each, in turns: seconds
until a command that does nothing knows its devices; then of training without
its evaluators: to the first step, for a step, for one in which a save begins,
what of that training waits for the save, and from SIGTERM to one process until
all have saved and ended. Then the same of a large state without a model: how
long a save keeps whoever calls it, and how long until it is complete.
"""

import collections
import itertools
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from pg.log import metrics
from scripts import bench

CONFIG = "configs/nano.py"
EVERY, STEPS = 4, 24  # steps from save to save, and until the signal
NOTHING = """
import jax
from pg import command, progress
def main(args):
  progress.say(f"{jax.device_count()} devices")
command.run(main, "", with_config=False, joins=True)
"""
# Saves a state, with a disk that is not busy with the one before.
SAVE = """
import functools, time
import jax
from jax import numpy as jnp
from pg import command, progress
from pg.weights import saver
def main(args):
  mesh = jax.make_mesh((2,), ("x",))
  parts = jax.NamedSharding(mesh, jax.P("x"))
  size = int(float(args.gib) * 2**30) // 4 // 8
  @functools.partial(jax.jit, out_shardings=parts)
  def make(i):
    return {f"{k}": jnp.full([2, size // 2], i + k, "f4") for k in range(8)}
  with saver.Manager(args.workdir) as manager:
    for i in range(4):
      state = jax.block_until_ready(make(i))
      begin = time.perf_counter()
      manager.save(i, state, {})
      asked = time.perf_counter() - begin
      manager.wait()
      progress.say(f"{i} saved {asked} {time.perf_counter() - begin}")
command.run(
  main, "", with_config=False, joins=True, gib={}, workdir={}
)
"""
# A config file: the one that is measured, without evaluators.
ALONE = """
from pg import config
def get_config(arg=None):
  c = config.load({name!r})
  with c.unlocked():
    c.evals = {{}}
  c.log_every, c.save_every = 1, {every}
  return c
"""
WHAT = {
  "join": "s until the devices are known",
  "first": "s to the first step",
  "step": "s for a step",
  "saving": "s for one in which a save begins",
  "blocked": "s of it in which training waits",
  "stop": "s from SIGTERM to the end",
  "asked": "s in which a save of {gib} GiB is asked for",
  "complete": "s until it is complete",
}


def start(words, count):
  """Starts processes of Python, of two devices together."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{s.getsockname()[1]}"
  flag = f"--xla_force_host_platform_device_count={2 // count}"
  found = []
  for i in range(count):
    env = dict(os.environ, XLA_FLAGS=flag, JAX_NUM_PROCESSES=f"{count}")
    if count > 1:
      env |= dict(JAX_COORDINATOR_ADDRESS=address, JAX_PROCESS_ID=f"{i}")
    pipe = subprocess.PIPE if not i else subprocess.DEVNULL
    command = [sys.executable, *words]
    found.append(subprocess.Popen(command, env=env, stderr=pipe, text=True))
  return found


def until(processes, text, begin):
  """Returns seconds until the first process says a line with a text."""
  for line in processes[0].stderr:
    if text in line:
      return time.perf_counter() - begin
  raise RuntimeError(f"ended, and did not say {text!r}")


def join(count):
  """Returns seconds until a command knows its devices."""
  begin = time.perf_counter()
  processes = start(["-c", NOTHING], count)
  seconds = until(processes, "2 devices", begin)
  for process in processes:
    process.wait()
  return seconds


def train(name, count, found):
  """Appends what one run takes to the lists of `found`."""
  with tempfile.TemporaryDirectory() as folder:
    file, workdir = pathlib.Path(f"{folder}/alone.py"), f"{folder}/run"
    file.write_text(ALONE.format(name=name, every=EVERY))
    words = ["-m", "pg.train", "--config", str(file), "--workdir", workdir]
    begin = time.perf_counter()
    processes = start(words, count)
    found["first"].append(until(processes, "step 1/", begin))
    while len(rows := metrics.read(f"{workdir}/metrics.jsonl")) < STEPS:
      time.sleep(0.1)
    begin = time.perf_counter()
    processes[-1].send_signal(signal.SIGTERM)
    processes[0].stderr.read()
    codes = [process.wait() for process in processes]
    found["stop"].append(time.perf_counter() - begin)
    assert codes == [143] * count, codes
  note_saves(rows, found)


def save(count, gib, found):
  """Appends what saves of a state of that many GiB take, but for the first."""
  with tempfile.TemporaryDirectory() as workdir:
    words = ["-c", SAVE, "--gib", str(gib), "--workdir", workdir]
    processes = start(words, count)
    rows = re.findall(
      "^[1-9] saved (.*) (.*)$", processes[0].stderr.read(), re.M
    )
    assert [process.wait() for process in processes] == [0] * count
  for asked, complete in rows:
    found["asked"].append(float(asked))
    found["complete"].append(float(complete))


def note_saves(rows, found):
  """Appends what lines of metrics say of steps, but for the first saved."""
  for before, row in itertools.pairwise(rows[EVERY:]):
    took, waited = (
      row[key] - before[key] for key in ("time/total", "time/checkpoint")
    )
    if before["step"] % EVERY:
      found["step"].append(took)
    else:
      found["saving"].append(took)
      found["blocked"].append(waited)


def main(args):
  name = args.config_file if args.config else CONFIG
  found = {1: collections.defaultdict(list), 2: collections.defaultdict(list)}
  for _ in range(args.rounds):
    for count, lists in found.items():
      lists["join"].append(join(count))
      train(name, count, lists)
      save(count, args.gib, lists)
  for key, what in WHAT.items():
    by_count = {f"processes: {k}": lists[key] for k, lists in found.items()}
    bench.show(by_count, what.format(gib=args.gib), 3)


FLAGS = dict(
  with_config="optional",
  rounds=dict(type=int, default=3),
  gib=dict(type=float, default=1.0, help="of the large state"),
)
