"""The PaliGemma model: image tower with projector, and decoder.

The sequence is [image tokens][bos prefix "\n"][suffix eos][padding]. Image and
prefix see each other fully, the suffix is causal: `pg/data/prefix_lm.py` holds
the contract of the batch.

Dimensions: B batch, M images per example, R pixels per side, I tokens per
image, L text tokens, T = M * I + L positions, D width, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from pg import config
from pg.models import gemma, siglip


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of both towers, and how they are computed."""

  img: siglip.Config
  llm: gemma.Config
  dtype: str = "float32"  # of activations; parameters are float32
  remat: str = "nothing"  # see `remat.POLICIES`


_SO400M = siglip.Config()
_NANO_VIT = siglip.Config(
  width=96, depth=3, mlp_dim=256, num_heads=4, patch=12, res=48
)
_NANO = gemma.Config(
  width=96,
  depth=3,
  mlp_dim=256,
  num_heads=4,
  num_kv_heads=1,
  head_dim=32,
  vocab_size=1920,
)


def _gemma2(**sizes):
  return gemma.Config(
    post_norms=True, attn_softcap=50.0, final_softcap=30.0, **sizes
  )


VARIANTS = {
  # PaliGemma 1: Gemma 2B.
  "pg1_3b": Config(_SO400M, gemma.Config()),
  # PaliGemma 2: Gemma 2 2B, 9B and 27B.
  "pg2_3b": Config(
    _SO400M,
    _gemma2(width=2304, depth=26, mlp_dim=9216, num_kv_heads=4),
  ),
  "pg2_10b": Config(
    _SO400M,
    _gemma2(width=3584, depth=42, mlp_dim=14336, num_heads=16, num_kv_heads=8),
  ),
  "pg2_28b": Config(
    _SO400M,
    _gemma2(
      width=4608,
      depth=46,
      mlp_dim=36864,
      num_heads=32,
      num_kv_heads=16,
      head_dim=128,
      query_scale=(4608 / 32) ** -0.5,
    ),
  ),
  # Small ones to learn, test and debug with; they train on a laptop.
  "nano": Config(_NANO_VIT, _NANO),
  "nano2": Config(
    _NANO_VIT,
    dataclasses.replace(
      _NANO,
      num_kv_heads=2,
      post_norms=True,
      attn_softcap=50.0,
      final_softcap=30.0,
    ),
  ),
  "nano_5m": Config(
    dataclasses.replace(_NANO_VIT, width=256, depth=4, mlp_dim=768),
    dataclasses.replace(_NANO, width=256, depth=4, mlp_dim=768, head_dim=64),
  ),
}


def from_config(c, vocab_size=None):
  """Returns the Config that a config file's `model` group describes.

  Args:
    c: mapping with `variant` and any of `res`, `dtype`, `remat`, `dropout`,
      `final_softcap`, `window`; None keeps the variant's own value.
    vocab_size: int or None, rows of the embedding; None keeps the variant's.

  Raises:
    ValueError: an unknown variant or key.
  """
  given = {k: v for k, v in dict(c).items() if v is not None}
  cfg = config.lookup(VARIANTS, given.pop("variant"), "model variant")
  groups = {"img": {}, "llm": {}, "": {}}
  for key, value in given.items():
    groups[config.lookup(_KEYS, key, "model key")][key] = value
  if "dtype" in given:
    groups[""]["dtype"] = compute_dtype(given["dtype"])
  if vocab_size is not None:
    groups["llm"]["vocab_size"] = vocab_size
  return dataclasses.replace(
    cfg,
    img=dataclasses.replace(cfg.img, **groups["img"]),
    llm=dataclasses.replace(cfg.llm, **groups["llm"]),
    **groups[""],
  )


def compute_dtype(name):
  """Returns the dtype of activations; None and "auto" choose by the device.

  That is float32 on a CPU, where bfloat16 is slow, and bfloat16 elsewhere.
  """
  if name not in (None, "auto"):
    return name
  return "float32" if jax.default_backend() == "cpu" else "bfloat16"


# Which part of the model a config's key belongs to.
_KEYS = {
  "res": "img",
  "dropout": "llm",
  "final_softcap": "llm",
  "window": "llm",
  "dtype": "",
  "remat": "",
}


def attention_masks(valid, ar, positions, window=None):
  """Builds the attention mask of a prefix-LM: which key each query may see.

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
    valid: bool[B, T], a real token, not padding or a missing image.
    ar: bool[B, T], attends causally.
    positions: i32[B, T].
    window: int or None; in local layers a causal query sees only keys less
      than `window` positions back.

  Returns:
    bool[B, T, T], and the same for local layers, None without a window.
  """
  count = jnp.cumsum(ar, axis=-1)
  seen = count[:, None, :] <= count[:, :, None]
  mask = seen & valid[:, None, :] & valid[:, :, None]  # [B, T, T]
  if window is None:
    return mask, None
  near = positions[:, :, None] - positions[:, None, :] < window
  return mask, mask & (near | (count == 0)[:, :, None])


def positions_of(valid):
  """Counts real tokens from 0: i32[B, T]; padding repeats the last position."""
  return jnp.maximum(jnp.cumsum(valid, axis=-1) - 1, 0)


class PaliGemma(nn.Module):
  """The model; apply it with `method=` for its parts."""

  cfg: Config
  train: bool = False

  def setup(self):
    cfg = self.cfg
    self.img = siglip.Tower(cfg.img, cfg.llm.width, cfg.dtype, cfg.remat)
    self.llm = gemma.Decoder(cfg.llm, cfg.dtype, cfg.remat, self.train)

  def embed_image(self, image):
    """Maps u8[B, M, R, R, 3] to image tokens [B, M * I, D]."""
    B, M = image.shape[:2]
    x = self.img(image.reshape(B * M, *image.shape[2:]))
    return x.reshape(B, M * x.shape[1], x.shape[2])

  def embed(self, image, mask_image, tokens, mask_input, mask_ar):
    """Builds the decoder's input of a batch (see `pg/data/prefix_lm.py`).

    Returns:
      x [B, T, D], valid bool[B, T] and ar bool[B, T].
    """
    image_tokens = self.embed_image(image)  # [B, M * I, D]
    x = jnp.concatenate([image_tokens, self.llm.embed(tokens)], axis=1)
    I = self.cfg.img.num_tokens
    shown = jnp.repeat(mask_image, I, axis=1)  # [B, M * I]
    valid = jnp.concatenate([shown, mask_input], axis=1)
    ar = jnp.concatenate([jnp.zeros_like(shown), mask_ar], axis=1)
    return x, valid, ar

  def __call__(self, image, mask_image, tokens, mask_input, mask_ar):
    """Returns hidden states of the text positions, [B, L, D]."""
    L = tokens.shape[1]
    x, valid, ar = self.embed(image, mask_image, tokens, mask_input, mask_ar)
    positions = positions_of(valid)
    masks = attention_masks(valid, ar, positions, self.cfg.llm.window)
    return self.llm(x, positions, masks)[:, -L:]

  def logits(self, hidden):
    """Maps hidden states [..., D] to f32[..., V]."""
    return self.llm.logits(hidden)


def init(cfg, rng):
  """Initialises parameters, f32; jit or `eval_shape` it.

  Returns:
    Nested dict with the released names.
  """
  R = cfg.img.res
  return PaliGemma(cfg).init(
    rng,
    image=jnp.zeros((1, 1, R, R, 3), jnp.uint8),
    mask_image=jnp.ones((1, 1), bool),
    tokens=jnp.zeros((1, 2), jnp.int32),
    mask_input=jnp.ones((1, 2), bool),
    mask_ar=jnp.zeros((1, 2), bool),
  )["params"]


def shapes(cfg):
  """Returns the tree of `init`'s shapes without allocating anything."""
  return jax.eval_shape(lambda k: init(cfg, k), jax.random.key(0))
