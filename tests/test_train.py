"""A run from its config file: it learns, it stops, it goes on."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from pg import experiment, train, tree
from pg.data import stream
from pg.log import history, lock, metrics
from pg.weights import checkpoint, folders
from tests.support import tiny


def record(workdir):
  """Returns the metric lines of a run without what its machine tells."""
  return [
    {k: v for k, v in row.items() if not k.startswith(metrics.OF_MACHINE)}
    for row in lines(workdir)
  ]


def lines(workdir):
  return metrics.read(pathlib.Path(workdir) / "metrics.jsonl")


def weights(workdir):
  """Returns the last checkpoint's parameters as bytes by name."""
  params = checkpoint.restore_params(workdir)
  return {k: np.asarray(v).tobytes() for k, v in tree.flatten(params).items()}


pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_device):
  """A run that nothing has disturbed."""
  workdir = str(tmp_path_factory.mktemp("whole"))
  results = train.fit(tiny.nano(), workdir)
  return workdir, results


def test_a_run_leaves_everything_behind(whole):
  workdir, results = whole
  names = set(os.listdir(workdir))
  assert {"config.json", "tokenizer.model", "metrics.jsonl"} <= names
  assert {"scores.json", "report.html", "predictions", "checkpoints"} <= names
  files = os.listdir(f"{workdir}/predictions")
  assert files == [f"caption-{tiny.TOTAL:09d}.jsonl"]
  assert len(open(f"{workdir}/predictions/{files[0]}").readlines()) == 12
  assert results["caption"].num_examples == 12
  assert results["nll"].scores["nll"] > 0
  (events,) = os.listdir(f"{workdir}/tensorboard")
  shown = open(f"{workdir}/tensorboard/{events}", "rb").read()
  assert b"caption/predictions/" in shown


def test_a_line_of_training_tells_what_the_page_says(whole):
  page = (tiny.ROOT / "docs" / "metrics.md").read_text()
  table = page.split("## What a run tells")[1].split("\n\n`time/`")[0]
  named = set(
    re.findall(r"`((?:train|speed|time|memory)/\w+(?:/\w+)?)`", table)
  )
  line = next(x for x in lines(whole[0]) if "train/loss" in x)
  told = {name for name in line if not name.startswith("data/")} - {"step"}
  # Of several rates, of chips that are known and of devices that tell; of a
  # policy that this run does not have.
  absent = {"speed/mfu", "memory/device", "memory/device_peak"}
  absent |= {"train/skipped", "train/skipped_in_row"}
  assert named - told == {"train/lr/img"} | absent
  assert told - named == {"train/grad_norm/llm", "train/grad_norm/projector"}
  assert {"data/caption/examples", "data/caption/epoch"} <= set(line)


def test_the_loss_falls():
  c = tiny.nano(total=30, evals={}, warmup=2)
  r = experiment.open(c)
  state = train.init_state(c, r)
  losses = run_steps(c, r, state, 30)
  assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def run_steps(c, r, state, num_steps):
  """Takes steps outside of `fit`; returns their losses."""
  step = train.compile_update(c, r)
  batches = stream.train_batches(r.data, r.form, c.seed, c.batch_size)
  batches = stream.on_devices(batches, r.mesh)
  losses = []
  for _ in range(num_steps):
    _, _, batch = next(batches)
    with jax.set_mesh(r.mesh):
      state, measured = step(state, batch)
    losses.append(float(measured["train/loss"]))
  return losses


def test_the_same_seed_gives_the_same_bytes(whole, tmp_path):
  train.fit(tiny.nano(), str(tmp_path))
  assert weights(tmp_path) == weights(whole[0])
  assert record(tmp_path) == record(whole[0])


@pytest.mark.slow
def test_another_seed_gives_another_run(whole, tmp_path):
  train.fit(tiny.nano(total=1, seed=1), str(tmp_path))
  assert record(tmp_path)[0] != record(whole[0])[0]


SCRIPT = """
import functools, jax, sys
sys.path.insert(0, {root!r})
from pg import sharding, train
from tests.support import tiny
one = jax.devices()[:1]
sharding.make_mesh = functools.partial(sharding.make_mesh, devices=one)
train.fit(tiny.nano(), {workdir!r})
"""


@pytest.mark.slow
def test_never_saving_still_saves_the_end(tmp_path):
  c = tiny.nano(total=3, save_every=0, evals={}, warmup=3)
  train.fit(c, str(tmp_path))
  assert folders.steps(tmp_path / "checkpoints") == [3]


def test_a_killed_run_continues_bit_for_bit(whole, tmp_path):
  code = SCRIPT.format(root=str(tiny.ROOT), workdir=str(tmp_path))
  child = subprocess.Popen([sys.executable, "-c", code])
  while child.poll() is None:
    if folders.steps(tmp_path / "checkpoints"):
      child.send_signal(signal.SIGKILL)
    time.sleep(0.01)
  assert child.wait() == -signal.SIGKILL
  assert 0 < int(checkpoint.find(tmp_path).name) < tiny.TOTAL
  train.fit(tiny.nano(), str(tmp_path))
  assert weights(tmp_path) == weights(whole[0])
  assert record(tmp_path) == record(whole[0])
  check_accounts(tmp_path)


def check_accounts(workdir):
  """Sees that what a run has cost only grows, whatever stopped it."""
  told = [line for line in lines(workdir) if "train/loss" in line]
  for name in ("total", "chip_hours", "data_wait", "checkpoint"):
    spent = [line[f"time/{name}"] for line in told]
    assert spent == sorted(spent) and spent[-1] > 0
  saved = checkpoint.find(workdir) / "meta"
  kept = json.loads((saved / "metadata").read_text())["spent"]
  assert kept["time/total"] >= told[-1]["time/total"]


def test_a_run_without_its_checkpoints_is_refused_and_keeps_its_record(
  whole, tmp_path
):
  workdir = shutil.copytree(whole[0], tmp_path / "run")
  shutil.rmtree(workdir / "checkpoints")
  with pytest.raises(ValueError, match="there is no checkpoint in"):
    train.fit(tiny.nano(), str(workdir))
  assert record(workdir) == record(whole[0])


def test_a_finished_run_is_scored_again_and_not_trained(whole):
  before = weights(whole[0]), record(whole[0])
  results = train.fit(tiny.nano(), whole[0])
  assert results["caption"].scores == whole[1]["caption"].scores
  assert (weights(whole[0]), record(whole[0])) == before


def test_changes_are_refused_or_said_and_written_down(whole, tmp_path, capsys):
  run = str(shutil.copytree(whole[0], tmp_path / "run"))
  c = tiny.nano(lr=2e-4, evals={})
  train.fit(c, run)
  with c.unlocked():
    c.data.caption.weight = 0.9
  with pytest.raises(ValueError, match=r"\n  data.caption.weight was .*0.9\n"):
    train.fit(c, run)
  train.fit(c, run, accept=True)
  lines = open(f"{run}/{history.FILE}").readlines()
  first, second = map(json.loads, lines[-2:])
  assert first["step"] == second["step"] == tiny.TOTAL
  lr = f"lr was {tiny.nano().lr}, is 0.0002"
  weight = f"data.caption.weight was {tiny.nano().data.caption.weight}, is 0.9"
  assert lr in first["changed"] and not first["accepted"]
  assert lr in second["changed"] and second["accepted"] == [weight]
  said = capsys.readouterr().err
  assert said.count(lr) == 2 and said.count(weight) == 1


def test_a_checkpoint_of_another_model_is_refused(whole):
  c = tiny.nano()
  with c.unlocked():
    c.model.variant = "nano2"
  with pytest.raises(ValueError, match="variant was 'nano', is 'nano2'"):
    train.fit(c, whole[0])
  other = "(?s)of another model, optimizer or choice of what is frozen; .*"
  with pytest.raises(ValueError, match=f"{other}missing .*post_ffw_norm"):
    train.fit(c, whole[0], accept=True)
  c = tiny.nano(schedule=(("img/.*", None), (".*", "cosine")))
  with pytest.raises(ValueError, match=f"{other}unexpected opt/"):
    train.fit(c, whole[0])


def test_init_starts_from_the_parameters_of_a_run(whole, tmp_path):
  c = tiny.nano(init=whole[0])
  r = experiment.open(c)
  state = train.init_state(c, r)
  flat = tree.flatten(jax.device_get(state["params"]))
  assert {k: v.tobytes() for k, v in flat.items()} == weights(whole[0])
  assert int(state["step"]) == 0


@pytest.mark.parametrize("what", ("loss", "update_norm"))
def test_what_is_not_finite_stops_the_run(what, tmp_path, monkeypatch):
  compiled = train.compile_update

  def poisoned(c, r):
    step = compiled(c, r)

    def update(state, batch):
      bad = int(state["step"]) == 3
      if bad and what == "loss":
        state["params"] = jax.tree.map(lambda p: p * np.nan, state["params"])
      state, measured = step(state, batch)
      if bad:
        measured[f"train/{what}"] *= np.nan
      return state, measured

    return update

  monkeypatch.setattr(train, "compile_update", poisoned)
  with pytest.raises(FloatingPointError, match="is nan at step 4"):
    train.fit(tiny.nano(save_every=1), str(tmp_path))
  assert checkpoint.find(tmp_path).name == "3"
  for name, leaf in tree.flatten(checkpoint.restore_params(tmp_path)).items():
    assert np.isfinite(leaf).all(), name
  assert record(tmp_path)[-1]["step"] == 4


def test_a_second_run_on_a_workdir_touches_nothing(tmp_path):
  partial = tmp_path / "checkpoints/4.orbax-checkpoint-tmp"
  partial.mkdir(parents=True)
  with lock.hold(tmp_path), pytest.raises(ValueError, match="is in use by an"):
    train.fit(tiny.nano(), str(tmp_path))
  assert partial.exists()
  assert set(os.listdir(tmp_path)) == {"checkpoints", lock.FILE}


def test_texts_that_are_cut_are_counted_and_said(tmp_path, capsys):
  c = tiny.nano(total=2, text_len=12, evals={})
  train.fit(c, str(tmp_path))
  said = capsys.readouterr().err
  assert "are longer than text_len 12 and lose their end" in said
  assert record(tmp_path)[1]["train/cut"] > 0


def test_the_blind_baseline_stands_beside_the_score(whole):
  scores = json.load(open(f"{whole[0]}/scores.json"))
  found = scores["caption"]["exact"]
  assert set(found) == {"value", "low", "high", "blind", "n"}
