"""SIGTERM and Ctrl-C end a program in order, and lose nothing."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pg import stop, train, tree
from pg.evals import run as evals_run
from pg.log import metrics
from pg.log import run as log_run
from pg.weights import checkpoint, saver
from tests.support import numbers_run, paths

SIGNALS = (signal.SIGINT, signal.SIGTERM)
VERB = """
import sys, time
from pg import command, stop
def main(args):
  print("begins", flush=True)
  {work}
command.run(main, "", with_config=False)
"""


def end(work, *signals):
  """Sends signals to a program at work; returns its status and last words."""
  child = subprocess.Popen(
    [sys.executable, "-c", VERB.format(work=work)],
    cwd=paths.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  child.stdout.readline()
  for number in signals:
    time.sleep(0.3)
    child.send_signal(number)
  _, said = child.communicate(timeout=60)
  return child.returncode, said


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_program_with_its_status_and_one_line(number):
  work = """
  try: time.sleep(60)
  finally: print("closes", file=sys.stderr)
  """
  assert end(work, number) == (128 + number, "closes\nstopped\n")


def test_a_signal_during_a_callback_ends_a_program():
  work = """
  import gc, os
  once = [15]
  gc.callbacks.append(lambda *_: once and os.kill(os.getpid(), once.pop()))
  try:
    gc.collect()
    while True: time.sleep(0.1)
  finally: print("closes", file=sys.stderr)
  """
  assert end(work) == (143, "closes\nstopped\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_ends_a_program_that_saves_its_work(number):
  saves = "while True: time.sleep(0.1 * (1 + 600 * stop.requested()))"
  said = "stopped at once\n"
  assert end(saves, number, signal.SIGTERM) == (128 + number, said)


def test_a_program_that_does_not_hear_its_main_thread_is_ended():
  deaf = """
  stop.GRACE = 0.2
  while True:
    try: time.sleep(60)
    except stop.Stopped: pass
  """
  assert end(deaf, signal.SIGTERM) == (143, "stopped\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_verb_that_is_being_imported_ends_without_a_traceback(number):
  code = "import os, sys; sys.argv = ['-m']; import pg; os.kill(os.getpid(), "
  code += f"{number:d})"
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (128 + number, "stopped\n")


def test_a_signal_that_is_ignored_stays_ignored():
  # As of a job in a shell's background.
  ignored = "os.kill(os.getpid(), signal.SIGINT)"
  code = VERB.format(work=f"import os; {ignored}; print('lives')")
  code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + code
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (0, "begins\nlives\n"), done.stderr


READ = """
import multiprocessing
from concurrent import futures
import pytest
from pg.data import stream
from tests.support import numbers
with pytest.MonkeyPatch.context() as patch:
  numbers.register(patch)
  data = numbers.datasets(dict(source="numbers", size=10))
form = numbers.form.__wrapped__()
options = stream.DEFAULT._replace(num_workers=1)
batches = stream.train_batches(data, form, 0, 4, options=options)
with futures.ThreadPoolExecutor(1) as pool:
  read = lambda: pool.submit(next, batches).result()
  read()
  print(multiprocessing.active_children()[0].pid, flush=True)
  input()
  for _ in range(100): read()
  print("reads", flush=True)
  input()
"""


def test_a_worker_hears_no_signals_and_ends_with_its_parent():
  child = subprocess.Popen(
    [sys.executable, "-c", READ],
    cwd=paths.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  worker = int(child.stdout.readline())
  for number in SIGNALS:
    os.kill(worker, number)
  child.stdin.write("\n")
  child.stdin.flush()
  assert child.stdout.readline() == "reads\n"
  child.kill()
  # Both write to the pipes, which end when nobody can any more.
  assert child.communicate(timeout=30) == ("", "")


@pytest.fixture
def watched(monkeypatch):
  """Lets this process be stopped, without the thread that ends it for good."""
  before = {number: signal.getsignal(number) for number in SIGNALS}
  monkeypatch.setattr(stop, "_signal", 0)
  monkeypatch.setattr(stop, "_is_asked", False)
  monkeypatch.setattr(stop, "_guard", int)
  monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
  stop.watch()
  yield
  os.close(signal.set_wakeup_fd(-1))
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.fixture
def fit(one_device, monkeypatch):
  """Returns a function that trains a few steps with an evaluation at 4."""
  numbers_run.register(monkeypatch)
  c = numbers_run.config(max_checkpoints=None)
  with c.unlocked():
    c.evals.caption.every = c.evals.nll.every = 4
    c.evals.caption.batch_size = 4  # three batches
  return lambda workdir: train.fit(c, str(workdir))


def left(workdir):
  """Returns what a run has left, without what the clock tells."""
  rows = metrics.read(pathlib.Path(workdir) / "metrics.jsonl")
  rows = [
    {k: v for k, v in row.items() if not k.startswith(metrics.OF_MACHINE)}
    for row in rows
  ]
  params = tree.flatten(checkpoint.restore_params(workdir))
  files = sorted(pathlib.Path(workdir, "predictions").iterdir())
  return (
    rows,
    {k: np.asarray(v).tobytes() for k, v in params.items()},
    [(file.name, file.read_bytes()) for file in files],
    pathlib.Path(workdir, "scores.json").read_text(),
  )


def interrupt(patch, owner, name, when, number=signal.SIGTERM):
  """Sends a signal within the first call of a function whose arguments fit."""
  function, calls = getattr(owner, name), []

  def called(*args, **more):
    if when(*args, **more) and not calls:
      calls.append(os.kill(os.getpid(), number))
    return function(*args, **more)

  patch.setattr(owner, name, called)


@pytest.fixture(scope="module")
def whole(one_device, tmp_path_factory):
  """What a run leaves that nothing has disturbed."""
  workdir = tmp_path_factory.mktemp("whole")
  with pytest.MonkeyPatch.context() as patch:
    fit.__wrapped__(None, patch)(workdir)
  return left(workdir)


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  "owner, name, when, step, number",
  [
    (log_run.Log, "step", lambda _, i, *rest: i == 1, 1, signal.SIGINT),
    (evals_run, "run", lambda task, *rest: True, 4, signal.SIGTERM),
    slow(log_run.Log, "step", lambda _, i, *rest: i == 3, 3, signal.SIGINT),
    slow(log_run.Log, "step", lambda _, i, *rest: i == 4, 4, signal.SIGTERM),
    slow(evals_run, "run", lambda t, *rest: t.name == "nll", 4, signal.SIGINT),
    slow(saver.Manager, "save", lambda *rest: True, 3, signal.SIGTERM),
  ],
  ids=[
    "first step",
    "evaluator",
    "step",
    "step before one",
    "next evaluator",
    "save",
  ],
)
def test_a_stopped_run_continues_as_if_it_had_not_been(
  owner, name, when, step, number, fit, whole, watched, tmp_path, monkeypatch
):
  with pytest.MonkeyPatch.context() as patch:
    interrupt(patch, owner, name, when, number)
    with pytest.raises(stop.Stopped) as stopped:
      fit(tmp_path)
  assert stopped.value.code == 128 + number
  said = f"stopped at step {step}; the same command continues"
  assert stopped.value.message == said
  assert checkpoint.find(tmp_path).name == str(step)
  monkeypatch.setattr(stop, "_signal", 0)
  fit(tmp_path)
  assert left(tmp_path) == whole


@pytest.mark.slow
def test_a_run_that_has_reached_its_end_is_not_stopped(
  fit, whole, watched, tmp_path, monkeypatch
):
  interrupt(monkeypatch, saver.Manager, "close", lambda *rest: True)
  fit(tmp_path)
  assert left(tmp_path) == whole
