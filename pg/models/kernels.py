"""Fused attention: kernels that hold no logits, cuDNN's and a TPU's.

Dimensions: B batch, T query positions, S key positions, K key/value heads,
G query heads of each, H head dim.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp

from pg import sharding
from pg.models import layers

# Queries that splash attention takes at a time.
BLOCK = 512
# Kinds of GPUs whose cuDNN has flash attention for heads of 256.
HOPPER = re.compile(r"\bG?[HB]\d00\b")


def find(q, num_queries, cap):
  """Returns the kernel for the platform that is compiled for, None without one.

  Args:
    q: bf16 or another [B, T, K, G, H], or [B, T, K, H].
    num_queries: int, how many of these it is for.
    cap: float, soft-cap of the logits; 0 is off.

  Returns:
    Function from scaled q, k and v [B, S, K, H], and the keys that all queries
    see, bool[B, S] with at least one in each row or None, to an array like q.
  """
  if q.dtype != jnp.bfloat16 or q.shape[0] % layers.num_batch_shards():
    return None
  platform = layers.platform()
  if platform == "tpu" and num_queries >= 1024 and num_queries % BLOCK == 0:
    return functools.partial(on_each_device, functools.partial(splash, cap=cap))
  if platform == "gpu" and num_queries >= 256 and not cap:
    if HOPPER.search(layers.device_kind()):
      return functools.partial(on_each_device, cudnn)
  return None


def on_each_device(kernel, q, k, v, keys):
  """Applies a kernel, which no compiler can split, to each device's part.

  Rows are split over the mesh in use, and heads, if their numbers let.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not set(sharding.BATCH) <= set(mesh.axis_names):
    return kernel(q, k, v, keys)
  K, H = k.shape[2:]
  G = math.prod(q.shape[2:]) // (K * H)
  fits = lambda n: "tensor" if n % mesh.shape["tensor"] == 0 else None
  rows = None if mesh.manual_axes else sharding.BATCH  # own ones
  spec, heads = jax.sharding.PartitionSpec, fits(K)
  of_q = spec(rows, None, heads, None if heads else fits(G))
  of_k = spec(rows, None, heads)
  split = jax.shard_map(
    kernel,
    in_specs=(of_q, of_k, of_k, spec(rows)),
    out_specs=of_q,
    axis_names=set(mesh.axis_names) - set(mesh.manual_axes),
    check_vma=False,
  )
  return split(q, k, v, keys)


def splash(q, k, v, keys, cap):
  """Splash attention, JAX's kernel for TPUs; see `find`."""
  # Slow to import.
  from jax.experimental.pallas.ops.tpu import splash_attention as lib

  T, H, S = q.shape[1], q.shape[-1], k.shape[1]
  # Of these the one that fills up the keys least.
  block = min((BLOCK, 384, 256), key=lambda n: -S % n)
  segments = None
  if keys is not None:
    keys = jnp.pad(keys, ((0, 0), (0, -S % block))).astype(jnp.int32)
    segments = lib.SegmentIds(jnp.ones((len(q), T), jnp.int32), keys)

  def heads(x, fill=0):  # [B, N, T, H]; lanes are 128 wide
    x = x.reshape(*x.shape[:2], -1, H).swapaxes(1, 2)
    return jnp.pad(x, ((0, 0), (0, 0), (0, fill), (0, -H % 128)))

  k, v = heads(k, -S % block), heads(v, -S % block)
  full = lib.FullMask((T, k.shape[2]))
  kernel = lib.make_splash_mha(
    lib.MultiHeadMask([full] * math.prod(q.shape[2:-1])),
    block_sizes=lib.BlockSizes(
      block_q=BLOCK,
      block_kv=block,
      block_q_dkv=BLOCK,
      block_kv_dkv=block,
      use_fused_bwd_kernel=True,
    ),
    head_shards=1,
    q_seq_shards=1,
    attn_logits_soft_cap=cap or None,
  )
  y = jax.vmap(kernel)(heads(q), k, v, segments)
  return y[..., :H].swapaxes(1, 2).reshape(q.shape)


def cudnn(q, k, v, keys):
  """cuDNN's flash attention, for GPUs; see `find`."""
  lengths = None
  if keys is not None:
    # It takes the first keys of each row.
    order = jnp.argsort(~keys, axis=1, stable=True)
    k, v, lengths = _pick(k, order), _pick(v, order), keys.sum(axis=1)
  y = jax.nn.dot_product_attention(
    q.reshape(*q.shape[:2], -1, q.shape[-1]),
    k,
    v,
    scale=1.0,
    key_value_seq_lengths=lengths,
    implementation="cudnn",
  )
  return y.reshape(q.shape)


_pick = jax.vmap(
  lambda x, at: x.at[at].get(mode="promise_in_bounds", unique_indices=True)
)
