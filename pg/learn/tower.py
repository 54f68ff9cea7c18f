"""The frozen image tower by itself, on the devices of one process."""

import functools

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from pg import sharding, tree
from pg.models import paligemma, quantize

ROWS = 8  # images that a device takes at a time


def on_own_devices(cfg, params, mesh):
  """Returns the function from pixels to what the projector takes.

  Each process can call it when it likes: no other one is needed, unlike here,
  where all take a copy of the tower's weights on each of their devices.

  Args:
    cfg: paligemma.Config.
    params: the model's parameters, on the mesh.
    mesh: the mesh.

  Returns:
    Function from np u8[n, R, R, 3] to np [n, I, D] of the compute dtype.
  """
  whole = NamedSharding(mesh, PartitionSpec())
  weights = {k: v for k, v in params["img"].items() if k != "head"}
  cast = functools.partial(_cast, cfg.dtype)
  weights = jax.jit(cast, out_shardings=whole)(weights)
  grid = np.array(mesh.local_devices).reshape(1, -1, 1, 1)
  own = jax.sharding.Mesh(grid, sharding.AXES)
  copy, split = (
    NamedSharding(own, spec)
    for spec in (PartitionSpec(), PartitionSpec(sharding.BATCH))
  )
  weights = jax.tree.map(
    lambda x: jax.make_array_from_single_device_arrays(
      x.shape, copy, [shard.data for shard in x.addressable_shards]
    ),
    weights,
  )
  model, size = paligemma.PaliGemma(cfg), ROWS * own.size

  @jax.jit
  def apply(weights, image):
    params = {"params": {"img": weights}}
    return model.apply(params, image, method="image_features")

  def compute(images):
    padded = np.pad(images, ((0, -len(images) % size), *[(0, 0)] * 3))
    with jax.set_mesh(own):
      made = [
        apply(weights, jax.device_put(x, split))
        for x in padded.reshape(-1, size, *images.shape[1:])
      ]
    return np.concatenate(made)[: len(images)]

  return compute


def probe(cfg, compute):
  """Returns the features of an image that is always the same, [I, D].

  Another tower, or another program for it, makes others of it.
  """
  shape = 1, cfg.img.res, cfg.img.res, 3
  rng = np.random.default_rng(0)
  return compute(rng.integers(0, 256, shape, np.uint8))[0]


def _cast(dtype, weights):
  """Casts what is cast where it is used: kernels, but no norms' scales."""

  def cast(name, x):
    is_wide = name.endswith("kernel") and not quantize.is_quantized(x)
    return x.astype(dtype) if is_wide else x

  return tree.map_named(cast, weights)
