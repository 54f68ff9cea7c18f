"""The device mesh, and rules from parameter names to shardings.

A config names three sizes. `replica` and `fsdp` split the batch; `fsdp` also
splits parameters and optimizer state, which are gathered layer by layer where
they are needed; `tensor` splits heads, mlp and vocabulary, and what they
compute. Between slices of a pod, whose network is slow, lies `replica` as far
as it goes. Inside the mesh `fsdp` is two axes whose sizes multiply to it, so
that a tensor without a dimension that all its devices divide well (1152 over
256 of them) is split along two dimensions.

Rules are pairs of a regex over flat names and a strategy, first match wins:

  "fsdp"       what TENSOR names over `tensor`, and everything over `fsdp`
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
# Whose first dimension is that of layers, which are read one after another.
STACKED = r"llm/layers/\D.*|img/Transformer/encoderblock/.*"
# Slices below this width, a TPU's lanes, are slow to gather and to scatter.
WIDTH = 128
# 1152 and 4304, the widths of SigLIP, have no larger power of 2 in common.
MAX_X = 16
# The dimension of a parameter that `tensor` splits: heads, mlp, vocabulary.
TENSOR = (
  (r"llm/embedder/input_embedding", 0),  # [V, D]
  (r"llm/layers/attn/(q|kv|qkv|attn_vec)_einsum/w", -3),  # [..., N, D, H]
  (r"llm/layers/mlp/gating_einsum", -1),  # [..., D, F]
  (r"llm/layers/mlp/linear", -2),  # [..., F, D]
  (r"img/.*/(query|key|value)/kernel", -2),  # [..., D, N, H]
  (r"img/.*/out/kernel", -3),  # [..., N, H, D]
  (r"img/.*/Dense_0/kernel", -1),  # [..., D, F]
  (r"img/.*/Dense_1/kernel", -2),  # [..., F, D]
)


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
  # What a TPU calls a slice; without them all devices are one.
  num_slices = len({getattr(d, "slice_index", 0) for d in devices})
  default = dict(replica=num_slices if devices[0].platform == "tpu" else 1)
  shape = {name: sizes.get(name, default.get(name, 1)) for name in SIZES}
  known = math.prod(n for n in shape.values() if n != -1)
  for name in shape:
    if shape[name] == -1:
      shape[name] = len(devices) // max(1, known)
  if min(shape.values()) < 1 or math.prod(shape.values()) != len(devices):
    raise ValueError(
      f"mesh {shape} wants {math.prod(shape.values())} devices; there are"
      f" {len(devices)}; set one size to -1 to use what is left"
    )
  dims = (shape["replica"], *halves(shape["fsdp"]), shape["tensor"])
  # The first axes cross the network between slices.
  between = []
  for n in dims:
    between.append(math.gcd(n, num_slices))
    num_slices //= between[-1]
  within = tuple(n // m for n, m in zip(dims, between, strict=True))
  if math.prod(between) > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      within, between, devices, allow_split_physical_axes=True
    )
  else:
    grid = mesh_utils.create_device_mesh(
      dims, devices, allow_split_physical_axes=True
    )
  return jax.sharding.Mesh(grid, AXES)


def halves(fsdp):
  """Returns the two sizes that multiply to that of `fsdp`."""
  limit = min(MAX_X, math.isqrt(fsdp))
  x = max(d for d in range(1, limit + 1) if fsdp % d == 0)
  return x, fsdp // x


def check_batch(batch_size, mesh, num_parts=1):
  """Raises ValueError when the mesh does not divide (each part of) a batch."""
  n = math.prod(mesh.shape[a] for a in BATCH) * num_parts
  if batch_size % n:
    near = max(n, round(batch_size / n) * n)
    what = f"the {n // num_parts} devices that share a batch"
    if n == num_parts:
      what = f"{num_parts} microbatches"
    elif num_parts > 1:
      what += f", each with {num_parts} microbatches"
    raise ValueError(
      f"batch_size {batch_size} is not divisible by {what}; try {near}"
    )


def spec(name, shape, mesh, rules):
  """Returns the PartitionSpec of one parameter by the first matching rule."""
  strategy = tree.match(rules, name)
  if strategy == "replicate":
    return PartitionSpec()
  if strategy == "fsdp":
    return fsdp_spec(name, shape, mesh)
  if isinstance(strategy, str):
    known = ("fsdp", "replicate")
    raise ValueError(config.unknown(strategy, known, "sharding strategy"))
  if strategy and strategy[0] and re.fullmatch(STACKED, name):
    raise ValueError(
      f"sharding: {strategy} splits the first dimension of {name}, its layers,"
      f" which are read one after another; begin it with None"
    )
  return PartitionSpec(*strategy)


def fsdp_spec(name, shape, mesh):
  """Chooses the PartitionSpec of one parameter under the `fsdp` strategy."""
  first = int(re.fullmatch(STACKED, name) is not None)
  small = math.prod(shape) < SMALL or len(shape) - first < 2
  if small or name.startswith("lora/"):  # megabytes
    return PartitionSpec()
  axes = [() for _ in shape]
  at = next((i for key, i in TENSOR if re.fullmatch(key, name)), None)
  n = mesh.shape["tensor"]
  if at is not None and n > 1 and shape[at] % n == 0:
    axes[at] = ("tensor",)
  left = [axis for axis in FSDP if mesh.shape[axis] > 1]
  # A dimension with `tensor` has nothing else: what is gathered over one of two
  # axes would lie in another order.
  free = [i for i in range(first, len(shape)) if not axes[i]]
  best = max(_ways(shape, mesh, free, left), key=lambda way: way[0])[1]
  axes = [x or y for x, y in zip(axes, best, strict=True)]
  return PartitionSpec(*(x[0] if len(x) == 1 else x or None for x in axes))


def dividing(spec, shape, mesh):
  """Returns what of a PartitionSpec divides an array.

  Args:
    spec: of quantised values.
    shape: of them or of their scales, in which a dimension is 1 or shorter.
    mesh: the mesh.
  """

  def fits(axes, n):
    names = axes if isinstance(axes, tuple) else (axes,) if axes else ()
    return axes if n % math.prod(mesh.shape[a] for a in names) == 0 else None

  pairs = zip(spec, shape[: len(spec)], strict=True)
  return PartitionSpec(*(fits(axes, n) for axes, n in pairs))


def _ways(shape, mesh, free, left):
  """Yields how well, and how, axes that are left can split free dimensions.

  Best are most parts, then slices that are wide enough, then one dimension in
  place of two, then the largest.
  """
  size = lambda axes: math.prod(mesh.shape[a] for a in axes)
  for places in itertools.product((None, *free), repeat=len(left)):
    pairs = list(zip(left, places, strict=True))
    axes = [tuple(a for a, i in pairs if i == d) for d in range(len(shape))]
    dims = [i for i, x in enumerate(axes) if x]
    if any(shape[i] % size(axes[i]) for i in dims):
      continue
    parts = math.prod(size(axes[i]) for i in dims)
    width = min((shape[i] // size(axes[i]) for i in dims), default=0)
    largest = [shape[i] for i in dims]
    yield (parts, min(width, WIDTH), -len(dims), largest), axes


# What `tensor` splits of a weight of an answering model [out, in]: rows, or
# columns.
_ROWS = re.compile(r"(.*/)?(qkv/w|gate/w|up/w)")
# The embedding by its width: split by the vocabulary, XLA gathers all of it at
# each token that is looked up (1.1 GiB a token of PaliGemma 2 3B).
_COLUMNS = re.compile(r"(.*/)?(attn/out/w|down/w|input_embedding)")


def serving_spec(name, shape, mesh):
  """Chooses the PartitionSpec of one weight of a model that answers.

  `tensor` splits the decoder's heads and mlp and the embedding's width: weights
  stay where they are and only activations are summed; `fsdp` splits the other
  dimension. Axes that do not divide theirs are left out.

  Args:
    name: str, at its end as `decode.loop.unroll` names it.
    shape: tuple.
    mesh: the mesh.
  """
  wide = 0 if _ROWS.fullmatch(name) else 1 if _COLUMNS.fullmatch(name) else None
  if wide is None:
    return fsdp_spec(name, shape, mesh)
  axes = {wide: ("tensor",), 1 - wide: FSDP}
  split = lambda d: math.prod(mesh.shape[a] for a in axes[d])
  return PartitionSpec(
    *(axes[d] if shape[d] % split(d) == 0 else None for d in (0, 1))
  )


def replicated(mesh):
  """Returns the NamedSharding of a full copy on every device."""
  return NamedSharding(mesh, PartitionSpec())
