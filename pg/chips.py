"""TPUs and GPUs by name: what one has and can do, each from a public source.

Peaks are of dense bfloat16 products; of a T4, which multiplies none, of float32
ones, by which it computes them.
"""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """One chip."""

  kind: str  # the first words of JAX's device_kind
  platform: str  # "tpu" or "gpu"
  memory: float  # bytes that a program can have; see below
  flops: float  # operations per second
  bandwidth: float  # bytes per second from memory
  link: float  # bytes per second to other chips, one direction
  source: str


_TPU = "https://cloud.google.com/tpu/docs/"
_NVIDIA = "https://www.nvidia.com/en-us/data-center/"
# Of a TPU's memory the compiler keeps a part: 0.25 GiB of 16 on a v5e, 1.25 of
# 32 on a v4, 0.76 of 32 on a v6e (libtpu 0.0.52 says so). A GPU's is what the
# driver shows.
CHIPS = {
  "v4": Chip("TPU v4", "tpu", 30.75 * GIB, 275e12, 1.2e12, 300e9, f"{_TPU}v4"),
  "v5e": Chip(
    "TPU v5 lite", "tpu", 15.75 * GIB, 197e12, 819e9, 200e9, f"{_TPU}v5e"
  ),
  "v5p": Chip(
    "TPU v5", "tpu", 95.73 * GIB, 459e12, 2.765e12, 600e9, f"{_TPU}v5p"
  ),
  "v6e": Chip(
    "TPU v6 lite", "tpu", 31.24 * GIB, 918e12, 1.638e12, 400e9, f"{_TPU}v6e"
  ),
  "h200": Chip(
    "NVIDIA H200", "gpu", 151397597184, 989e12, 4.8e12, 450e9, f"{_NVIDIA}h200/"
  ),
  "h100": Chip(
    "NVIDIA H100", "gpu", 84942979072, 989e12, 3.35e12, 450e9, f"{_NVIDIA}h100/"
  ),
  "a100": Chip(
    "NVIDIA A100-SXM4-80GB",
    "gpu",
    85100068864,
    312e12,
    2.039e12,
    300e9,
    f"{_NVIDIA}a100/",
  ),
  "l4": Chip(
    "NVIDIA L4", "gpu", 23034 * 2**20, 121e12, 300e9, 32e9, f"{_NVIDIA}l4/"
  ),
  "t4": Chip(
    "Tesla T4", "gpu", 15360 * 2**20, 8.1e12, 320e9, 16e9, f"{_NVIDIA}tesla-t4/"
  ),
}


def of_kind(kind):
  """Returns the Chip of a device_kind of JAX, None for one not in the table."""
  alike = [c for c in CHIPS.values() if f"{kind} ".startswith(f"{c.kind} ")]
  return max(alike, key=lambda c: len(c.kind), default=None)
