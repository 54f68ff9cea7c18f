"""The SigLIP image tower: a ViT without pooling, and the linear projector.

Dimensions: B batch, I image tokens (patches), T and S the same as query and key
positions, D width, F mlp width, N heads, H head dim, R pixels per side.
Parameter names are those of the released files (`img/...`).
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import ad_checkpoint

from pg.models import attention
from pg.models import layers as layers_lib

checkpoint_name = ad_checkpoint.checkpoint_name


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the tower; the number of tokens follows from the resolution."""

  width: int = 1152
  depth: int = 27
  mlp_dim: int = 4304
  num_heads: int = 16
  patch: int = 14  # pixels per side of a square patch
  res: int = 224  # pixels per side of the square image
  float32_stream: bool = False  # products are float16, see gemma.py

  def __post_init__(self):
    if self.res % self.patch:
      near = max(1, round(self.res / self.patch)) * self.patch
      raise ValueError(
        f"res {self.res} is not a multiple of the {self.patch} pixels of a"
        f" patch; try {near}"
      )

  @property
  def num_tokens(self):
    return (self.res // self.patch) ** 2


def sincos_2d(rng, shape, dtype=jnp.float32):
  """Initialises a position table f32[1, I, D] with sines of row and column.

  It is only where training from scratch starts (the table is learned): nano
  models find boxes sooner from it than from noise.
  """
  del rng
  _, num_tokens, width = shape
  side = int(num_tokens**0.5)
  row, col = np.mgrid[:side, :side].reshape(2, num_tokens, 1)
  freq = 1e4 ** (-np.arange(width // 4) / max(1, width // 4 - 1))
  table = np.concatenate(
    [f(a * freq) for a in (col, row) for f in (np.sin, np.cos)], axis=-1
  )
  return jnp.asarray(
    np.pad(table, ((0, 0), (0, width - table.shape[1]))), dtype
  )[None]


class Linear(nn.Module):
  """A linear layer whose kernel and bias have any rank."""

  equation: str  # see `layers.dense`
  shape: tuple  # of the kernel
  num_in: int = (
    1  # axes of the kernel that are summed over; the bias has others
  )
  init: nn.initializers.Initializer | None = None
  out: type | None = None  # dtype of the result, None is that of what comes in

  @nn.compact
  def __call__(self, x):
    fan_in = math.prod(self.shape[: self.num_in])
    init = self.init or nn.initializers.truncated_normal(fan_in**-0.5)
    kernel = self.param("kernel", init, self.shape)
    bias = self.param("bias", nn.initializers.zeros, self.shape[self.num_in :])
    y = layers_lib.dense(self.equation, x, kernel, self.out)
    return y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


class Attention(nn.Module):
  """Multi-head self attention without a mask; softmax in float32."""

  num_heads: int
  out: type | None = None

  @nn.compact
  def __call__(self, x):  # [B, I, D]
    D, N = x.shape[-1], self.num_heads
    H = D // N
    q, k, v = (
      Linear("...D,DNH->...NH", (D, N, H), name=name)(x)
      for name in ("query", "key", "value")
    )
    y = checkpoint_name(attention.attend(q * H**-0.5, k, v), "attn_out")
    last = Linear("...NH,NHD->...D", (N, H, D), 2, out=self.out, name="out")
    return last(y)


class Mlp(nn.Module):
  """The feed-forward layer (GELU, tanh approximation)."""

  mlp_dim: int
  out: type | None = None

  @nn.compact
  def __call__(self, x):  # [B, I, D]
    D, F = x.shape[-1], self.mlp_dim
    x = Linear("...D,DF->...F", (D, F), name="Dense_0")(x)
    x = checkpoint_name(x, "ffw")
    x = jax.nn.gelu(x, approximate=True)
    return Linear("...F,FD->...D", (F, D), out=self.out, name="Dense_1")(x)


def norm(cfg, x, name):
  """Applies a LayerNorm of a name, whose statistics are float32."""
  y = nn.LayerNorm(dtype=x.dtype, name=name)(x)
  return layers_lib.narrow(y) if cfg.float32_stream else y


class Block(nn.Module):
  """One pre-norm transformer layer, in the form that `nn.scan` wants."""

  cfg: Config

  @nn.compact
  def __call__(self, x, _):
    x, cfg = layers_lib.constrain(x), self.cfg
    out = jnp.float32 if cfg.float32_stream else None
    name = "MultiHeadDotProductAttention_0"
    attend = Attention(cfg.num_heads, out, name=name)
    x = x + attend(norm(cfg, x, "LayerNorm_0"))
    mlp = Mlp(cfg.mlp_dim, out, name="MlpBlock_0")
    return x + mlp(norm(cfg, x, "LayerNorm_1")), None


class Transformer(nn.Module):
  """The scanned layers and the final norm."""

  cfg: Config
  remat: str

  @nn.compact
  def __call__(self, x):
    cfg = self.cfg
    blocks = layers_lib.scan(Block, cfg.depth, self.remat)
    if cfg.float32_stream:
      x = x.astype(jnp.float32)
    x, _ = blocks(cfg, name="encoderblock")(x, None)
    return norm(cfg, x, "encoder_norm")


class Tower(nn.Module):
  """Maps images to image tokens of the decoder's width.

  The projector is `head`, zero-initialised as in the paper (section 3.1): an
  untrained tower tells the decoder nothing.
  """

  cfg: Config
  out_width: int
  dtype: str = "float32"
  remat: str = "nothing"

  @nn.compact
  def __call__(self, image, *, project=True):
    """Maps images to image tokens [B, I, out_width].

    Args:
      image: u8[B, R, R, 3]; or features [B, I, D] of them.
      project: bool; without it features are returned.
    """
    x = self._features(image) if image.ndim == 4 else image
    if not project:
      return x
    return Linear(
      "...D,Dd->...d",  # d: out_width
      (self.cfg.width, self.out_width),
      init=nn.initializers.zeros,
      name="head",
    )(x)

  def _features(self, image):  # u8[B, R, R, 3] -> [B, I, D]
    cfg, patch = self.cfg, self.cfg.patch
    B, height, width, _ = image.shape
    if (height, width) != (cfg.res, cfg.res):
      raise ValueError(
        f"images are {height}x{width} pixels but the model is built for"
        f" {cfg.res}x{cfg.res}; set the config's `res` and the `resize` of its"
        " `pp` to the same number"
      )
    x = image.astype(jnp.float32) / 127.5 - 1.0
    # [B, rows, patch, columns, patch, 3]; p and q are pixels of a patch, c
    # their colours.
    x = x.astype(self.dtype)
    x = x.reshape(B, height // patch, patch, width // patch, patch, 3)
    shape = patch, patch, 3, cfg.width
    x = Linear("...pxqc,pqcD->...xD", shape, 3, name="embedding")(x)
    x = x.reshape(B, cfg.num_tokens, cfg.width)  # [B, I, D]
    position = self.param(
      "pos_embedding", sincos_2d, (1, cfg.num_tokens, cfg.width)
    )
    x = x + position.astype(x.dtype)
    return Transformer(cfg, self.remat, name="Transformer")(x)
