"""The model learns to see: short training beats what text alone can tell."""

import json
import math
import os
import subprocess
import sys

import pytest

from tests.support import tiny

pytestmark = pytest.mark.slow
SCRIPT = """
import sys
from pg import config, train

c = config.load("configs/nano.py:total=160")
with c.unlocked():
  c.data = {k: c.data[k] for k in ("digits", "detect_one")}
  c.data.digits.weight = 3.0
  c.evals = {"digits": c.evals.digits}
train.fit(c, sys.argv[1])
"""


def test_a_minute_of_training_reads_digits_far_better_than_blind(tmp_path):
  # Of its own, as other tests compile quickly what runs slowly.
  quick = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
  env = {k: v for k, v in os.environ.items() if k not in quick}
  words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
  env["PYTHONPATH"] = str(tiny.ROOT)
  subprocess.run(words, env=env, cwd=tiny.ROOT, check=True)
  scores = json.loads((tmp_path / "scores.json").read_text())
  found = scores["digits"]["exact"]
  n, error = found["n"], 0.0
  for share in (found["value"], found["blind"]):
    error += math.sqrt(share * (1 - share) / n)
  assert n >= 500
  assert found["value"] > found["blind"] + 3 * error
