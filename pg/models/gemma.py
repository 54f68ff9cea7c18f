"""The Gemma decoder, generations 1 and 2, with parameters stacked for a scan.

Dimensions: B batch, T query positions, S key positions, D width, F mlp width,
N query heads, K key/value heads, G = N / K, H head dim, V vocabulary.
Parameter names are those of the released files (`llm/...`).

Residual stream, keys and values are in the compute dtype; norms, RoPE angles,
softmax and vocabulary logits are float32. With float16, whose largest number is
65,504, the residual stream is float32 (`float32_stream`), and so is what is
added to it and the gate's product, before it is rounded.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import ad_checkpoint

from pg.models import attention, quantize
from pg.models import layers as layers_lib

checkpoint_name = ad_checkpoint.checkpoint_name
dot, dense, linear = layers_lib.dot, layers_lib.dense, layers_lib.linear


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes and switches of a decoder; the defaults are Gemma 1 2B."""

  width: int = 2048
  depth: int = 18
  mlp_dim: int = 16384
  num_heads: int = 8
  num_kv_heads: int = 1
  head_dim: int = 256
  vocab_size: int = 257_152
  post_norms: bool = False  # Gemma 2: a norm after attention and mlp, too
  attn_softcap: float = 0.0  # Gemma 2: 50; 0 is off
  final_softcap: float = 0.0  # one number on every path; 0 is off
  query_scale: float | None = None  # None: head_dim ** -0.5
  # Gemma 2: how far suffix tokens look in even layers; None is everywhere.
  window: int | None = None
  dropout: float = 0.0  # on the outputs of attention and mlp
  float32_stream: bool = False  # products are float16

  @property
  def stream(self):
    """The dtype of what is added to the residual stream; None is theirs."""
    return jnp.float32 if self.float32_stream else None


def rope(x, positions):
  """Rotates the two halves of each head by its position (base 10,000).

  Args:
    x: [B, T, N, H], queries or keys.
    positions: i32[B, T].

  Returns:
    [B, T, N, H] in the dtype of `x`; angles are float32.
  """
  half = x.shape[-1] // 2
  freq = 1e4 ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions[..., None, None] * freq[None, None, None]  # [B, T, 1, H/2]
  sin, cos = jnp.sin(angle), jnp.cos(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(
    x.dtype
  )


class Weight(nn.Module):
  """One parameter `w`; it starts as a truncated normal of fan_in ** -0.5."""

  shape: tuple
  fan_in: int

  @nn.compact
  def __call__(self):
    init = nn.initializers.truncated_normal(self.fan_in**-0.5)
    return self.param("w", init, self.shape)


class RMSNorm(nn.Module):
  """x / rms(x) * (1 + scale), in float32, eps 1e-6."""

  narrow: bool = False  # to float16

  @nn.compact
  def __call__(self, x):  # [..., D]
    scale = self.param("scale", nn.initializers.zeros, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    x32 *= jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + 1e-6)
    x32 *= jnp.broadcast_to(1 + scale, x.shape)
    return layers_lib.narrow(x32) if self.narrow else x32.astype(x.dtype)


class Past(NamedTuple):
  """What a layer has read already, when answers to a row go on."""

  prompt: tuple  # k, v [B, S, K, H] or Int8, seen by all answers of a row
  tokens: attention.Tokens  # of the prompt
  # i32[..., T, A], how far each answer's tokens are back; < 0: unseen.
  back: jax.Array
  answers: tuple | None = None  # k, v [B, n, A, K, H], each answer's own
  slot: jax.Array | None = None  # i32[] or [B], where in A the new token goes


class Attention(nn.Module):
  """Grouped-query attention, in training, of a prompt or of growing answers."""

  cfg: Config
  serving: bool = False  # parameters as the function of that name has them

  def projections(self, x):
    """Projects x [B, T, D] to q [B, T, N, H] and k, v [B, T, K, H]."""
    cfg = self.cfg
    D, N, K, H = cfg.width, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
    if self.serving:
      w = Weight(((N + 2 * K) * H, D), D, name="qkv")()
      y = linear(x, w).reshape(*x.shape[:2], N + 2 * K, H)
      return jnp.split(y, (N, N + K), axis=2)
    if K == N:  # the reference stacks all three where the heads are equal
      w = Weight((3, N, D, H), D, name="qkv_einsum")()
    else:
      w_q = Weight((N, D, H), D, name="q_einsum")()
      w = (w_q, *Weight((2, K, D, H), D, name="kv_einsum")())
    return tuple(dense("...D,NDH->...NH", x, w_x) for w_x in w)

  @nn.compact
  def __call__(self, x, tokens, window=None, past=None):
    """Attends.

    Args:
      x: [B, T, D]; with `past.answers` the new token of each of T answers.
      tokens: attention.Tokens [B, T].
      window: see `attention.visible`.
      past: None in training; () to keep keys and values of a prompt; a Past.

    Returns:
      [B, T, D], and None in training, else keys and values: those of `x`, or
      `past.answers` with them in the slot.
    """
    cfg = self.cfg
    K, G, H = cfg.num_kv_heads, cfg.num_heads // cfg.num_kv_heads, cfg.head_dim
    q, k, v = self.projections(x)
    scale = H**-0.5 if cfg.query_scale is None else cfg.query_scale
    q = (rope(q, tokens.position) * scale).reshape(*x.shape[:2], K, G, H)
    k = rope(k, tokens.position)
    if past and past.answers:
      k, v = (
        _written(old, new[:, :, None], past.slot)
        for old, new in zip(past.answers, (k, v), strict=True)
      )
    if past:
      seen = attention.visible(tokens, past.tokens, window)
      own = past.back >= 0
      own &= True if window is None else past.back < window
      parts = (*past.prompt, seen), (k, v, own)
      y = attention.dense(q, parts, cfg.attn_softcap)
    else:
      y = attention.attend(q, k, v, tokens, window, cfg.attn_softcap)
      y = checkpoint_name(y, "attn_out")
    N, new = cfg.num_heads, None if past is None else (k, v)
    if self.serving:
      w = Weight((cfg.width, N * H), N * H, name="out")()
      return linear(y.reshape(*y.shape[:2], N * H), w, cfg.stream), new
    w = Weight((N, H, cfg.width), N * H, name="attn_vec_einsum")()
    y = y.reshape(*y.shape[:2], N, H)
    return dense("...NH,NHD->...D", y, w, cfg.stream), new


def _written(old, new, slot):
  """Writes [B, n, 1, K, H] into a slot of [B, n, A, K, H]; see Past."""
  if not jnp.ndim(slot):
    return jax.lax.dynamic_update_slice_in_dim(old, new, slot, axis=2)
  rows = jnp.arange(len(old))
  return old.at[rows, :, slot].set(new[:, :, 0], unique_indices=True)


class Mlp(nn.Module):
  """The gated feed-forward layer (GeGLU, tanh approximation)."""

  cfg: Config
  serving: bool = False  # parameters as the function of that name has them
  remat: str = "nothing"  # see layers.py

  @nn.compact
  def __call__(self, x):  # [B, T, D]
    D, F, stream = self.cfg.width, self.cfg.mlp_dim, self.cfg.stream

    def gelu(gate, up):
      if stream is None:
        return jax.nn.gelu(gate, approximate=True) * up
      gate, up = gate.astype(stream), up.astype(stream)
      return layers_lib.narrow(jax.nn.gelu(gate, approximate=True) * up)

    if self.serving:
      w_gate, w_up, w_down = (
        Weight(shape, shape[1], name=name)()
        for name, shape in dict(gate=(F, D), up=(F, D), down=(D, F)).items()
      )
      return linear(gelu(linear(x, w_gate), linear(x, w_up)), w_down, stream)
    normal = nn.initializers.truncated_normal
    w = self.param("gating_einsum", normal(D**-0.5), (2, D, F))
    w_out = self.param("linear", normal(F**-0.5), (F, D))

    def apply(x, weights):
      w, w_out = weights
      y = (dense("...D,DF->...F", x, w_x) for w_x in w)
      y = gelu(*(checkpoint_name(x, "ffw") for x in y))
      return dense("...F,FD->...D", y, w_out, stream)

    if self.remat == "rows":
      return layers_lib.by_rows(apply, x, (w, w_out))
    return apply(x, (w, w_out))


# What is one matrix in serving: queries, keys and values.
INPUTS = "attn/q_einsum/w", "attn/kv_einsum/w", "attn/qkv_einsum/w"


def serving(layer):
  """Maps parameters of one layer to those of `Block(serving=True)`.

  Matrices are [out, in] (see `layers.linear`), as in Hugging Face files; those
  of queries, keys and values are one, those of gate and up two: a product with
  half of a parameter copies that half, 4.8 GB of a 3B model in float32.

  Args:
    layer: {"mlp/linear": array}, numpy or jax, or Quantized of them, without
      the axis of layers; all of a layer or some of it, but of INPUTS all that
      it has.

  Returns:
    The same; of numpy arrays matrices are views, except that of INPUTS.
  """
  layer = dict(layer)
  packed = {k: w for k, w in layer.items() if quantize.is_quantized(w)}
  if packed:  # scales go the way of the values that they divide
    rest = {k: w for k, w in layer.items() if k not in packed}
    values = serving({k: w.values for k, w in packed.items()})
    scales = serving({k: w.scale for k, w in packed.items()})
    make = quantize.Quantized
    return serving(rest) | {k: make(values[k], scales[k]) for k in values}
  # Heads [D, H], queries first.
  heads = [layer.pop(name) for name in INPUTS if name in layer]
  heads = [w.reshape(-1, *w.shape[-2:]).swapaxes(1, 2) for w in heads]
  if heads:
    qkv = heads[0].__array_namespace__().concatenate(heads)
    layer["attn/qkv/w"] = qkv.reshape(-1, qkv.shape[-1])
  for old, *new in (
    ("attn/attn_vec_einsum/w", "attn/out/w"),
    ("mlp/gating_einsum", "mlp/gate/w", "mlp/up/w"),
    ("mlp/linear", "mlp/down/w"),
  ):
    if old in layer:
      w = layer.pop(old)
      w = w.reshape(len(new), -1, w.shape[-1])
      layer |= {name: x.T for name, x in zip(new, w, strict=True)}
  return layer


class Block(nn.Module):
  """One decoder layer."""

  cfg: Config
  train: bool = False  # dropout is on
  serving: bool = False  # parameters as the function of that name has them
  remat: str = "nothing"  # see layers.py

  @nn.compact
  def __call__(self, x, tokens, layer, past=None, last=None):
    """Applies the layer; see `Attention` for the other arguments.

    Args:
      layer: i32[], the layer's number; even ones are local.
      last: i32[B], the only positions whose result is wanted, or None.

    Returns:
      As `Attention`; with `last` [B, 1, D].
    """
    cfg, window = self.cfg, self.cfg.window
    drop = layers_lib.Dropout(cfg.dropout, deterministic=not self.train)
    if window is not None:
      window = jnp.where(layer % 2 == 0, window, attention.FAR)
    x = layers_lib.constrain(x)
    narrow = cfg.float32_stream
    y = RMSNorm(narrow, name="pre_attention_norm")(x)
    attend = Attention(cfg, self.serving, name="attn")
    y, new = attend(y, tokens, window, past)
    if cfg.post_norms:
      y = RMSNorm(name="post_attention_norm")(y)
    x = x + drop(y)
    if last is not None:
      x = x[jnp.arange(len(x)), last][:, None]
    y = RMSNorm(narrow, name="pre_ffw_norm")(x)
    y = Mlp(cfg, self.serving, self.remat, name="mlp")(y)
    if cfg.post_norms:
      # In Gemma 2 dropout comes first here, unlike after attention.
      return x + RMSNorm(name="post_ffw_norm")(drop(y)), new
    return x + drop(y), new


class Embedder(nn.Module):
  """The embedding f32[V, D], used for tokens in and logits out."""

  vocab_size: int
  width: int

  def setup(self):
    init = nn.initializers.truncated_normal(self.width**-0.5)
    self.input_embedding = self.param(
      "input_embedding", init, (self.vocab_size, self.width)
    )


class Decoder(nn.Module):
  """The decoder: embedding, scanned layers, final norm, tied head."""

  cfg: Config
  dtype: str = "float32"
  remat: str = "nothing"
  train: bool = False

  def setup(self):
    cfg = self.cfg
    self.embedder = Embedder(cfg.vocab_size, cfg.width)
    axes = (nn.broadcast, 0)
    blocks = layers_lib.scan(Block, cfg.depth, self.remat, axes)
    self.layers = blocks(cfg, self.train, remat=self.remat)
    self.final_norm = RMSNorm(cfg.float32_stream)

  def embed(self, tokens):
    """Embeds i32[B, T] to the stream's [B, T, D], times sqrt(D).

    The product is in the compute dtype.

    What has been looked up [B, T, D] is only multiplied.
    """
    is_text = tokens.ndim == 2
    x = tokens
    if is_text:
      x = quantize.rows(self.embedder.input_embedding, tokens, self.dtype)
    x = x.astype(self.dtype)
    x *= jnp.sqrt(self.cfg.width).astype(x.dtype)
    return x.astype(self.cfg.stream or x.dtype)

  def __call__(self, x, tokens):
    """Maps embeddings [B, T, D] to hidden states [B, T, D], before the head."""
    x, _ = self.layers(x, tokens, jnp.arange(self.cfg.depth))
    return self.final_norm(x)


def vocabulary_logits(x, embedding, cap, *, serving=False):
  """Maps hidden states [..., D] to f32[..., V] with the tied embedding.

  The final soft-cap is applied here and nowhere else: training, scoring, the
  first decoded token and all later ones see the same distribution.
  """
  if serving:
    return attention.softcap(linear(x, embedding, out=jnp.float32), cap)
  equation = "...D,VD->...V"
  multiply = dense if quantize.is_quantized(embedding) else dot
  return attention.softcap(multiply(equation, x, embedding, jnp.float32), cap)
