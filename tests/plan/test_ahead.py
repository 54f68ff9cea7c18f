"""Programs compiled for TPUs that are not here; minutes, and with libtpu."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from pg import sharding
from pg.learn import parts
from pg.plan import hlo, target
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
  return python("-m", *words)


def python(*words):
  done = subprocess.run(
    [sys.executable, *words],
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
  # 232 MiB, gradients of narrow parts of the tower, are summed whole.
  assert moved["all-reduce"] < 2**28


def moved_by_a_matrix(name):
  """Returns {collective: bytes} of a step of one matrix on a Target."""
  devices = target.find(name).devices
  mesh = sharding.make_mesh(dict(fsdp=-1), devices)
  shape, rows = (2048, 2**14), PartitionSpec(sharding.BATCH)
  spec = sharding.fsdp_spec("w", shape, mesh)
  specs = dict(w=spec)

  def each(params, x):
    def loss(params):
      w = parts.wrap(params, specs, "bfloat16", "float32")["w"].unbox()
      return jnp.sum(jnp.tanh(x @ w).astype(jnp.float32))

    return jax.value_and_grad(loss)(params)

  step = jax.jit(parts.on_each_device(each, specs, dict(w=False)))
  abstract = lambda shape, dtype, spec: jax.ShapeDtypeStruct(
    shape, dtype, sharding=NamedSharding(mesh, spec)
  )
  params = dict(w=abstract(shape, jnp.float32, spec))
  x = abstract((512 * len(devices), shape[0]), jnp.bfloat16, rows)
  with jax.set_mesh(mesh):
    text = step.lower(params, x).compile().as_text()
  found = hlo.collectives(hlo.parse(text))
  return {kind: size for kind, (_, size) in found.items()}


def test_a_gradient_is_scattered_on_every_topology():
  names = "v4:4x4x4", "v5e:4x4", "v5e:8x8", "v5p:4x4x4", "v6e:8x8"
  code = (
    "import json; from tests.plan import test_ahead as t;"
    f" print(json.dumps({{x: t.moved_by_a_matrix(x) for x in {names}}}))"
  )
  whole = 4 * 2**25  # bytes
  for name, moved in json.loads(python("-c", code)).items():
    # Along the first of two axes all of it, along the second a part.
    assert whole <= moved["reduce-scatter"] < 1.3 * whole, (name, moved)
    assert whole / 2 <= moved["all-gather"] < 0.7 * whole, (name, moved)
    assert moved.get("all-reduce", 0) < 1024, (name, moved)  # of the loss


def test_what_is_too_large_is_an_answer():
  words = "pg.fit", "--on", "v5e", "--json", "--config"
  found = json.loads(run(*words, "transfers/vqav2.py"))
  assert not found["fits"] and "alone take" in found["failed"]
  config = "transfers/lora.py", "--config.batch_size=512"
  found = json.loads(run(*words, *config))
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
