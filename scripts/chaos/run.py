"""Runs of training in processes of their own, and what two runs differ in."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from pg import config, experiment
from pg.learn import state as state_lib
from pg.log import metrics
from pg.weights import saver

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(pathlib.Path(__file__).with_name("config.py"))
TOTAL, EVAL_EVERY = 40, 10
PATIENCE = 600  # seconds
# When something may happen to a run.
MOMENTS = ("opening", "compiling", "step", "saving", "evaluating", "ending")


class Lab:
  """A folder of runs that are alike, and what an undisturbed one leaves."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)
    self.tmp = self.folder / "tmp"
    self.tmp.mkdir()
    self.whole = str(self.folder / "whole")
    process = self.start(self.whole)
    if process.wait():
      raise RuntimeError(f"an undisturbed run fails:\n{process.text()}")
    self._left = self.leaves(self.whole)

  def new(self):
    """Returns a new workdir."""
    return tempfile.mkdtemp(prefix="run", dir=self.folder)

  def start(self, workdir, *words, total=TOTAL, own=None):
    """Starts a run as a person does; returns its Process.

    Args:
      workdir: str.
      *words: of its command line, after the config.
      total: int, steps.
      own: more variables of its environment, or None.
    """
    cache = dict(
      JAX_COMPILATION_CACHE_DIR=str(self.folder / "xla"),
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    env = dict(os.environ, **cache, TMPDIR=str(self.tmp))
    env |= dict(CHAOS_ORDER=self.order_file(workdir), PYTHONPATH=str(ROOT))
    env |= own or {}
    command = [sys.executable, "-m", "scripts.chaos.child"]
    command += ["--config", f"{CONFIG}:total={total}", "--workdir", workdir]
    return Process([*command, *words], workdir, env, self.folder)

  def order_file(self, workdir):
    """Returns the file that says which rows each step of a run has read."""
    return str(self.folder / f"{os.path.basename(workdir)}.order")

  def leaves(self, workdir):
    """Returns all that a run leaves, as far as it is to be the same twice."""
    state, meta = restored(workdir)
    folder = pathlib.Path(workdir)
    return {
      "parameters and optimizer": state,
      "position": {k: meta[k] for k in ("step", "counts")},
      "metric lines": {
        f"{row['step']}/{key}": str(value)
        for row in metrics.read(folder / "metrics.jsonl")
        for key, value in row.items()
        if not key.startswith(metrics.OF_MACHINE)
      },
      "number of metric lines": {
        "": len(metrics.read(folder / "metrics.jsonl"))
      },
      "order of examples": order(self.order_file(workdir)),
      "predictions": {
        path.name: path.read_bytes()
        for path in sorted((folder / "predictions").iterdir())
        if path.suffix != ".partial"  # of a killed write; nobody reads it
      },
      "scores": {"": (folder / "scores.json").read_text()},
    }

  def differences(self, workdir, left=None):
    """Returns what differs from an undisturbed run, as one line, or "".

    Args:
      workdir: str.
      left: what that one leaves; None is `whole`'s.
    """
    try:
      got = self.leaves(workdir)
    except Exception as error:
      return f"cannot be read: {type(error).__name__}: {error}"
    found = []
    for what, want in (left or self._left).items():
      have = got[what]
      keys = [k for k in {**want, **have} if want.get(k) != have.get(k)]
      if keys:
        found.append(
          f"{what}: {len(keys)} of {len(want)} differ, first {keys[0]}"
        )
    return "; ".join(found)


class Jobs:
  """Runs of two devices, of one process each, in a Lab."""

  def __init__(self, lab):
    self._lab, self.count, self._turn = lab, 2, 0
    whole = str(lab.folder / "whole2")
    if not os.path.exists(whole):
      job = self.start(whole)
      if job.wait():
        raise RuntimeError(f"an undisturbed job fails:\n{job.text()}")
    self._left = lab.leaves(whole)
    self.new = lab.new

  def start(self, workdir, *words, fails=None, own=((), ())):
    """Starts a job of `count` processes; returns it.

    Args:
      workdir: str.
      *words: of their command line.
      fails: None, or which process is to fail, and how: "KeyError:3".
      own: words of each process' own.
    """
    with socket.socket() as s:
      s.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{s.getsockname()[1]}"
    flag = "--xla_force_host_platform_device_count"
    found = []
    for i in range(self.count):
      env = dict(XLA_FLAGS=f"{flag}={2 // self.count}")
      if self.count > 1:
        env |= dict(
          JAX_COORDINATOR_ADDRESS=address,
          JAX_NUM_PROCESSES=f"{self.count}",
          JAX_PROCESS_ID=f"{i}",
        )
      if fails and fails[0] == i:
        env["CHAOS_FAILS"] = fails[1]
      found.append(self._lab.start(workdir, *words, *own[i], own=env))
    self._turn += 1
    return Job(found, self._turn % self.count)

  def differences(self, workdir):
    return self._lab.differences(workdir, self._left)


class Job:
  """The processes of one start; what is done to it is done to one of them."""

  def __init__(self, processes, number):
    self.processes, self._number = processes, number

  def __getattr__(self, name):
    return getattr(self.processes[0], name)  # which speaks for all

  def wait(self, seconds=PATIENCE):
    """Returns their exit code; None where one had to be killed."""
    codes = [process.wait(seconds) for process in self.processes]
    alike = len({*codes}) == 1 or None in codes
    return min(codes, key=lambda x: x is not None) if alike else codes

  def terminate(self):
    self.processes[self._number].terminate()

  def interrupt(self):
    self.processes[self._number].interrupt()

  def kill(self):
    self.processes[self._number].kill()
    return self._number


class Process:
  """One start of a run, in a process group of its own."""

  def __init__(self, command, workdir, env, folder):
    self.workdir = pathlib.Path(workdir)
    file, self._out = tempfile.mkstemp(".txt", "said", folder)
    with open(file, "wb") as file:
      self._popen = subprocess.Popen(
        command,
        stdout=file,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=env,
        cwd=ROOT,
        start_new_session=True,
        # A shell's background job, as this one may be, ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
      )
    self.pid = self._popen.pid

  def ended(self):
    return self._popen.poll() is not None

  def wait(self, seconds=PATIENCE):
    """Returns the exit code; None where it had to be killed."""
    try:
      return self._popen.wait(seconds)
    except subprocess.TimeoutExpired:
      self.kill()
      return None

  def kill(self):
    self._popen.kill()
    self._popen.wait()

  def interrupt(self):
    os.killpg(self.pid, signal.SIGINT)  # as a terminal does

  def terminate(self):
    self._popen.terminate()

  def text(self):
    return pathlib.Path(self._out).read_text(errors="replace")

  def lines(self):
    """Returns the metric lines that there are now."""
    try:
      return metrics.read(self.workdir / "metrics.jsonl")
    except (OSError, ValueError):
      return []

  def steps(self):
    """Returns the steps that have a line of training."""
    return [row["step"] for row in self.lines() if "train/loss" in row]

  def until(self, condition):
    """Waits for a condition; returns False where the run ends before it."""
    start = time.monotonic()
    while not condition():
      if self.ended() or time.monotonic() - start > PATIENCE:
        return False
      time.sleep(0.002)
    return not self.ended()

  def reach(self, moment, rng):
    """Waits for one of MOMENTS; returns False where the run ends before."""
    if not self.until(lambda: moment == "opening" or self._started()):
      return False
    late = dict(
      opening=4.0, compiling=1.5, saving=0.06, evaluating=0.15, ending=0.6
    )
    if moment == "step":
      resumed, more = self.resumed(), rng.randrange(1, 9)
      reached = lambda: max(self.steps(), default=0) >= resumed + more
    elif moment == "saving":
      more = rng.randrange(1, 3)
      seen = set()
      reached = lambda: seen.update(self._partial()) or len(seen) >= more
    elif moment == "evaluating":
      resumed = self.resumed()
      reached = lambda: self._evaluates(resumed)
    elif moment == "ending":
      reached = lambda: TOTAL in self.steps()
    else:
      reached = lambda: True
    if not self.until(reached):
      return False
    time.sleep(rng.uniform(0, late.get(moment, 0)))
    return not self.ended()

  def _started(self):
    text = self.text()
    return "from the start" in text or "from step" in text

  def resumed(self):
    """Returns the step that this start went on from."""
    _, _, rest = self.text().partition("from step ")
    return int(rest.split()[0]) if rest else 0

  def _partial(self):
    with contextlib.suppress(OSError):
      names = os.listdir(self.workdir / "checkpoints")
      return [x for x in names if not x.isdigit()]
    return []

  def _evaluates(self, resumed):
    last = (self.lines() or [{"step": 0}])[-1]
    step = last["step"]
    return step > resumed and not step % EVAL_EVERY and "train/loss" in last


@functools.cache
def opened():
  """Returns the config and its Experiment."""
  c = config.load(CONFIG)
  return c, experiment.open(c)


def abstract():
  c, run = opened()
  return state_lib.abstract(run.cfg, run.tx, run.mesh, c.sharding)


def plain(state):
  """Returns a train state as bytes by name."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(state))
  return {
    jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
    for path, leaf in leaves
  }


def restored(workdir):
  """Returns the newest state and its meta, read as training reads it."""
  with saver.Manager(workdir) as manager:
    step = manager.latest()
    meta = manager.meta(step)
    return plain(manager.restore(step, abstract())), meta


def order(path):
  """Returns {step/place: row}; rows that were not the same each time are told.

  The processes of a job each note their part, and where in the batch it is.
  """
  found = {}
  for line in open(path, "rb").read().split(b"\n"):
    with contextlib.suppress(ValueError):
      step, first, *rows = json.loads(line)
      for place, row in enumerate(zip(*rows), first):
        if found.setdefault(f"{step}/{place}", row) != row:
          found[f"{step}/{place}"] = "differs between starts"
  return found


def alive(word):
  """Returns the ids of processes whose environment has a word."""
  found = []
  for path in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
      if word.encode() in (path / "environ").read_bytes():
        found.append(int(path.name))
  return found
