"""The mapping between our tensors and those of Hugging Face files: `TABLE`.

Dimensions: D width, F mlp width, N query heads, K key/value heads, H head dim,
I image tokens, V vocabulary.
"""

import re
from typing import NamedTuple

import numpy as np

from pg.weights import tensors


class Layout(NamedTuple):
  """How Hugging Face lays out one layer of a tensor, both directions."""

  to_hf: object  # function of our array
  from_hf: object  # function of their array and our shape


FLAT = Layout(lambda x: x.reshape(-1), lambda y, s: y.reshape(s))
ROWS = Layout(lambda x: x.reshape(-1, x.shape[-1]), lambda y, s: y.reshape(s))
# Kernels: D, ... -> (..., D) and ..., D -> (D, ...).
IN = Layout(lambda x: x.reshape(x.shape[0], -1).T, lambda y, s: y.T.reshape(s))
OUT = Layout(
  lambda x: x.reshape(-1, x.shape[-1]).T, lambda y, s: y.T.reshape(s)
)
# N, D, H -> (N * H, D)
HEADS = Layout(
  lambda x: x.transpose(0, 2, 1).reshape(-1, x.shape[1]),
  lambda y, s: y.reshape(s[0], s[2], s[1]).transpose(0, 2, 1),
)
# Height, width, 3, D -> (D, 3, height, width)
CONV = Layout(
  lambda x: x.transpose(3, 2, 0, 1), lambda y, _: y.transpose(2, 3, 1, 0)
)

_V = "vision_tower.vision_model"
_L = "language_model.model"
_BLOCK, _ATTN = "img/Transformer/encoderblock", "MultiHeadDotProductAttention_0"
_VB, _LB = f"{_V}.encoder.layers.*", f"{_L}.layers.*"
EMBEDDING = "llm/embedder/input_embedding"


def _pair(ours, theirs, kernel=None):
  """Yields the rows of a layer with a bias; a norm has a scale, no kernel."""
  name = f"{ours}/kernel" if kernel else f"{ours}/scale"
  yield name, (f"{theirs}.weight",), kernel or FLAT
  yield f"{ours}/bias", (f"{theirs}.bias",), FLAT


# Ours, theirs on the hub ("*" is the layer), and the layout of one layer of
# theirs. Several of theirs are stacked on the first axis in ours.
TABLE = (
  *_pair("img/embedding", f"{_V}.embeddings.patch_embedding", CONV),
  ("img/pos_embedding", (f"{_V}.embeddings.position_embedding.weight",), ROWS),
  *_pair(f"{_BLOCK}/LayerNorm_0", f"{_VB}.layer_norm1"),
  *_pair(f"{_BLOCK}/{_ATTN}/query", f"{_VB}.self_attn.q_proj", IN),
  *_pair(f"{_BLOCK}/{_ATTN}/key", f"{_VB}.self_attn.k_proj", IN),
  *_pair(f"{_BLOCK}/{_ATTN}/value", f"{_VB}.self_attn.v_proj", IN),
  *_pair(f"{_BLOCK}/{_ATTN}/out", f"{_VB}.self_attn.out_proj", OUT),
  *_pair(f"{_BLOCK}/LayerNorm_1", f"{_VB}.layer_norm2"),
  *_pair(f"{_BLOCK}/MlpBlock_0/Dense_0", f"{_VB}.mlp.fc1", IN),
  *_pair(f"{_BLOCK}/MlpBlock_0/Dense_1", f"{_VB}.mlp.fc2", IN),
  *_pair("img/Transformer/encoder_norm", f"{_V}.post_layernorm"),
  *_pair("img/head", "multi_modal_projector.linear", IN),
  (EMBEDDING, (f"{_L}.embed_tokens.weight",), ROWS),
  # The first where there are fewer key/value heads, the third where not.
  ("llm/layers/attn/q_einsum/w", (f"{_LB}.self_attn.q_proj.weight",), HEADS),
  (
    "llm/layers/attn/kv_einsum/w",
    tuple(f"{_LB}.self_attn.{x}_proj.weight" for x in "kv"),
    HEADS,
  ),
  (
    "llm/layers/attn/qkv_einsum/w",
    tuple(f"{_LB}.self_attn.{x}_proj.weight" for x in "qkv"),
    HEADS,
  ),
  (
    "llm/layers/attn/attn_vec_einsum/w",
    (f"{_LB}.self_attn.o_proj.weight",),
    OUT,
  ),
  (
    "llm/layers/mlp/gating_einsum",
    (f"{_LB}.mlp.gate_proj.weight", f"{_LB}.mlp.up_proj.weight"),
    IN,
  ),
  ("llm/layers/mlp/linear", (f"{_LB}.mlp.down_proj.weight",), OUT),
  ("llm/final_norm/scale", (f"{_L}.norm.weight",), FLAT),
)
NORMS_1 = (
  ("pre_attention_norm", "input_layernorm"),
  ("pre_ffw_norm", "post_attention_layernorm"),
)
NORMS_2 = (
  ("pre_attention_norm", "input_layernorm"),
  ("post_attention_norm", "post_attention_layernorm"),
  ("pre_ffw_norm", "pre_feedforward_layernorm"),
  ("post_ffw_norm", "post_feedforward_layernorm"),
)

# Names of other versions -> those of the hub: in memory everything begins with
# `model.`, and 5.x dropped a level of both towers. Gemma alone has no
# `language_model.`, SigLIP alone no `vision_tower.`, and its image tower alone,
# written by 5.x, no `vision_model.` either.
_RENAMED = (
  (r"model\.(?=language_model|vision_tower|multi_modal)", ""),
  (r"language_model\.(?=layers|norm|embed_tokens)", "language_model.model."),
  (r"model\.(?=layers|norm|embed_tokens)", "language_model.model."),
  (r"vision_model\.", f"{_V}."),
  (r"(?=(embeddings|encoder|post_layernorm|head)\.)", f"{_V}."),
  (r"vision_tower\.(?=embeddings|encoder|post_l|head)", f"{_V}."),
  (r"lm_head\.", "language_model.lm_head."),
)
# What torch.compile, DDP, FSDP, checkpointing and PEFT put around a module.
_AROUND = (
  r"(?:^|(?<=\.))(?:_orig_mod|module|_\w+_wrapped_module)\.",
  r"^base_model\.model\.",
)


def rows_of(cfg):
  """Returns {our name: (their names, layout)} of one model, in their order."""
  norms = NORMS_2 if cfg.llm.post_norms else NORMS_1
  rows = TABLE + tuple(
    (f"llm/layers/{ours}/scale", (f"{_LB}.{theirs}.weight",), FLAT)
    for ours, theirs in norms
  )
  names = tensors.shapes(cfg)
  return {ours: (hub, layout) for ours, hub, layout in rows if ours in names}


def hub_name(name):
  """Returns the hub's name of a tensor, given any version's or wrapper's."""
  for regex in _AROUND:
    name = re.sub(regex, "", name)
  for regex, new in _RENAMED:
    name = re.sub(f"^{regex}", new, name)
  return name


def plan(cfg, num_rows):
  """Lists what a folder holds, in the order in which it is written.

  Args:
    cfg: paligemma.Config.
    num_rows: int, rows of their embedding.

  Yields:
    (our name, layer or None, {their name: their shape}); an ordinary layer is
    complete before the next one begins.
  """
  table, shapes = rows_of(cfg), tensors.shapes(cfg)

  def entry(name, layer):
    hub, layout = table[name]
    shape = shapes[name].shape[layer is not None :]
    one = np.empty(shape[len(hub) > 1 :], "V0")  # a shape without memory
    theirs = layout.to_hf(one).shape
    if name == EMBEDDING:
      theirs = (num_rows, *theirs[1:])
    return name, layer, {h.replace("*", str(layer)): theirs for h in hub}

  for tower, depth in (("img/", cfg.img.depth), ("llm/", cfg.llm.depth)):
    names = [name for name in table if name.startswith(tower)]
    yield from (entry(n, None) for n in names if not tensors.is_stacked(n))
    for layer in range(depth):
      yield from (entry(n, layer) for n in names if tensors.is_stacked(n))
