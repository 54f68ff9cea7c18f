"""Attention: which key a query may see, and how that is computed.

A prefix-LM needs no mask of all pairs: three numbers a token say who sees whom.
The first queries, those of images, all see the same keys: a fused kernel takes
them where there is one, cuDNN's on a GPU or splash attention on a TPU. Other
queries go in chunks, and a mask is made for one chunk at a time.

Dimensions: B batch, T query positions, S key positions, K key/value heads,
G query heads of each, H head dim.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pg.models import kernels, layers

dot = layers.dot

# The finite stand-in for minus infinity of the released models.
BIG_NEGATIVE = -2.3819763e38
# More than any position: a window of everything, a query that sees all.
FAR = 2**31 - 1
# Logits that one device may hold at a time, in elements (256 MiB in float32):
# queries go in as many chunks as it takes. Small models and 224 px need one.
MAX_LOGITS = 2**26


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tokens:
  """What says of tokens which of them see each other."""

  valid: jax.Array  # bool[B, T], a real token, not padding or a missing image
  count: jax.Array  # i32[B, T], tokens so far that attend causally
  position: jax.Array  # i32[B, T], real tokens before it
  # How many of the first ones are known not to attend causally.
  num_full: int = dataclasses.field(default=0, metadata=dict(static=True))

  @classmethod
  def of(cls, valid, ar, num_full=0):
    """Counts tokens.

    Args:
      valid: bool[B, T], a real token.
      ar: bool[B, T], attends causally.
      num_full: int, how many of the first `ar` are False in all rows.
    """
    # Padding repeats the last position.
    position = jnp.maximum(jnp.cumsum(valid, axis=-1) - 1, 0)
    return cls(valid, jnp.cumsum(ar, axis=-1), position, num_full)

  @classmethod
  def after(cls, position):
    """Returns those of tokens that see all before them; i32[B, T]."""
    count = jnp.full_like(position, FAR)
    return cls(jnp.ones_like(position, bool), count, position)


def visible(queries, keys, window=None):
  """Says which key each query may see: the mask of a prefix-LM.

  A query sees a key when both are real tokens and the key's running count of
  `ar` is not larger than its own. Three image or prefix tokens, two suffix
  tokens and one of padding:

      valid = 1 1 1 1 1 0      1 1 1 . . .
      ar    = 0 0 0 1 1 1      1 1 1 . . .
                               1 1 1 . . .
                               1 1 1 1 . .
                               1 1 1 1 1 .
                               . . . . . .

  Args:
    queries: Tokens [B, T].
    keys: Tokens [B, S].
    window: None or int or i32[]; a causal query sees only keys less than that
      many positions back.

  Returns:
    bool[B, T, S].
  """
  query = jax.tree.map(lambda x: x[:, :, None], queries)
  key = jax.tree.map(lambda x: x[:, None], keys)
  mask = (key.count <= query.count) & key.valid & query.valid
  if window is None:
    return mask
  near = query.position - key.position < window
  return mask & (near | (query.count == 0))


def softcap(x, cap):
  """Bounds `x` to (-cap, cap); the identity where cap is 0."""
  return cap * jnp.tanh(x / cap) if cap else x


class Int8(NamedTuple):
  """Keys or values in 8 bits, each head of a token with its own scale."""

  values: jax.Array  # i8[B, S, K, H]
  scale: jax.Array  # f32[B, K, S]

  @classmethod
  def of(cls, x):  # f32 or bf16[B, S, K, H]
    x = x.astype(jnp.float32)
    scale = jnp.maximum(jnp.abs(x).max(axis=-1), 1e-30) / 127
    values = jnp.round(x / scale[..., None]).astype(jnp.int8)
    return cls(values, scale.swapaxes(1, 2))


def attend(q, k, v, tokens=None, window=None, cap=0.0):
  """Attends within a sequence.

  Args:
    q: [B, T, K, G, H], scaled queries; or [B, T, K, H].
    k, v: [B, T, K, H].
    tokens: Tokens [B, T]; None is full attention.
    window: see `visible`.
    cap: float, soft-cap of the logits.

  Returns:
    As `q`; of queries that are not real tokens anything finite.
  """
  num_full = tokens.num_full if tokens else q.shape[1]
  kernel = kernels.find(q, num_full, cap)
  if kernel is None:
    return _in_chunks(q, k, v, tokens, tokens, window, cap)
  keys = tokens and tokens.valid & (tokens.count == 0)
  if tokens:  # kernels want at least one: a row without any is padding
    keys |= ~keys.any(axis=1, keepdims=True)
  y = kernel(q[:, :num_full], k, v, keys)
  if num_full == q.shape[1]:
    return y
  q, queries = jax.tree.map(lambda x: x[:, num_full:], (q, tokens))
  rest = _in_chunks(q, k, v, queries, tokens, window, cap)
  return jnp.concatenate([y, rest], axis=1)


def _in_chunks(q, k, v, queries, keys, window, cap):
  """Attends with as many queries at a time as MAX_LOGITS lets."""
  B, T, *heads, _ = q.shape
  see = lambda queries: queries and visible(queries, keys, window)
  logits = math.prod((B, *heads, T, k.shape[1])) // layers.num_batch_shards()
  if logits <= MAX_LOGITS:
    return dense(q, ((k, v, see(queries)),), cap)
  size = -(-T // math.ceil(logits / MAX_LOGITS))
  size += -size % 8
  # Gradients by keys and values are summed over the chunks in float32.
  k, v = (x.astype(jnp.float32) for x in (k, v))

  def split(x):
    x = jnp.pad(x, ((0, 0), (0, -T % size)) + ((0, 0),) * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(B, -1, size, *x.shape[2:]), 1, 0)

  @jax.checkpoint
  def chunk(q, queries):
    return dense(q, ((k, v, see(queries)),), cap)

  y = jax.lax.map(lambda x: chunk(*x), jax.tree.map(split, (q, queries)))
  return jnp.moveaxis(y, 0, 1).reshape(B, -1, *q.shape[2:])[:, :T]


def dense(q, parts, cap=0.0):
  """Attends to keys that lie in several arrays as if they were one.

  Args:
    q: [B, T, K, G, H], scaled queries; or [B, T, K, H].
    parts: tuples (k, v, mask) with k, v [B, S, K, H] or Int8, offered to all
      queries, or [B, T, S, K, H], to each its own; mask bool[B, T, S], or what
      broadcasts to it, or None.
    cap: float, soft-cap of the logits.

  Returns:
    As `q`.
  """
  heads = "KG" if q.ndim == 5 else "K"
  over_heads = lambda mask: jnp.expand_dims(mask, range(1, q.ndim - 2))
  over_queries = lambda scale: jnp.expand_dims(scale, range(2, q.ndim - 1))
  letters = lambda k: "BTSKH" if k.ndim == 5 else "BSKH"
  logits = []
  for k, _, mask in parts:
    values = k.values if isinstance(k, Int8) else k
    equation = f"BT{heads}H,{letters(values)}->B{heads}TS"
    x = dot(equation, q, values, out=jnp.float32)
    if isinstance(k, Int8):
      x *= over_queries(k.scale)
    x = softcap(x, cap)
    if mask is not None:
      x = jnp.where(over_heads(mask), x, BIG_NEGATIVE)
    logits.append(x)
  probs = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1)
  y, start = 0, 0
  for (_, v, _), x in zip(parts, logits, strict=True):
    p = probs[..., start : start + x.shape[-1]]
    start += x.shape[-1]
    values = v.values if isinstance(v, Int8) else v
    if isinstance(v, Int8):
      p *= over_queries(v.scale)
    equation = f"B{heads}TS,{letters(values)}->BT{heads}H"
    y += dot(equation, p.astype(q.dtype), values)
  return y
