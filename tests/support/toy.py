"""Models and batches of a few numbers."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from pg import tree
from pg.models import gemma, paligemma, siglip

# As published: an image tower's kernels and the projector's, nothing of Gemma.
DECAYED = ((".*/kernel", 1.0), (".*", 0.0))

IMG = siglip.Config(width=16, depth=1, mlp_dim=24, num_heads=2, patch=4, res=8)
LLM = gemma.Config(
  width=16,
  depth=2,
  mlp_dim=24,
  num_heads=4,
  num_kv_heads=2,
  head_dim=4,
  vocab_size=24,
)
# Everything that the second generation does differently, and a window.
LLM2 = dataclasses.replace(
  LLM, post_norms=True, attn_softcap=3.0, final_softcap=4.0, window=3
)


def config(llm=LLM, **changes):
  return paligemma.Config(IMG, llm, remat="everything", **changes)


def params(shapes, seed=0):
  """Draws every parameter, those that start as zeros, too."""
  rng = np.random.default_rng(seed)
  draw = lambda x: rng.normal(0, 0.4, x.shape).astype(np.float32)
  return tree.map_named(lambda _, x: jnp.asarray(draw(x)), shapes)


def batch(rows, num_images=1, text_len=8, vocab_size=24, seed=0):
  """Makes a batch of random images and texts.

  Args:
    rows: list of (images, prefix, suffix): which images are shown, a tuple of
      num_images bools, and the lengths of both texts.
    num_images: int, M.
    text_len: int, L.
    vocab_size: int; tokens of a row differ as far as it has enough of them,
      padding included.
    seed: int.

  Returns:
    The batch of `pg/data/prefix_lm.py`, without `source`.
  """
  rng = np.random.default_rng(seed)
  at = np.arange(text_len)
  ids = [np.resize(rng.permutation(vocab_size), text_len) for _ in rows]
  given = np.array([[prefix] for _, prefix, _ in rows])
  real = given + np.array([[suffix] for _, _, suffix in rows])
  side = IMG.res
  shape = (len(rows), num_images, side, side, 3)
  return dict(
    image=rng.integers(0, 256, shape, np.uint8),
    mask_image=np.array([shown for shown, _, _ in rows]),
    tokens=np.stack(ids).astype(np.int32),
    mask_input=at < real,
    mask_ar=at >= given,
    mask_loss=(at >= given) & (at < real),
    index=np.arange(len(rows), dtype=np.int32),
  )


def logits(cfg, params, hidden):
  """Maps hidden states [..., D] to f32[..., V], as all of the program does."""
  table = params["llm"]["embedder"]["input_embedding"]
  return gemma.vocabulary_logits(hidden, table, cfg.llm.final_softcap)


def inputs(batch):
  """Returns what the model takes of a batch."""
  keys = ("image", "mask_image", "tokens", "mask_input", "mask_ar")
  return {k: batch[k] for k in keys}
