"""How often intervals hold the truth; all of it is in docs/metrics.md."""

import numpy as np
import pytest

from pg.evals.metrics import precision
from scripts.bench import coverage


def test_precision_of_all_draws_at_once_is_that_of_the_metric():
  curves = coverage.detections(np.random.default_rng(0), 30, 4)
  times = np.random.default_rng(1).integers(3, size=(5, 30))
  for curve in curves.values():
    found = coverage.averages(curve, times)
    want = [precision._precision(curve, row).mean(-1) for row in times]
    np.testing.assert_allclose(found[:, 0], want, atol=2e-3)
    want = [precision._recall(curve, row, 100) for row in times]
    np.testing.assert_allclose(found[:, 1], want, atol=1e-6)


def shares(monkeypatch, capsys, kind, images, sets):
  """Returns {score: share of the intervals that hold the truth}."""
  monkeypatch.setattr(coverage, "POPULATION", 60_000)
  made = coverage.FLAGS | dict(sets=sets, images=images, classes=kind)
  coverage.main(type("Args", (), made))
  lines = capsys.readouterr().out.splitlines()[1:]
  cells = [line.split(" | ") for line in lines]
  return {c[2]: float(c[4].rstrip("%")) / 100 for c in cells}


def test_boxes_that_are_alike_likely_have_intervals_below_their_score(
  monkeypatch, capsys
):
  """A bootstrap around the score holds the truth in 78 of 100 sets."""
  found = shares(monkeypatch, capsys, "4=", "80", 60)
  assert found["AP"] > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["4", "4=", "0"])
def test_an_interval_holds_the_truth_as_often_as_it_says(
  monkeypatch, capsys, kind
):
  found = shares(monkeypatch, capsys, kind, "80", 250)
  kept = [v for k, v in found.items() if "1 to 2 images" not in k]
  assert min(kept) > 0.89
  assert max(kept) < 0.995
