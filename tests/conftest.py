"""Tests run on eight fake CPU devices."""

import functools
import os
import pathlib

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "host_platform_device_count" not in flags:
  os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"

# What is compiled once is compiled once: for all tests and their subprocesses.
cache = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture(scope="module")
def one_device():
  """Lets runs see one device: a program for eight takes longer to compile."""
  import jax

  from pg import sharding

  with pytest.MonkeyPatch.context() as patch:
    one = functools.partial(sharding.make_mesh, devices=jax.devices()[:1])
    patch.setattr(sharding, "make_mesh", one)
    yield
