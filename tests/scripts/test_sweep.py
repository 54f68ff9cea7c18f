"""A sweep runs what is not complete, and tells which values are best."""

import json
import os
import subprocess
import sys

import pytest

from scripts import sweep
from tests.support.tiny import ROOT

NANO = str(ROOT / "configs/nano.py:total=2")
TRIES = ["lr=1e-3,1e-4", "wd=0,1e-6"]


class Trainer:
  """Stands for pg.train: the score is a function of the changes."""

  def __init__(self, broken=()):
    self.broken, self.started = broken, []

  def __call__(self, file, changes, workdir):
    run = os.path.basename(os.path.dirname(workdir)), changes["seed"]
    self.started.append(run)
    if run in self.broken:
      return "the loss is not finite"
    acc = 0.5 + 0.1 * (changes["lr"] == "1e-4") + 0.01 * int(changes["seed"])
    made = dict(val=dict(acc=dict(value=acc, n=9)))
    made["nll"] = dict(nll=dict(value=1 - acc, n=9))
    os.makedirs(workdir)
    with open(os.path.join(workdir, "scores.json"), "w") as f:
      json.dump(made, f)
    return ""


def run(tmp_path, trainer, tries=("lr=1e-3,1e-4",), seeds=3):
  return sweep.sweep(NANO, tries, seeds, str(tmp_path), trainer)


def test_every_combination_is_trained_with_every_seed(tmp_path):
  trainer = Trainer()
  run(tmp_path, trainer, TRIES, 2)
  groups = [
    f"lr={lr},wd={wd}" for lr in ("1e-3", "1e-4") for wd in ("0", "1e-6")
  ]
  assert trainer.started == [(g, seed) for g in groups for seed in "01"]


def test_means_deviations_and_the_best_are_those_over_seeds(tmp_path):
  found, _ = run(tmp_path, Trainer())
  table = sweep.summary(found)
  best, other = table["val/acc"]["lr=1e-4"], table["val/acc"]["lr=1e-3"]
  assert best == dict(
    mean=pytest.approx(0.61), sd=pytest.approx(0.01), n=3, best=True
  )
  assert (other["mean"], other["best"]) == (pytest.approx(0.51), False)
  assert table["nll/nll"]["lr=1e-4"]["best"]  # less is better
  shown = sweep.text(table).splitlines()
  assert shown[:3] == [
    "val/acc",
    "  lr=1e-3  0.5100 ± 0.0100 (3)",
    "  lr=1e-4  0.6100 ± 0.0100 (3) *",
  ]


def test_one_seed_has_no_deviation(tmp_path):
  found, _ = run(tmp_path, Trainer(), seeds=1)
  table = sweep.summary(found)
  assert table["val/acc"]["lr=1e-3"]["sd"] is None
  assert "lr=1e-3  0.5000 (1)" in sweep.text(table)


def test_a_failing_run_is_named_and_the_others_go_on(tmp_path):
  trainer = Trainer(broken=[("lr=1e-3", "1")])
  found, failed = run(tmp_path, trainer)
  assert failed == {"lr=1e-3/seed1": "the loss is not finite"}
  assert (len(trainer.started), len(found["lr=1e-3"]["val/acc"])) == (6, 2)


def test_a_second_start_runs_only_what_is_not_complete(tmp_path):
  first, _ = run(tmp_path, Trainer(broken=[("lr=1e-4", "2")]))
  trainer = Trainer()
  found, failed = run(tmp_path, trainer)
  assert trainer.started == [("lr=1e-4", "2")]
  assert (len(found["lr=1e-4"]["val/acc"]), failed) == (3, {})
  assert found["lr=1e-3"] == first["lr=1e-3"]


def test_an_unknown_key_is_named_before_any_run(tmp_path):
  trainer = Trainer()
  with pytest.raises(ValueError, match='key "lrr"; did you mean "lr"'):
    run(tmp_path, trainer, ["lrr=1"])
  with pytest.raises(ValueError, match="lr=fast: wanted float"):
    run(tmp_path, trainer, ["lr=1e-3,fast"])
  assert not trainer.started


@pytest.mark.parametrize("tries", (["lr"], ["lr="], ["lr=1", "lr=2"]))
def test_a_key_without_values_or_twice_is_explained(tries):
  with pytest.raises(ValueError, match="write each key once"):
    sweep.combinations(tries)


def test_a_run_that_cannot_start_is_named_with_its_last_line(tmp_path):
  command = [sys.executable, "-m", "scripts.sweep", "--config", NANO]
  command += ["--workdir", str(tmp_path), "--try", "batch_size=7"]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 1
  assert "1 runs failed: batch_size=7/seed0" in done.stderr
  failed = json.loads((tmp_path / "sweep.json").read_text())["failed"]
  assert "batch_size" in failed["batch_size=7/seed0"]
  assert (tmp_path / "batch_size=7/seed0/train.log").exists()
