"""What a machine has is read from the files in which Linux says so."""

import ctypes
import importlib.metadata
import importlib.util
import math
import os
import subprocess
import sys
import types

import pytest

from pg import machine

MEMINFO = "MemTotal: 200 kB\nMemAvailable:    100 kB\n"
V1 = "memory/memory.limit_in_bytes", "memory/memory.stat"


@pytest.mark.parametrize(
  "meminfo, limits, want",
  [
    ("", {}, math.inf),
    (MEMINFO, {}, 102_400),
    # What is cached of files gives way.
    (
      MEMINFO,
      {"memory.max": "9000\n", "memory.stat": "anon 50\nfile 8\n"},
      8950,
    ),
    (MEMINFO, {"memory.max": "max\n", "memory.stat": "anon 50\n"}, 102_400),
    (MEMINFO, {"memory.max": "9", "memory.stat": "anon 50\n"}, 0),
    ("", {V1[0]: "9000\n", V1[1]: "cache 3\nrss 1000\n"}, 8000),
  ],
)
def test_memory_is_what_machine_and_container_have(
  monkeypatch, meminfo, limits, want
):
  files = {f"/sys/fs/cgroup/{k}": v for k, v in limits.items()}
  files["/proc/meminfo"] = meminfo
  monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
  assert machine.available_memory() == want


@pytest.mark.parametrize(
  "cpuinfo, want",
  [
    ("", False),
    ("flags\t: fpu avx512f\nbogomips\t: 1", False),
    ("flags\t: fpu avx512_bf16 sse\nbogomips\t: 1", True),
    ("Features\t: fp asimd bf16\n\nprocessor\t: 1", True),
  ],
)
def test_a_cpu_that_multiplies_bfloat16_says_so(monkeypatch, cpuinfo, want):
  monkeypatch.setattr(machine, "_read", lambda path: cpuinfo)
  assert machine.multiplies_bfloat16() == want


def test_a_file_that_is_not_there_is_empty():
  assert machine._read("/proc/nothing") == ""


@pytest.mark.parametrize("platform", ("cpu", "gpu", "tpu"))
def test_memory_is_kept_where_jax_computes_on_the_cpu(monkeypatch, platform):
  said = []
  libc = types.SimpleNamespace(mallopt=lambda *x: said.append(x))
  plugins = ["xla_cuda12"] * (platform == "gpu")
  monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
  monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: plugins)
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: platform == "tpu" or None
  )
  machine.keep_memory()
  assert said == [(-4, 0), (-1, -1), (-8, 1)] * (platform == "cpu")
  del libc.mallopt  # another C library
  machine.keep_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_memory_that_is_kept_is_not_cleared_again():
  code = """
import resource, threading
import numpy as np
from pg import machine
if {keep}:
  machine.keep_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work = lambda: np.ones(2**27, np.uint8)
def twice():
  work()
  before = faults()
  work()
  print(faults() - before)
thread = threading.Thread(target=twice)
thread.start()
thread.join()
"""
  env = os.environ | dict(NUMPY_MADVISE_HUGEPAGE="0", GLIBC_TUNABLES="")
  found = []
  for keep in True, False:
    command = [sys.executable, "-c", code.format(keep=keep)]
    found.append(int(subprocess.check_output(command, env=env)))
  assert found[0] < 1000 < found[1]
