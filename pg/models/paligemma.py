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

from pg.models import attention, gemma, siglip
from pg.models import lora as lora_lib


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of both towers, and how they are computed."""

  img: siglip.Config
  llm: gemma.Config
  dtype: str = "float32"  # of activations; parameters are float32
  remat: str = "nothing"  # see layers.py
  lora: lora_lib.Config | None = None  # adapters, parameters of their own


class PaliGemma(nn.Module):
  """The model; apply it with `method=` for its parts."""

  cfg: Config
  train: bool = False

  def setup(self):
    cfg = self.cfg
    self.img = siglip.Tower(cfg.img, cfg.llm.width, cfg.dtype, cfg.remat)
    self.llm = gemma.Decoder(cfg.llm, cfg.dtype, cfg.remat, self.train)

  def embed_image(self, image):
    """Maps images to image tokens [B, M * I, D].

    Args:
      image: u8[B, M, R, R, 3]; or [B, M, I, width of the tower], their features
        as `image_features` returns them.
    """
    B, M = image.shape[:2]
    x = self.img(image.reshape(B * M, *image.shape[2:]))
    return x.reshape(B, M * x.shape[1], x.shape[2])

  def image_features(self, image):
    """Maps u8[B, R, R, 3] to what the projector takes of each."""
    return self.img(image, project=False)

  def embed(self, image, mask_image, tokens, mask_input, mask_ar):
    """Builds the decoder's input of a batch (see `pg/data/prefix_lm.py`).

    `image` may also be features, or image tokens as `embed_image` returns them.

    Returns:
      x [B, T, D] and attention.Tokens [B, T].
    """
    are_tokens = image.ndim == 3
    image_tokens = image if are_tokens else self.embed_image(image)
    x = jnp.concatenate([image_tokens, self.llm.embed(tokens)], axis=1)
    I = self.cfg.img.num_tokens
    shown = jnp.repeat(mask_image, I, axis=1)  # [B, M * I]
    valid = jnp.concatenate([shown, mask_input], axis=1)
    ar = jnp.concatenate([jnp.zeros_like(shown), mask_ar], axis=1)
    return x, attention.Tokens.of(valid, ar, shown.shape[1])

  def __call__(self, image, mask_image, tokens, mask_input, mask_ar):
    """Returns hidden states of the text positions, [B, L, D]."""
    L = tokens.shape[1]
    x, seen = self.embed(image, mask_image, tokens, mask_input, mask_ar)
    return self.llm(x, seen)[:, -L:]


def init(cfg, rng):
  """Initialises parameters, f32; jit or `eval_shape` it.

  Returns:
    Nested dict with the released names, and adapters of weights, see lora.py.
  """
  R = cfg.img.res
  params = PaliGemma(cfg).init(
    rng,
    image=jnp.zeros((1, 1, R, R, 3), jnp.uint8),
    mask_image=jnp.ones((1, 1), bool),
    tokens=jnp.zeros((1, 2), jnp.int32),
    mask_input=jnp.ones((1, 2), bool),
    mask_ar=jnp.zeros((1, 2), bool),
  )["params"]
  if cfg.lora:
    rng = jax.random.fold_in(rng, 1)
    params = {**params, lora_lib.ROOT: lora_lib.init(cfg.lora, rng, params)}
  return params


def shapes(cfg):
  """Returns the tree of `init`'s shapes without allocating anything."""
  return jax.eval_shape(lambda: init(cfg, jax.random.key(0)))
