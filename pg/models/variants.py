"""The sizes of the released models, and small ones, by name."""

import dataclasses
import functools

import jax

from pg import config
from pg.models import gemma, layers, paligemma, siglip

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
_GEMMA2 = gemma.Config(post_norms=True, attn_softcap=50.0, final_softcap=30.0)
_gemma2 = functools.partial(dataclasses.replace, _GEMMA2)

VARIANTS = {
  # PaliGemma 1: Gemma 2B.
  "pg1_3b": paligemma.Config(_SO400M, gemma.Config()),
  # PaliGemma 2: Gemma 2 2B, 9B and 27B.
  "pg2_3b": paligemma.Config(
    _SO400M, _gemma2(width=2304, depth=26, mlp_dim=9216, num_kv_heads=4)
  ),
  "pg2_10b": paligemma.Config(
    _SO400M,
    _gemma2(width=3584, depth=42, mlp_dim=14336, num_heads=16, num_kv_heads=8),
  ),
  "pg2_28b": paligemma.Config(
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
  "nano": paligemma.Config(_NANO_VIT, _NANO),
  "nano2": paligemma.Config(
    _NANO_VIT,
    dataclasses.replace(
      _NANO,
      num_kv_heads=2,
      post_norms=True,
      attn_softcap=50.0,
      final_softcap=30.0,
    ),
  ),
  "nano_5m": paligemma.Config(
    dataclasses.replace(_NANO_VIT, width=256, depth=4, mlp_dim=768),
    dataclasses.replace(_NANO, width=256, depth=4, mlp_dim=768, head_dim=64),
  ),
}


def from_config(c, vocab_size=None):
  """Returns the paligemma.Config that a config file's `model` group describes.

  Args:
    c: mapping with `variant` and any of `res`, `dtype`, `remat`, `dropout`,
      `final_softcap`, `window`; None keeps the variant's own value.
    vocab_size: int or None, rows of the embedding; None keeps the variant's.

  Raises:
    ValueError: an unknown variant or key.
  """
  given = {k: v for k, v in dict(c).items() if v is not None}
  cfg = config.lookup(VARIANTS, given.pop("variant"), "model variant")
  config.lookup(layers.POLICIES, given.get("remat", "nothing"), "remat policy")
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


def compute_dtype(name, platform=None):
  """Returns the dtype of activations; None and "auto" choose by the device.

  That is float32 on a CPU, where bfloat16 is slow, and bfloat16 elsewhere.

  Args:
    name: str or None.
    platform: str, of what is compiled for; None is that of this machine.
  """
  if name not in (None, "auto"):
    return DTYPES[name]
  platform = platform or jax.default_backend()
  return "float32" if platform == "cpu" else "bfloat16"


# What users write -> the dtype of activations.
DTYPES = {
  "bfloat16": "bfloat16",
  "bf16": "bfloat16",
  "float16": "float16",
  "f16": "float16",
  "float32": "float32",
  "f32": "float32",
}
# Which part of the model a config's key belongs to.
_KEYS = {
  "res": "img",
  "dropout": "llm",
  "final_softcap": "llm",
  "window": "llm",
  "dtype": "",
  "remat": "",
}
