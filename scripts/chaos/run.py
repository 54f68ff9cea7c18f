"""Runs of training in processes of their own, and what two runs differ in."""

import contextlib
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np

from pg import config, experiment
from pg.learn import state as state_lib
from pg.log import metrics
from pg.weights import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(pathlib.Path(__file__).with_name("config.py"))
TOTAL, EVAL_EVERY = 40, 10
PATIENCE = 600  # seconds
# When something may happen to a run.
MOMENTS = ("opening", "compiling", "step", "saving", "evaluating", "ending")
_CLOCK = ("speed/", "time/")


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

  def start(self, workdir, *words, total=TOTAL):
    """Starts a run as a person does; returns its Process."""
    cache = dict(
      JAX_COMPILATION_CACHE_DIR=str(self.folder / "xla"),
      JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    env = dict(os.environ, **cache, TMPDIR=str(self.tmp))
    env |= dict(CHAOS_ORDER=self.order_file(workdir), PYTHONPATH=str(ROOT))
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
        if not key.startswith(_CLOCK)
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

  def differences(self, workdir):
    """Returns what differs from an undisturbed run, as one line, or ""."""
    try:
      got = self.leaves(workdir)
    except Exception as error:
      return f"cannot be read: {type(error).__name__}: {error}"
    found = []
    for what, want in self._left.items():
      have = got[what]
      keys = [k for k in {**want, **have} if want.get(k) != have.get(k)]
      if keys:
        found.append(
          f"{what}: {len(keys)} of {len(want)} differ, first {keys[0]}"
        )
    return "; ".join(found)


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
  with checkpoint.Manager(workdir) as manager:
    step = manager.latest()
    meta = manager.meta(step)
    return plain(manager.restore(step, abstract())), meta


def order(path):
  """Returns {step: rows}; rows that were not the same each time are told."""
  found = {}
  for line in open(path, "rb").read().split(b"\n"):
    with contextlib.suppress(ValueError):
      step, *rows = json.loads(line)
      if found.setdefault(step, rows) != rows:
        found[step] = "differs between starts"
  return found


def alive(word):
  """Returns the ids of processes whose environment has a word."""
  found = []
  for path in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
      if word.encode() in (path / "environ").read_bytes():
        found.append(int(path.name))
  return found
