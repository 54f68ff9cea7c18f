"""What a plan is made for: chips of a TPU or GPUs, without having them.

v5e:16x16     a TPU v5e of 256 chips; v4, v5p and v6e likewise ("v5p:4x4x4")
2xv5e:16x16   two of them, slices of a job, with a network between
h200:8        eight GPUs of one machine; h100, a100, l4 and t4 likewise
here          this machine
"""

import importlib.util
import math
import os
import re
import sys
from typing import NamedTuple

import jax
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.experimental import topologies

from pg import chips, config

HERE = "here"
# Of a GPU's memory JAX takes this share, unless told otherwise.
GPU_SHARE = float(os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION") or 0.75)
INSTALL_TPU = (
  "plans for a TPU need libtpu, in a folder of its own: python -m pip install"
  " --no-deps --target {}/fit -r requirements-fit.txt"
)
INSTALL_GPU = (
  "plans for a GPU need JAX's for CUDA (3 GB, no GPU): python -m pip install"
  ' "jax[cuda12]" in an environment of its own; then start pg.fit with its'
  " python"
)
# Of a compute capability, as in the CUDA C++ Programming Guide, table
# "Technical Specifications per Compute Capability": threads, bytes of shared
# memory, and of that for one block, of each core; float32 units.
_CORES = {
  (7, 5): (1024, 65536, 65536, 64),
  (8, 0): (2048, 167936, 166912, 64),
  (8, 9): (1536, 102400, 101376, 128),
  (9, 0): (2048, 233472, 232448, 128),
}
_XLA = "xla/backends/gpu/target_config/specs/{}.txtpb of openxla/xla"
_SHEET = "NVIDIA's data sheet, which no compiler was tried with on the card"
# Capability, cores, clock in GHz, bytes of L2, and where that is from.
_GPUS = {
  "h200": ((9, 0), 132, 1.98, 52428800, _XLA.format("h200")),
  "h100": ((9, 0), 132, 1.98, 52428800, _XLA.format("h100_sxm")),
  "a100": ((8, 0), 108, 1.41, 41943040, _XLA.format("a100_sxm_80")),
  "l4": ((8, 9), 58, 2.04, 50331648, _SHEET),
  "t4": ((7, 5), 40, 1.59, 4194304, _SHEET),
}


class Target(NamedTuple):
  """What a program is compiled for."""

  name: str
  devices: list
  chip: chips.Chip | None  # None: one that the table does not have
  options: dict  # of the compiler
  source: str = ""  # of the description that the compiler gets

  @property
  def platform(self):
    """As devices say it: "tpu", "gpu" or "cpu"."""
    return self.devices[0].platform


def find(name):
  """Returns the Target of a name; see above.

  Raises:
    ValueError: no such chip or size, or its compiler is not installed.
  """
  if name in (HERE, "this machine"):
    devices = jax.devices()
    return Target(HERE, devices, chips.of_kind(devices[0].device_kind), {})
  number, kind, size = re.fullmatch(
    r"(?:([1-9]\d*)x)?([^:]*):?(.*)", name
  ).groups()
  chip = config.lookup(chips.CHIPS, kind, "chip")
  # No device of this machine is asked, and none is taken from who uses it.
  jax.config.update("jax_platforms", "cpu")
  # A program for other chips would be kept and never found again.
  jax.config.update("jax_enable_compilation_cache", False)
  if chip.platform == "gpu":
    if number:
      raise ValueError(f"{name}: only TPUs come in slices; wanted {kind}:8")
    size = size or "1"
    devices, source = _gpus(kind, chip, size), _GPUS[kind][-1]
    return Target(f"{kind}:{size}", devices, chip, _GPU_OPTIONS, source)
  example = "16x16" if kind in ("v5e", "v6e") else "4x4x4"
  size = size or re.sub(r"\d+", "1", example)
  devices = _tpus(kind, size, example, int(number or 1))
  slices = f"{number}x" if number else ""
  return Target(f"{slices}{kind}:{size}", devices, chip, {})


def _tpus(kind, size, example, num_slices):
  num = 1 + example.count("x")
  if not re.fullmatch("x".join([r"\d+"] * num), size):
    raise ValueError(
      f"{kind}:{size}: wanted a topology such as {kind}:{example}"
    )
  library = _libtpu()
  if library is None:
    raise ValueError(INSTALL_TPU.format(os.path.relpath(sys.prefix)))
  os.environ.update(
    TPU_LIBRARY_PATH=library,
    TPU_SKIP_MDS_QUERY="1",  # no cloud is asked what this machine is
    TPU_WORKER_HOSTNAMES="localhost",
    TPU_ACCELERATOR_TYPE="v5litepod-1",
    TPU_MIN_LOG_LEVEL="3",
    ALLOW_MULTIPLE_LIBTPU_LOAD="1",
  )
  more = dict(num_slices=num_slices) if num_slices != 1 else {}
  if kind == "v4":
    more["chip_config_name"] = "megacore"
  if math.prod(map(int, size.split("x"))) == 1:
    more["chips_per_host_bounds"] = (1,) * 3
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=f"{kind}:{size}", **more
    )
  except Exception as error:  # libtpu raises what it likes
    raise ValueError(
      f"{kind}:{size}: libtpu knows no such topology; one is {kind}:{example}"
    ) from error
  return list(found.devices)


def _libtpu():
  """Returns the path of libtpu.so, None where there is none."""
  given = os.environ.get("TPU_LIBRARY_PATH")
  beside = os.path.join(sys.prefix, "fit", "libtpu", "libtpu.so")
  if given or os.path.isfile(beside):
    return given or beside
  spec = importlib.util.find_spec("libtpu")
  return spec and os.path.join(os.path.dirname(spec.origin), "libtpu.so")


# Without the device nothing can be tried out on it.
_GPU_OPTIONS = {
  "xla_gpu_enable_triton_gemm": False,
  "xla_gpu_autotune_level": 0,
}


def _gpus(kind, chip, size):
  if not size.isdigit() or not int(size):
    raise ValueError(f"{kind}:{size}: wanted a number of GPUs such as {kind}:8")
  os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
  # Of what does not fit XLA says a lot, at every attempt.
  os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
  # JAX asks GPUs of this process, of which there are none, what they can do,
  # and nothing public tells it.
  able = _GPUS[kind][0]
  cudnn.check_compute_capability = lambda least: (
    able >= tuple(map(int, least.split(".")))
  )
  try:
    found = topologies.get_topology_desc(
      platform="cuda",
      target_config=_describe(kind, chip),
      topology=f"1x{size}x1",
    )
  except Exception as error:
    raise ValueError(INSTALL_GPU) from error
  return list(found.devices)


def _describe(kind, chip):
  """Returns a GPU as a text of XLA's GpuTargetConfigProto."""
  (major, minor), cores, clock, cache, _ = _GPUS[kind]
  threads, shared, block, units = _CORES[major, minor]
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {block}
  threads_per_core_limit: {threads}
  core_count: {cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  memory_bandwidth: {int(chip.bandwidth)}
  device_memory_size: {int(chip.memory)}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "{chip.kind}"
"""
