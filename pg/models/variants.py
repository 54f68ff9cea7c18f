"""The sizes of the released models and their towers, and small ones, by name.

`pg2_3b` is a PaliGemma 2, `b16+gemma2_2b` one of any tower and decoder here.
"""

import dataclasses
import functools

import jax

from pg import config
from pg.models import gemma, layers, paligemma, siglip

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
_B = dict(width=768, depth=12, mlp_dim=3072, num_heads=12)
_GEMMA2 = gemma.Config(post_norms=True, attn_softcap=50.0, final_softcap=30.0)
_gemma2 = functools.partial(dataclasses.replace, _GEMMA2)

# The towers of SigLIP and SigLIP 2 with a fixed resolution, by size and patch,
# see big_vision's models/vit.py.
TOWERS = {
  "b32": siglip.Config(**_B, patch=32),
  "b16": siglip.Config(**_B, patch=16),
  "l16": siglip.Config(
    width=1024, depth=24, mlp_dim=4096, num_heads=16, patch=16
  ),
  "so400m14": siglip.Config(),
  "so400m16": siglip.Config(patch=16),
  "g16": siglip.Config(  # "g-opt"
    width=1536, depth=40, mlp_dim=6144, num_heads=16, patch=16
  ),
}
# Gemma's generations 1 and 2.
DECODERS = {
  "gemma_2b": gemma.Config(),
  "gemma_7b": gemma.Config(
    width=3072, depth=28, mlp_dim=24_576, num_heads=16, num_kv_heads=16
  ),
  "gemma2_2b": _gemma2(width=2304, depth=26, mlp_dim=9216, num_kv_heads=4),
  "gemma2_9b": _gemma2(
    width=3584, depth=42, mlp_dim=14336, num_heads=16, num_kv_heads=8
  ),
  "gemma2_27b": _gemma2(
    width=4608,
    depth=46,
    mlp_dim=36864,
    num_heads=32,
    num_kv_heads=16,
    head_dim=128,
    query_scale=(4608 / 32) ** -0.5,
  ),
}


def _of(tower, decoder):
  return paligemma.Config(TOWERS[tower], DECODERS[decoder])


VARIANTS = {
  # PaliGemma 1 and 2.
  "pg1_3b": _of("so400m14", "gemma_2b"),
  "pg2_3b": _of("so400m14", "gemma2_2b"),
  "pg2_10b": _of("so400m14", "gemma2_9b"),
  "pg2_28b": _of("so400m14", "gemma2_27b"),
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
  "nano_2m": paligemma.Config(  # of the model that comes with pg
    dataclasses.replace(_NANO_VIT, width=128, depth=4, mlp_dim=384),
    dataclasses.replace(_NANO, width=128, depth=4, mlp_dim=384),
  ),
  "nano_5m": paligemma.Config(
    dataclasses.replace(_NANO_VIT, width=256, depth=4, mlp_dim=768),
    dataclasses.replace(_NANO, width=256, depth=4, mlp_dim=768, head_dim=64),
  ),
}


def named(name):
  """Returns the paligemma.Config of a variant, or of TOWER+DECODER.

  Raises:
    ValueError: no such name.
  """
  tower, plus, decoder = name.partition("+")
  if not plus:
    return config.lookup(VARIANTS, name, "model variant")
  config.lookup(TOWERS, tower, "image tower")
  config.lookup(DECODERS, decoder, "decoder")
  return _of(tower, decoder)


def from_config(c, vocab_size=None):
  """Returns the paligemma.Config that a config file's `model` group describes.

  Args:
    c: mapping with `variant` (see `named`) and any of `res`, `dtype`, `remat`,
      `dropout`, `final_softcap`, `window`; None keeps the variant's own value.
    vocab_size: int or None, rows of the embedding; None keeps the variant's.

  Raises:
    ValueError: an unknown variant or key.
  """
  given = {k: v for k, v in dict(c).items() if v is not None}
  cfg = named(given.pop("variant"))
  config.lookup(layers.POLICIES, given.get("remat", "nothing"), "remat policy")
  groups = {"img": {}, "llm": {}, "": {}}
  for key, value in given.items():
    groups[config.lookup(_KEYS, key, "model key")][key] = value
  if vocab_size is not None:
    groups["llm"]["vocab_size"] = vocab_size
  dtype = groups[""].pop("dtype", None)
  cfg = dataclasses.replace(
    cfg,
    img=dataclasses.replace(cfg.img, **groups["img"]),
    llm=dataclasses.replace(cfg.llm, **groups["llm"]),
    **groups[""],
  )
  return with_dtype(cfg, compute_dtype(dtype)) if dtype else cfg


def with_dtype(cfg, dtype):
  """Returns a paligemma.Config that computes in a dtype, a str."""
  change = dict(float32_stream=dtype == "float16")
  return dataclasses.replace(
    cfg,
    img=dataclasses.replace(cfg.img, **change),
    llm=dataclasses.replace(cfg.llm, **change),
    dtype=dtype,
  )


def compute_dtype(name, device=None):
  """Returns the dtype of activations; None and "auto" choose by the device.

  That is float32 on a CPU, where bfloat16 is slow, float16 on a GPU that has no
  bfloat16 (compute capability below 8, such as a T4), and bfloat16 elsewhere.

  Args:
    name: str or None.
    device: what is compiled for; None is the first of this machine.
  """
  if name not in (None, "auto"):
    return DTYPES[name]
  device = device or jax.devices()[0]
  if device.platform == "cpu":
    return "float32"
  capability = getattr(device, "compute_capability", None)  # "7.5", of a GPU
  is_old = capability is not None and float(capability) < 8
  return "float16" if is_old else "bfloat16"


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
