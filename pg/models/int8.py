"""Products with int8 weights on a CPU: a kernel, int8.cc, built on first use.

XLA widens int8 weights before it multiplies, a whole matrix for each token. The
kernel reads them as they are, and rounds activations to int8: in blocks of 128
numbers, by the largest magnitude of a block, so by half a step or less, where a
step is 1/127 of that. It needs an x86 CPU with AVX2 or better, Linux, and g++
or what $CXX names, which takes some seconds, once. Elsewhere, on more than one
device, where gradients are taken, and with PG_INT8_KERNEL=0 in the environment,
products are XLA's, of activations as they are.
"""

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import jax
import jax.numpy as jnp

SOURCE = pathlib.Path(__file__).with_name("int8.cc")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-w")
_NAME = "pg_int8_product"


def find(equation, w):
  """Returns the kernel's product, or None where it is not for this one.

  Args:
    equation: str, as of `layers.dense`.
    w: int8 [...], weights.

  Returns:
    Function of x [rows, inputs], w and the outputs' scales f32[...] to
    f32[rows, outputs].
  """
  left, kernel, out = equation.replace("->", ",").replace("...", "").split(",")
  inner = "".join(x for x in kernel if x not in out)
  in_first = kernel.startswith(inner)
  if (
    w.dtype != jnp.int8
    or left != inner
    or not (in_first or kernel.endswith(inner))
  ):
    return None
  mesh = jax.sharding.get_abstract_mesh()
  wanted = os.environ.get("PG_INT8_KERNEL") != "0"
  if mesh.size > 1 or not wanted or not load():
    return None

  def product(x, w, scale):
    inputs = x.shape[1]
    shape = (inputs, -1) if in_first else (-1, inputs)
    x = x.astype(jnp.float32)
    return _product(in_first, x, w.reshape(shape), scale.reshape(-1))

  return product


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(in_first, x, w, scale):
  result = jax.ShapeDtypeStruct((len(x), len(scale)), jnp.float32)
  return jax.ffi.ffi_call(_NAME, result)(x, w, scale, in_first=in_first)


def _forward(in_first, x, w, scale):
  w32 = w.astype(jnp.float32)
  return x @ (w32 if in_first else w32.T) * scale[None], (w, scale)


def _backward(in_first, kept, g):
  w, scale = kept
  w32 = w.astype(jnp.float32)
  return (g * scale[None]) @ (w32.T if in_first else w32), None, None


_product.defvjp(_forward, _backward)


@functools.cache
def load():
  """Says whether the kernel is there; builds it where it is not."""
  path = _built()
  if path is None:
    return False
  try:
    function = getattr(ctypes.CDLL(str(path)), _NAME)
  except (OSError, AttributeError):  # such as of another C++ library
    return False
  jax.ffi.register_ffi_target(_NAME, jax.ffi.pycapsule(function), "cpu")
  return True


def _built():
  """Returns the library's path, or None where it can't be built."""
  features = _features()
  compiler = shutil.which(os.environ.get("CXX") or "g++")
  if "avx2" not in features or "fma" not in features or not compiler:
    return None
  headers = jax.ffi.include_dir()
  command = [compiler, *FLAGS, "-march=native", f"-I{headers}", str(SOURCE)]
  key = [*command, jax.lib.__version__, SOURCE.read_text(), *sorted(features)]
  name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:16]
  folder = os.environ.get("PG_CACHE") or "~/.cache/pg"
  if "://" in folder:  # a library is a file
    return None
  path = pathlib.Path(folder).expanduser() / f"int8-{name}.so"
  if path.exists():
    return path
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
      made = pathlib.Path(scratch) / path.name
      subprocess.run([*command, "-o", made], check=True, capture_output=True)
      made.replace(path)
  except (OSError, subprocess.CalledProcessError):
    return None
  return path


def _features():
  """Returns what the CPU can, such as {"avx2", "fma"}; or nothing."""
  if platform.system() != "Linux" or platform.machine() != "x86_64":
    return set()
  for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
    if line.startswith("flags"):
      return set(line.partition(":")[2].split())
  return set()
