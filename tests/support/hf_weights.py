"""A small PaliGemma of `transformers` in our terms: its config, its weights.

Written from the two sides' names alone and apart from pg/weights, so that a
wrong transpose there and here would have to be made twice.

Dimensions: D width, F mlp width, N query heads, K key/value heads, H head dim.
"""

import numpy as np

from pg import tree
from pg.models import gemma, paligemma, siglip


def config(hf):
  """Returns the paligemma.Config of a `transformers.PaliGemmaConfig`."""
  vision, text = hf.vision_config, hf.text_config
  llm = gemma.Config(
    width=text.hidden_size,
    depth=text.num_hidden_layers,
    mlp_dim=text.intermediate_size,
    num_heads=text.num_attention_heads,
    num_kv_heads=text.num_key_value_heads,
    head_dim=text.head_dim,
    vocab_size=text.vocab_size,
    **_generation_2(text),
  )
  img = siglip.Config(
    width=vision.hidden_size,
    depth=vision.num_hidden_layers,
    mlp_dim=vision.intermediate_size,
    num_heads=vision.num_attention_heads,
    patch=vision.patch_size,
    res=vision.image_size,
  )
  return paligemma.Config(img, llm)


def _generation_2(text):
  if text.model_type == "gemma":
    return {}
  return dict(
    post_norms=True,
    attn_softcap=text.attn_logit_softcapping,
    final_softcap=text.final_logit_softcapping or 0.0,
    query_scale=text.query_pre_attn_scalar**-0.5,
    window=text.sliding_window,
  )


def params(named, cfg):
  """Renames and reshapes weights, or their gradients.

  Args:
    named: dict of arrays, by the names of `model.named_parameters()`.
    cfg: paligemma.Config of the same sizes.

  Returns:
    Nested dict of arrays like `paligemma.shapes(cfg)`.
  """
  flat = {f"img/{k}": v for k, v in _vision(named, cfg.img).items()}
  flat |= {f"llm/{k}": v for k, v in _text(named, cfg.llm).items()}
  projector = "model.multi_modal_projector.linear"
  flat["img/head/kernel"] = named[f"{projector}.weight"].T
  flat["img/head/bias"] = named[f"{projector}.bias"]
  return tree.unflatten(flat)


def _vision(named, cfg):
  depth, D, N = cfg.depth, cfg.width, cfg.num_heads
  tower = "model.vision_tower"
  embedding = f"{tower}.embeddings.patch_embedding"
  position = named[f"{tower}.embeddings.position_embedding.weight"]
  flat = {
    "embedding/kernel": named[f"{embedding}.weight"].transpose(2, 3, 1, 0),
    "embedding/bias": named[f"{embedding}.bias"],
    "pos_embedding": position[None],
    "Transformer/encoder_norm/scale": named[f"{tower}.post_layernorm.weight"],
    "Transformer/encoder_norm/bias": named[f"{tower}.post_layernorm.bias"],
  }
  stack = _stacker(named, f"{tower}.encoder.layers", depth)
  attention = "MultiHeadDotProductAttention_0"
  head_in, head_out = (depth, D, N, D // N), (depth, N, D // N, D)
  for ours, theirs, kernel, bias in (
    (f"{attention}/query", "self_attn.q_proj", head_in, (depth, N, D // N)),
    (f"{attention}/key", "self_attn.k_proj", head_in, (depth, N, D // N)),
    (f"{attention}/value", "self_attn.v_proj", head_in, (depth, N, D // N)),
    (f"{attention}/out", "self_attn.out_proj", head_out, (depth, D)),
    (
      "MlpBlock_0/Dense_0",
      "mlp.fc1",
      (depth, D, cfg.mlp_dim),
      (depth, cfg.mlp_dim),
    ),
    ("MlpBlock_0/Dense_1", "mlp.fc2", (depth, cfg.mlp_dim, D), (depth, D)),
  ):
    name = f"Transformer/encoderblock/{ours}"
    weight = stack(f"{theirs}.weight").transpose(0, 2, 1)
    flat[f"{name}/kernel"] = weight.reshape(kernel)
    flat[f"{name}/bias"] = stack(f"{theirs}.bias").reshape(bias)
  for i in range(2):
    name = f"Transformer/encoderblock/LayerNorm_{i}"
    flat[f"{name}/scale"] = stack(f"layer_norm{i + 1}.weight")
    flat[f"{name}/bias"] = stack(f"layer_norm{i + 1}.bias")
  return flat


def _text(named, cfg):
  depth, N, K, H = cfg.depth, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim
  model = "model.language_model"
  stack = _stacker(named, f"{model}.layers", depth)
  turned = lambda name: stack(f"{name}.weight").transpose(0, 2, 1)

  def heads(name, num):  # [depth, num * H, D] -> [depth, num, D, H]
    weight = stack(f"self_attn.{name}.weight")
    return weight.reshape(depth, num, H, cfg.width).transpose(0, 1, 3, 2)

  q, k, v = heads("q_proj", N), heads("k_proj", K), heads("v_proj", K)
  flat = {
    "embedder/input_embedding": named[f"{model}.embed_tokens.weight"],
    "final_norm/scale": named[f"{model}.norm.weight"],
    "layers/attn/attn_vec_einsum/w": turned("self_attn.o_proj").reshape(
      depth, N, H, cfg.width
    ),
    "layers/mlp/gating_einsum": np.stack(
      [turned("mlp.gate_proj"), turned("mlp.up_proj")], axis=1
    ),
    "layers/mlp/linear": turned("mlp.down_proj"),
  }
  if K == N:
    flat["layers/attn/qkv_einsum/w"] = np.stack([q, k, v], axis=1)
  else:
    flat["layers/attn/q_einsum/w"] = q
    flat["layers/attn/kv_einsum/w"] = np.stack([k, v], axis=1)
  for ours, theirs in (_NORMS_2 if cfg.post_norms else _NORMS_1).items():
    flat[f"layers/{ours}/scale"] = stack(f"{theirs}.weight")
  return flat


_NORMS_1 = {
  "pre_attention_norm": "input_layernorm",
  "pre_ffw_norm": "post_attention_layernorm",
}
_NORMS_2 = {
  "pre_attention_norm": "input_layernorm",
  "post_attention_norm": "post_attention_layernorm",
  "pre_ffw_norm": "pre_feedforward_layernorm",
  "post_ffw_norm": "post_feedforward_layernorm",
}


def _stacker(named, layers, depth):
  return lambda name: np.stack(
    [named[f"{layers}.{i}.{name}"] for i in range(depth)]
  )
