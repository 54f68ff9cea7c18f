"""The model learns to see: short training beats what text alone can tell."""

import math

import pytest

from pg import config, train
from tests import tiny

pytestmark = pytest.mark.usefixtures("one_device")


def test_a_minute_of_training_reads_digits_far_better_than_blind(tmp_path):
  c = config.load(str(tiny.ROOT / "configs/nano.py") + ":total=160")
  with c.unlocked():
    c.data = {k: c.data[k] for k in ("digits", "detect_one")}
    c.data.digits.weight = 3.0
    c.evals = {"digits": c.evals.digits}
  result = train.fit(c, str(tmp_path))["digits"]
  score, blind = result.scores["exact"], result.blind["exact"]
  error = math.sqrt(score * (1 - score) / result.num_examples)
  error += math.sqrt(blind * (1 - blind) / result.num_examples)
  assert result.num_examples >= 500
  assert score > blind + 3 * error
