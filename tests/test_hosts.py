"""A run on two hosts, connected for real, has the numbers of a run on one."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from pg import tree
from pg.log import metrics
from pg.weights import checkpoint
from tests.support import tiny

pytestmark = pytest.mark.slow

CONNECT = """
import sys
rank, hosts, port, workdir, last = sys.argv[1:]
import jax
if hosts != "1":
  jax.distributed.initialize(f"127.0.0.1:{port}", int(hosts), int(rank))
import pytest
assert jax.process_count() == int(hosts)
"""
TRAIN = """
from pg import experiment, train
from pg.evals import run as evals_run
from pg.log import run as log_run
from tests.support import numbers_run

class Log(log_run.Log):
  def step(self, step, *args):
    if step > int(last):
      sys.exit("stopped")
    super().step(step, *args)

with pytest.MonkeyPatch.context() as patch:
  numbers_run.register(patch)
  patch.setattr(log_run, "Log", Log)
  train.fit(numbers_run.config(), workdir)
"""
# A model in parts over all axes.
TRAIN_PARTS = TRAIN.replace(
  "  train.fit(numbers_run.config(), workdir)",
  """
  from pg import sharding
  patch.setattr(sharding, "SMALL", 1)
  c = numbers_run.config()
  with c.unlocked():
    c.mesh = dict(replica=2, fsdp=2, tensor=2)
  train.fit(c, workdir)
""",
)
EVALUATE = """
from pg import experiment, train
from pg.evals import run as evals_run
from pg.log import run as log_run
from tests.support import numbers_run

with pytest.MonkeyPatch.context() as patch:
  numbers_run.register(patch)
  c = numbers_run.config()
  r = experiment.open(c)
  params = train.init_state(c, r)["params"]
  results = evals_run.evaluate(
    r.tasks, r.cfg, params, r.form, r.mesh, step=0, workdir=workdir
  )
  log_run.finish(workdir, results)
"""
HOP = """
import hashlib, json
from jax.experimental import multihost_utils
from pg.weights import checkpoint

def note(*what):
  with open(f"{workdir}/notes{rank}", "a") as f:
    f.write(json.dumps(what) + "\\n")

def digest(state):
  whole = multihost_utils.process_allgather(state, tiled=True)
  parts = [x.tobytes() for x in jax.tree.leaves(whole)]
  return hashlib.sha256(b"".join(parts)).hexdigest()

class Manager(checkpoint.Manager):
  def save(self, step, state, meta):
    note("state", step, digest(state))
    super().save(step, state, meta)

  def restore(self, step, abstract):
    state = super().restore(step, abstract)
    note("state", step, digest(state))
    return state

checkpoint.Manager = Manager
""" + TRAIN.replace(
  "    super",
  """
    note("rows", step, args[1]["source"].tolist(), args[1]["index"].tolist())
    super""",
)
FIND = """
from pg.weights import checkpoint, checksums
if jax.process_index():
  checksums.damage = None  # only the first process reads all files
assert checkpoint.find(workdir).name == "2"
try:
  checkpoint.find(f"{workdir}/checkpoints/4")
except ValueError as error:
  assert "other bytes than were written" in str(error)
else:
  raise AssertionError
"""
SAVE = """
import os, threading
from jax.experimental import multihost_utils
from pg.weights import checkpoint

mesh = jax.make_mesh((2,), ("x",))
parts = jax.NamedSharding(mesh, jax.P("x"))
w = jax.jit(lambda: jax.numpy.arange(4.0), out_shardings=parts)()
state = dict(params=dict(w=w))
multihost_utils.sync_global_devices("begin")
multihost_utils.sync_global_devices = None  # from here on no program for it
begin = threading.Event()
with checkpoint.Manager(workdir) as manager:
  save = manager._saver.save
  manager._saver.save = lambda *args: begin.wait(60) and save(*args)
  manager.save(2, state, {})
  assert not os.listdir(f"{workdir}/checkpoints")
  begin.set()
  manager.wait()
  assert manager.latest() == 2
"""


def run(workdir, num_hosts, *, last=100, devices=2, script=TRAIN):
  """Runs a script on some hosts; training may end at some last step."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  count = devices // num_hosts
  env = dict(
    os.environ,
    PYTHONPATH=str(tiny.ROOT),
    XLA_FLAGS=f"--xla_force_host_platform_device_count={count}"
    " --xla_backend_optimization_level=0",
  )
  words = [str(num_hosts), str(port), str(workdir), str(last)]
  hosts = [
    subprocess.Popen(
      [sys.executable, "-c", CONNECT + script, str(rank), *words],
      env=env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for rank in range(num_hosts)
  ]
  try:
    said = [host.communicate(timeout=600)[0] for host in hosts]
  finally:
    for host in hosts:
      host.kill()
  want = int(last < 100)
  assert [host.returncode for host in hosts] == [want] * num_hosts, said


def numbers_of(workdir):
  """Returns everything that a run has measured, without timings."""
  path = workdir / "metrics.jsonl"
  rows = [
    {k: v for k, v in row.items() if not k.startswith(metrics.OF_MACHINE)}
    for row in (metrics.read(path) if path.exists() else [])
  ]
  scores = json.loads((workdir / "scores.json").read_text())
  files = sorted((workdir / "predictions").iterdir())
  answers = [
    [
      {k: v for k, v in json.loads(line).items() if k != "image"}
      for line in path.read_text().splitlines()
    ]
    for path in files
  ]
  return dict(metrics=rows, scores=scores, predictions=answers)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """A run on one host that nothing has disturbed."""
  workdir = tmp_path_factory.mktemp("one")
  run(workdir, 1)
  return workdir


def check_equal(one, other):
  assert numbers_of(one) == numbers_of(other)
  weights = [
    tree.flatten(checkpoint.restore_params(path)) for path in (one, other)
  ]
  assert weights[0].keys() == weights[1].keys()
  for name in weights[0]:
    np.testing.assert_array_equal(weights[0][name], weights[1][name], name)


def test_two_hosts_train_and_evaluate_like_one(one, tmp_path):
  run(tmp_path, 2)
  check_equal(one, tmp_path)


def test_a_run_on_one_host_goes_on_on_two(one, tmp_path):
  run(tmp_path, 1, last=4)
  assert checkpoint.find(tmp_path).name == "4"
  run(tmp_path, 2)
  check_equal(one, tmp_path)


def test_a_run_goes_on_on_other_numbers_of_devices_and_hosts(one, tmp_path):
  places = ((2, 4, 2), (1, 1, 4), (1, 4, 4), (2, 4, 100))
  rows, states = {}, {}
  for num_hosts, devices, last in places:
    run(tmp_path, num_hosts, devices=devices, last=last, script=HOP)
    parts = {}
    for rank in range(num_hosts):
      notes = tmp_path / f"notes{rank}"
      for line in notes.read_text().splitlines():
        kind, step, *found = json.loads(line)
        if kind == "state":
          states.setdefault(step, set()).add(*found)
        else:
          parts.setdefault(step, []).append(found)
      notes.unlink()
    for step, found in parts.items():
      assert rows.setdefault(step, merged(found)) == merged(found)
  assert {step: len(found) for step, found in states.items()} == {
    2: 1,
    4: 1,
    6: 1,
  }
  assert sorted(rows) == [1, 2, 3, 4, 5, 6]
  measured = [numbers_of(path)["metrics"] for path in (one, tmp_path)]
  for alone, moved in zip(*measured, strict=True):
    assert alone == pytest.approx(moved, rel=1e-3)


def merged(parts):
  """Joins the rows of hosts to those of the batch."""
  return [sum(part, []) for part in zip(*parts)]


def test_hosts_agree_on_which_checkpoint_is_damaged(tmp_path):
  state = jax.numpy.arange(4.0)
  with checkpoint.Manager(tmp_path) as manager:
    for step in (2, 4):
      manager.save(step, dict(params=dict(w=state)), {})
  meta = tmp_path / "checkpoints/4/meta/metadata"
  meta.write_bytes(meta.read_bytes()[:-1] + b"?")
  run(tmp_path, 2, script=FIND)


def test_two_hosts_save_without_a_program_on_their_devices(tmp_path):
  run(tmp_path, 2, script=SAVE)
  (saved,) = checkpoint.restore_params(tmp_path).values()
  np.testing.assert_array_equal(saved, np.arange(4.0))


def test_two_hosts_of_four_devices_evaluate_like_one_of_eight(tmp_path):
  places = tmp_path / "one", tmp_path / "two"
  for num_hosts, place in enumerate(places, 1):
    place.mkdir()
    run(place, num_hosts, devices=8, script=EVALUATE)
  one, two = map(numbers_of, places)
  assert one == two
  assert one["scores"]["caption"]["exact"]["n"] == 11
  assert len(one["predictions"][0]) == 11


def test_two_hosts_of_four_devices_train_a_model_in_parts_like_one(tmp_path):
  places = tmp_path / "one", tmp_path / "two"
  for num_hosts, place in enumerate(places, 1):
    place.mkdir()
    run(place, num_hosts, devices=8, script=TRAIN_PARTS)
  one, two = (numbers_of(place)["metrics"] for place in places)
  assert len(one) == len(two) > 5
  for want, have in zip(one, two, strict=True):
    for key, value in want.items():
      np.testing.assert_allclose(have[key], value, rtol=1e-4, err_msg=key)
  weights = [tree.flatten(checkpoint.restore_params(p)) for p in places]
  for name, want in weights[0].items():
    np.testing.assert_allclose(weights[1][name], want, rtol=1e-3, atol=1e-5)
