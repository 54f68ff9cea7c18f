"""The device mesh, and rules from parameter names to shardings.

A config names three sizes. `replica` and `fsdp` split the batch; `fsdp` also
splits parameters and optimizer state, which are gathered layer by layer where
they are needed; `tensor` splits heads and mlp. Inside the mesh `fsdp` is two
axes whose sizes multiply to it, so that a tensor without a dimension that all
its devices divide (1152 over 256 of them) can be split along two dimensions.

Rules are pairs of a regex over flat names and a strategy, first match wins:

  "fsdp"       the largest dimension that divides, else two dimensions, else a
               full copy
  "replicate"  a full copy everywhere
  a tuple      a PartitionSpec, such as (None, "tensor", FSDP)
"""

import itertools
import math
import re

import jax
from jax.experimental import mesh_utils
from jax.sharding import NamedSharding, PartitionSpec

from pg import config, tree

SIZES = ("replica", "fsdp", "tensor")
FSDP = ("fsdp_x", "fsdp_y")
AXES = ("replica", *FSDP, "tensor")
BATCH = ("replica", *FSDP)
SMALL = 2**20  # elements: smaller arrays are replicated (4 MiB in float32)


def make_mesh(sizes, devices=None):
  """Builds the mesh of all devices.

  Args:
    sizes: dict from `replica`, `fsdp`, `tensor` to a size, 1 where absent; at
      most one is -1: "all that is left".
    devices: list of devices, by default all.

  Raises:
    ValueError: an unknown name, or sizes that do not multiply to the number
      of devices.
  """
  devices = jax.devices() if devices is None else devices
  for name in sizes:
    if name not in SIZES:
      raise ValueError(config.unknown(name, SIZES, "mesh axis"))
  shape = {name: sizes.get(name, 1) for name in SIZES}
  known = math.prod(n for n in shape.values() if n != -1)
  for name in shape:
    if shape[name] == -1:
      shape[name] = len(devices) // max(1, known)
  if min(shape.values()) < 1 or math.prod(shape.values()) != len(devices):
    raise ValueError(
      f"mesh {shape} wants {math.prod(shape.values())} devices; there are"
      f" {len(devices)}; set one size to -1 to use what is left"
    )
  x = max(
    d for d in range(1, math.isqrt(shape["fsdp"]) + 1) if shape["fsdp"] % d == 0
  )
  dims = (shape["replica"], x, shape["fsdp"] // x, shape["tensor"])
  grid = mesh_utils.create_device_mesh(
    dims, devices, allow_split_physical_axes=True
  )
  return jax.sharding.Mesh(grid, AXES)


def check_batch(batch_size, mesh, num_parts=1):
  """Raises ValueError when the mesh does not divide (each part of) a batch."""
  n = math.prod(mesh.shape[a] for a in BATCH) * num_parts
  if batch_size % n:
    near = max(n, round(batch_size / n) * n)
    what = f"{n // num_parts} devices that share a batch"
    what += f", each with {num_parts} microbatches" if num_parts > 1 else ""
    raise ValueError(
      f"batch_size {batch_size} is not divisible by the {what}; try {near}"
    )


def fsdp_spec(shape, mesh):
  """Chooses the PartitionSpec of one array under the `fsdp` strategy."""
  x, y = (mesh.shape[a] for a in FSDP)
  dims = sorted(range(len(shape)), key=lambda d: -shape[d])
  place = {}
  if math.prod(shape) >= SMALL:
    place = next(
      ({d: FSDP} for d in dims if shape[d] % (x * y) == 0),
      next(
        (
          {d: "fsdp_y", e: "fsdp_x"}
          for d, e in itertools.permutations(dims, 2)
          if shape[d] % y == 0 and shape[e] % x == 0
        ),
        {},
      ),
    )
  return PartitionSpec(*(place.get(d) for d in range(len(shape))))


def spec(name, shape, mesh, rules):
  """Returns the PartitionSpec of one parameter by the first matching rule."""
  strategy = tree.match(rules, name)
  if strategy == "replicate":
    return PartitionSpec()
  if strategy == "fsdp":
    return fsdp_spec(shape, mesh)
  if isinstance(strategy, str):
    known = ("fsdp", "replicate")
    raise ValueError(config.unknown(strategy, known, "sharding strategy"))
  return PartitionSpec(*strategy)


# What a weight of an answering model [out, in] has heads, mlp or vocabulary in:
# rows, or columns.
_ROWS = re.compile(r"(.*/)?(qkv/w|gate/w|up/w|input_embedding)")
_COLUMNS = re.compile(r"(.*/)?(attn/out/w|down/w)")


def serving_spec(name, shape, mesh):
  """Chooses the PartitionSpec of one weight of a model that answers.

  `tensor` splits heads, mlp and vocabulary of the decoder, so that its weights
  stay where they are and only activations are summed; `fsdp` splits the other
  dimension. Axes that do not divide theirs are left out.

  Args:
    name: str, at its end as `decode.loop.unroll` names it.
    shape: tuple.
    mesh: the mesh.
  """
  wide = 0 if _ROWS.fullmatch(name) else 1 if _COLUMNS.fullmatch(name) else None
  if wide is None:
    return fsdp_spec(shape, mesh)
  axes = {wide: ("tensor",), 1 - wide: FSDP}
  split = lambda d: math.prod(mesh.shape[a] for a in axes[d])
  return PartitionSpec(
    *(axes[d] if shape[d] % split(d) == 0 else None for d in (0, 1))
  )


def replicated(mesh):
  """Returns the NamedSharding of a full copy on every device."""
  return NamedSharding(mesh, PartitionSpec())
