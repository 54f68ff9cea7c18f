"""Programs compiled for TPUs that are not here; minutes, and with libtpu."""

import json
import os
import re
import subprocess
import sys

import pytest

from pg.plan import target
from tests.support import paths

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    target._libtpu() is None, reason="needs libtpu, see requirements-fit.txt"
  ),
]
# Bytes that a step takes on each chip: PaliGemma 3B, 224 px, 8 examples each,
# on a v5e:16x16. Lower it where less is enough.
PEAK = 1.33 * 2**30


def run(*words):
  """Runs a verb as users do; returns what it printed."""
  done = subprocess.run(
    [sys.executable, "-m", *words],
    cwd=paths.ROOT,
    env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  # libtpu looks for a TPU and says at length that there is none.
  assert len(done.stderr.splitlines()) <= 1, done.stderr
  return done.stdout


def test_the_peak_of_a_pod_does_not_grow():
  out = run(
    *("pg.fit", "--config", "transfers/vqav2.py", "--on", "v5e:16x16"),
    *("--config.batch_size=2048", "--json"),
  )
  found = json.loads(out)
  assert found["fits"] and found["chips"] == 256
  assert found["peak"] < 1.02 * PEAK
  # Of each parameter at most twice two bytes and once four: it comes for each
  # pass in bfloat16, its gradient goes in float32 (the embedding's neither).
  moved = {kind: size for kind, (_, size) in found["collectives"].items()}
  assert sum(moved.values()) < 8 * found["num_parameters"]
  # 232 MiB, most of them gradients of the tower, are summed whole.
  assert moved["all-reduce"] < 2**28


def test_what_is_too_large_is_an_answer():
  out = run(
    *("pg.fit", "--config", "transfers/vqav2.py", "--on", "v5e"),
    *("--config.batch_size=8", "--json"),
  )
  found = json.loads(out)
  assert not found["fits"] and "hbm" in found["failed"].lower()


def test_a_token_reads_weights_keys_and_values_once():
  out = run("scripts.bench", "decode")
  share = re.search(r"a token reads ([\d.]+) x weights", out)[1]
  assert 0.95 < float(share) < 1.15
  assert "copied in the loop: nothing" in out


def test_other_verbs_do_not_look_for_a_tpu():
  code = (
    "import importlib.util, jax, os, pg.train; jax.devices();"
    " assert importlib.util.find_spec('libtpu') is None, 'libtpu in .venv';"
    " print(os.environ.get('TPU_LIBRARY_PATH'))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")
