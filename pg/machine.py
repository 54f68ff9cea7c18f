"""What this machine has: free memory, and instructions for bfloat16.

Read from Linux' own files; elsewhere nothing is known.
"""

import contextlib
import math
import re

# A container's limit, and what it holds beside files (a line of the second
# file), of version 2 and 1.
_LIMITS = (
  ("memory.max", "memory.stat", "anon"),
  ("memory/memory.limit_in_bytes", "memory/memory.stat", "rss"),
)
_CGROUP = "/sys/fs/cgroup"


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


def multiplies_bfloat16():
  """Returns whether the CPU has instructions that multiply bfloat16."""
  flags = _read("/proc/cpuinfo").split("\n\n")[0].split()
  return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _read(path):
  with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
    return file.read()
  return ""
