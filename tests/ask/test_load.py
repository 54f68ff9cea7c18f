"""Models are loaded onto devices that hold them, and only when asked for."""

import subprocess
import sys
from unittest import mock

import jax
import pytest

import pg
from pg import sharding
from pg.ask import load
from pg.weights import tensors
from tests.support import paths


def test_weights_too_large_for_a_device_are_spread_over_all(monkeypatch):
  device = mock.Mock(memory_stats=lambda: {"bytes_limit": 8 << 30})
  monkeypatch.setattr(jax, "local_devices", lambda: [device] * 4)
  made = lambda sizes, devices: (sizes, len(devices))
  monkeypatch.setattr(sharding, "make_mesh", made)
  small, large = 6 << 30, 19 << 30  # bytes of a 3B and a 10B in bfloat16
  assert load._mesh(None, small) is None
  assert load._mesh(None, large) == ({"tensor": -1}, 4)
  assert load._mesh({"tensor": 2}, small) == ({"tensor": 2}, 2)
  device.memory_stats = lambda: None  # a CPU's
  assert load._mesh(None, large) is None


def test_on_a_cpu_weights_are_kept_in_what_is_fastest_and_fits(
  monkeypatch, capsys
):
  free, fast = 20 << 30, True
  monkeypatch.setattr(load.machine, "available_memory", lambda: free)
  monkeypatch.setattr(load.machine, "multiplies_bfloat16", lambda: fast)
  bf16, f32 = tensors.DTYPES["bfloat16"], tensors.DTYPES["float32"]
  size = 3 << 30
  assert load._dtype(None, bf16, size) == "bfloat16"
  assert load._dtype(None, f32, size) == "float32"
  assert load._dtype("float32", bf16, size) == "float32"
  fast = False
  assert load._dtype(None, bf16, size) == "float32"
  assert load._dtype("bf16", f32, size) == "bfloat16"
  assert not capsys.readouterr().err
  free = 14 << 30  # of which a fifth is for activations
  assert load._dtype(None, f32, size) == "bfloat16"
  said = "wants 15.0 GiB of memory and 14.0 GiB are free: it is kept in bfl"
  assert said in capsys.readouterr().err
  assert load._dtype("float32", f32, size) == "float32"


def test_importing_pg_loads_nothing_heavy():
  code = (
    "import sys, pg; assert not {'jax', 'numpy', 'PIL'} & set(sys.modules);"
    " pg.load; assert 'jax' in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True)
  with pytest.raises(AttributeError, match="no attribute 'lode'"):
    getattr(pg, "lode")  # noqa: B009
