"""A run on two hosts, connected for real, has the numbers of a run on one."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from pg import tree
from pg.log import metrics
from pg.weights import checkpoint, saver
from tests.support import ports, tiny

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
# A model in parts over all axes, whose optimizer's state is the gradients.
TRAIN_PARTS = TRAIN.replace(
  "  train.fit(numbers_run.config(), workdir)",
  """
  import numpy as np
  from jax.experimental import multihost_utils
  from pg import sharding
  from pg.weights import saver

  class Manager(saver.Manager):
    def save(self, step, state, meta):
      whole = multihost_utils.process_allgather(state["opt"], tiled=True)
      if not jax.process_index():
        np.savez(f"{workdir}/gradients{step}.npz", *jax.tree.leaves(whole))
      super().save(step, state, meta)

  patch.setattr(saver, "Manager", Manager)
  patch.setattr(sharding, "SMALL", 1)
  c = numbers_run.config()
  with c.unlocked():
    c.optimizer, c.b1 = "momentum", 0.0
    if jax.device_count() > 1:
      c.mesh = dict(replica=2, fsdp=2, tensor=2)
  train.fit(c, workdir)
""",
)
# A frozen image tower that looks at each image once.
TRAIN_FEATURES = TRAIN.replace(
  "  train.fit(numbers_run.config(), workdir)",
  """
  c = numbers_run.config()
  with c.unlocked():
    c.input.cache_images = f"{workdir}/images"
    c.schedule = (("img/(?!head/).*", None), (".*", "cosine"))
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
from pg.weights import folders, saver

def note(*what):
  with open(f"{workdir}/notes{rank}", "a") as f:
    f.write(json.dumps(what) + "\\n")

def digest(state):
  whole = multihost_utils.process_allgather(state, tiled=True)
  parts = [x.tobytes() for x in jax.tree.leaves(whole)]
  return hashlib.sha256(b"".join(parts)).hexdigest()

class Manager(saver.Manager):
  def save(self, step, state, meta):
    note("state", step, digest(state))
    super().save(step, state, meta)

  def restore(self, step, abstract):
    state = super().restore(step, abstract)
    note("state", step, digest(state))
    return state

saver.Manager = Manager
""" + TRAIN.replace(
  """
    if step > int(last):
      sys.exit("stopped")
""",
  """
    note("rows", step, args[1]["source"].tolist(), args[1]["index"].tolist())
    if step > int(last):
      import os, signal, time
      while int(last) not in folders.steps(f"{workdir}/checkpoints"):
        time.sleep(0.1)
      multihost_utils.sync_global_devices("the end")
      os.kill(os.getpid(), signal.SIGKILL)
""",
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
from pg.weights import saver

mesh = jax.make_mesh((2,), ("x",))
parts = jax.NamedSharding(mesh, jax.P("x"))
w = jax.jit(lambda: jax.numpy.arange(4.0), out_shardings=parts)()
state = dict(params=dict(w=w))
multihost_utils.sync_global_devices("begin")
multihost_utils.sync_global_devices = None  # from here on no program for it
begin = threading.Event()
with saver.Manager(workdir) as manager:
  save = manager._saver.save
  manager._saver.save = lambda *args: begin.wait(60) and save(*args)
  manager.save(2, state, {})
  assert not os.listdir(f"{workdir}/checkpoints")
  begin.set()
  manager.wait()
  assert manager.latest() == 2
"""

BATCHES = """
import json
from pg import experiment
from pg.data import lengths, stream
from tests.support import numbers_run

with pytest.MonkeyPatch.context() as patch:
  numbers_run.register(patch)
  c = numbers_run.config(total=12)
  c.text_len = 24
  with c.unlocked():
    c.data.a.weight = 20
  r = experiment.open(c)
  batches = stream.train_batches(
    r.data, r.form, c.seed, c.batch_size, start=3 * c.batch_size,
    stop=12 * c.batch_size, options=r.options, text_lens=(24, 12, 9), window=5
  )
  found = []
  for _, bad, batch in stream.on_devices(batches, r.mesh):
    texts = (batch["tokens"] ** 2).sum(axis=1)
    rows = batch["index"], batch["source"], texts
    sums = [int((x * jax.numpy.arange(1, 9)).sum()) for x in rows]
    found.append([batch["tokens"].shape, *sums])
  with open(f"{workdir}/found{rank}", "w") as f:
    json.dump(found, f)
"""


def run(workdir, num_hosts, *, last=100, devices=2, script=TRAIN):
  """Runs a script on some hosts; training may end at some last step."""
  port = ports.free()
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
  codes = [host.returncode for host in hosts]
  if last < 100 and script == HOP:
    assert max(codes) < 0, said  # killed, the slower one perhaps by JAX
  else:
    assert codes == [int(last < 100)] * num_hosts, said


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
  run(workdir, 1, script=HOP)
  return workdir


def check_equal(one, other):
  assert numbers_of(one) == numbers_of(other)
  weights = [
    tree.flatten(checkpoint.restore_params(path)) for path in (one, other)
  ]
  assert weights[0].keys() == weights[1].keys()
  for name in weights[0]:
    np.testing.assert_array_equal(weights[0][name], weights[1][name], name)


def test_a_run_on_one_host_goes_on_on_two(one, tmp_path):
  run(tmp_path, 1, last=2)
  assert checkpoint.find(tmp_path).name == "2"
  run(tmp_path, 2)
  check_equal(one, tmp_path)


def test_a_killed_run_goes_on_on_other_numbers_of_devices_and_hosts(
  one, tmp_path
):
  places = ((2, 8, 2), (1, 4, 4), (2, 8, 100))
  whole, _ = noted(one, 1)
  assert sorted(whole) == [1, 2, 3, 4, 5, 6]
  steps, states = set(), {}
  for num_hosts, devices, last in places:
    run(tmp_path, num_hosts, devices=devices, last=last, script=HOP)
    rows, found = noted(tmp_path, num_hosts)
    steps |= {*rows}
    assert rows == {step: whole[step] for step in rows}
    for step, digests in found.items():
      states.setdefault(step, set()).update(digests)
  assert steps == {*whole}
  assert {k: len(found) for k, found in states.items()} == {2: 1, 4: 1, 6: 1}
  measured = [numbers_of(path)["metrics"] for path in (one, tmp_path)]
  for alone, moved in zip(*measured, strict=True):
    assert alone == pytest.approx(moved, rel=1e-3)


def noted(workdir, num_hosts):
  """Returns what a run of HOP has noted; forgets it.

  Returns:
    {step: [sources, rows]} of the batches, {step: digests of the state, one if
    it was the same whenever it was saved or restored}.
  """
  rows, states = {}, {}
  for rank in range(num_hosts):
    path = workdir / f"notes{rank}"
    for line in path.read_text().splitlines():
      kind, step, *found = json.loads(line)
      if kind == "state":
        states.setdefault(step, set()).add(*found)
      else:  # the hosts' parts of a batch, one after the other
        parts = rows.setdefault(step, [[], []])
        rows[step] = [have + more for have, more in zip(parts, found)]
    path.unlink()
  return rows, states


def test_two_hosts_keep_features_of_images_like_one(tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  for num_hosts, workdir in ((1, one), (2, two)):
    run(workdir, num_hosts, script=TRAIN_FEATURES)
  check_equal(one, two)
  names = [
    sorted(path.relative_to(x) for path in x.glob("images/*/*/*"))
    for x in (one, two)
  ]
  assert names[0] == names[1] and len(names[0]) > 30


def test_two_hosts_cut_their_batches_like_one(tmp_path):
  for num_hosts in 1, 2:
    run(tmp_path, num_hosts, script=BATCHES)
    found = [json.loads(path.read_text()) for path in tmp_path.glob("found*")]
    assert len(found) == num_hosts
    assert all(x == found[0] for x in found)
    if num_hosts == 1:
      (one,) = found
  assert found[0] == one
  sizes = [shape[1] for shape, *_ in one]
  assert len(sizes) == 9 and len({*sizes}) > 1 and 25 in sizes


def test_hosts_agree_on_which_checkpoint_is_damaged(tmp_path):
  state = jax.numpy.arange(4.0)
  with saver.Manager(tmp_path) as manager:
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


def test_two_hosts_train_a_model_in_eight_parts_like_one_device(tmp_path):
  places = tmp_path / "one", tmp_path / "two"
  for place, num_hosts, devices in zip(places, (1, 2), (1, 8)):
    place.mkdir()
    run(place, num_hosts, devices=devices, script=TRAIN_PARTS)
  one, two = (numbers_of(place)["metrics"] for place in places)
  assert len(one) == len(two) > 5
  for want, have in zip(one, two, strict=True):
    for key, value in want.items():
      np.testing.assert_allclose(have[key], value, rtol=1e-4, err_msg=key)
  one, two = (tree.flatten(checkpoint.restore_params(p)) for p in places)
  for name, want in one.items():
    np.testing.assert_allclose(two[name], want, rtol=1e-3, atol=1e-5)
  one, two = (np.load(place / "gradients6.npz") for place in places)
  assert all(np.any(x) for x in one.values())
  for name, want in one.items():
    atol = 1e-5 * np.abs(want).max() + 1e-9
    np.testing.assert_allclose(two[name], want, atol=atol)
