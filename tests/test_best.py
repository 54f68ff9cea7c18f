"""What is scored and kept of a run: before and after, average, best."""

import json

import jax
import numpy as np
import pytest

from pg import evaluate, experiment, train, tree
from pg.learn import average
from pg.log import metrics
from pg.weights import checkpoint, folders, load, parameters, saver, tensors
from tests.support import numbers_run

pytestmark = pytest.mark.usefixtures("one_device")


def config(**changes):
  c = numbers_run.config(
    total=6, ema=0.9, best="nll/nll", score_init=True, **changes
  )
  with c.unlocked():
    c.save_every = 0
    c.evals.nll.every = 2
  return c


@pytest.fixture(scope="module")
def run(one_device, tmp_path_factory):
  """A run whose loss falls, so that the largest one is the first."""
  with pytest.MonkeyPatch.context() as patch:
    numbers_run.register(patch)
    workdir = tmp_path_factory.mktemp("run")
    yield workdir, train.fit(config(), str(workdir))


def test_scores_before_training_stand_beside_those_after(run, capsys):
  workdir, results = run
  assert list(results) == ["caption", "caption_ema", "nll", "nll_ema"]
  first = metrics.read(workdir / "metrics.jsonl")[0]
  assert first["step"] == 0 and first["nll/nll"] == first["nll_ema/nll"]
  found = json.loads((workdir / "scores.json").read_text())["nll"]["nll"]
  assert found["before"] == first["nll/nll"] > found["value"]
  # Again, without training.
  train.fit(config(), str(workdir))
  table = capsys.readouterr().out.splitlines()
  assert table[0].split()[:4] == ["evaluator", "metric", "before", "score"]
  (line,) = [x.split() for x in table if x.startswith("nll ") and " nll " in x]
  assert line[2:4] == [f"{found[k]:.3f}" for k in ("before", "value")]


def test_the_best_checkpoint_is_kept_beside_the_last(run):
  workdir, _ = run
  assert folders.steps(workdir / "checkpoints") == [2, 6]
  assert checkpoint.find(workdir).name == "6"
  assert checkpoint.find(f"{workdir}:best").name == "2"
  assert checkpoint.workdir_of(f"{workdir}:best") == str(workdir)


def test_averaged_parameters_are_those_of_the_state_and_are_evaluated(run):
  workdir, results = run
  c = config()
  r = experiment.open(c)
  abstract = train.abstract_state(c, r)
  with saver.Manager(workdir) as manager:
    want = average.of(manager.restore(6, abstract))
  name = f"{workdir}:ema"
  weights = load.open(name)
  read = parameters.read(name, r.cfg, abstract["params"], None)
  raw = checkpoint.restore_params(workdir)
  for name, leaf in tree.flatten(want).items():
    np.testing.assert_array_equal(tree.flatten(read)[name], leaf)
    np.testing.assert_array_equal(tensors.whole(weights.reader, name), leaf)
    assert name in tree.flatten(raw)
  assert not np.array_equal(jax.tree.leaves(raw)[0], jax.tree.leaves(want)[0])
  found = evaluate.evaluate(c, f"{workdir}:ema", str(workdir / "evaluated"))
  assert found["nll"].scores == results["nll_ema"].scores
  assert found["nll"].scores != results["nll"].scores


def test_what_a_run_does_not_have_is_an_error(run, tmp_path):
  with pytest.raises(ValueError, match="config.ema is 0"):
    checkpoint.parameters("a:ema", ("params/x",))
  with saver.Manager(tmp_path) as manager:
    manager.save(1, dict(params=np.zeros(2)), dict(run=dict(best="")))
  with pytest.raises(ValueError, match="no best checkpoint: its run kept none"):
    checkpoint.find(f"{tmp_path}:best")
  c = config()
  c.best = "capton/exact"
  with pytest.raises(ValueError, match='config.best "capton"; did you mean'):
    experiment.open(c)
