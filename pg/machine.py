"""What this machine has: free memory, and instructions for bfloat16.

Read from Linux' own files; elsewhere nothing is known.
"""

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import math
import re

# A container's limit, and what it holds beside files (a line of the second
# file), of version 2 and 1.
_LIMITS = (
  ("memory.max", "memory.stat", "anon"),
  ("memory/memory.limit_in_bytes", "memory/memory.stat", "rss"),
)
_CGROUP = "/sys/fs/cgroup"
# Options of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def available_memory():
  """Returns bytes that can be had, of the machine or its container.

  inf where this is not known.
  """
  found = [_number(r"MemAvailable: *(\d+) kB", "/proc/meminfo") * 1024]
  for limit, use, key in _LIMITS:
    most = _number(r"(\d+)", f"{_CGROUP}/{limit}")
    if most < math.inf:
      held = _number(rf"{key} (\d+)", f"{_CGROUP}/{use}")
      found.append(max(0, most - held))
  return min(found)


def _number(pattern, path):
  """Returns the number at the start of a line of a file, inf where none is."""
  match = re.search(f"^{pattern}$", _read(path), re.MULTILINE)
  return int(match[1]) if match else math.inf


def keep_memory():
  """Has the C library keep what is freed, where JAX computes on the CPU.

  XLA frees what a step needs at its end; the system then clears it page by page
  for the next step. For a large model that is a quarter of a step's time; for a
  small one keeping costs more than it saves. To be called before JAX starts its
  threads; without glibc it does nothing.
  """
  has_gpu = importlib.metadata.entry_points(group="jax_plugins")
  if has_gpu or importlib.util.find_spec("libtpu"):
    return
  libc = ctypes.CDLL(None)
  if hasattr(libc, "mallopt"):
    # Nothing is mapped by itself, nothing given back, all threads share it.
    for option, value in (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1):
      libc.mallopt(option, value)


def multiplies_bfloat16():
  """Returns whether the CPU has instructions that multiply bfloat16."""
  flags = _read("/proc/cpuinfo").split("\n\n")[0].split()
  return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _read(path):
  with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
    return file.read()
  return ""
