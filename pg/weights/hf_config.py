"""The JSON files of a Hugging Face folder, and what they say about a model.

What a `config.json` leaves out has the default of transformers' config classes.
"""

import json
import math
import os
import re

from pg import config
from pg.codecs import tokenizer
from pg.models import gemma, paligemma, siglip
from pg.pp import flavours

_TEXT = {
  "gemma": dict(
    vocab_size=256_000,
    hidden_size=3072,
    intermediate_size=24_576,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=16,
    head_dim=256,
  ),
  "gemma2": dict(
    vocab_size=256_000,
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=26,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    query_pre_attn_scalar=256,
    sliding_window=4096,
    attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0,
  ),
}
_VISION = dict(
  hidden_size=768,
  intermediate_size=3072,
  num_hidden_layers=12,
  num_attention_heads=12,
  patch_size=16,
  image_size=224,
)
# Our sizes of a tower, and what they are called there.
_LLM = dict(
  width="hidden_size",
  mlp_dim="intermediate_size",
  depth="num_hidden_layers",
  num_heads="num_attention_heads",
  num_kv_heads="num_key_value_heads",
  head_dim="head_dim",
)
_IMG = {k: v for k, v in _LLM.items() if k not in ("num_kv_heads", "head_dim")}
_IMG |= dict(patch="patch_size", res="image_size")
_KINDS = dict(img=("siglip", "siglip_vision_model"), llm=("gemma", "gemma2"))
_TOWER = (
  "; a tower alone is named as img=... or llm=..., see pg/weights/load.py"
)
_HINTS = {kind: _TOWER for kinds in _KINDS.values() for kind in kinds} | {
  "siglip2": "; that is a NaFlex model, whose images have no fixed size: take"
  " one with a fixed resolution, such as google/siglip2-so400m-patch14-224"
}
# Of Pillow's numbers for a method, those that a processor's "resample" may be.
_RESAMPLE = {2: "bilinear", 3: "bicubic"}
# The settings that this model does not read as sizes, and the values that it
# computes. Any other key says something that it has not, unless it is off, or
# `_INERT`: about training, generation or the file.
_GELU = ("gelu_pytorch_tanh", "gelu_fast", "gelu_new")
_LEGACY = (*_GELU, "gelu")  # of Gemma's first files: read as tanh, or not read
_ROPE = dict(
  rope_theta=(1e4,),
  rope_type=("default",),
  type=("default",),
  partial_rotary_factor=(1,),
)
_GEMMA = dict(
  _ROPE, hidden_act=_LEGACY, hidden_activation=_GELU, rms_norm_eps=(1e-6,)
)
_ONLY = {
  "gemma": _GEMMA,
  "gemma2": dict(_GEMMA, sliding_window_pattern=(2,)),
  "vision": dict(hidden_act=_GELU, layer_norm_eps=(1e-6,), num_channels=(3,)),
  "paligemma": dict(vision_feature_layer=(-1,)),
}
_FRACTIONS = (  # the other sizes are counts
  "query_pre_attn_scalar",
  "attn_logit_softcapping",
  "final_logit_softcapping",
)
_OPTIONAL = (  # sizes whose null is a value
  "sliding_window",
  "attn_logit_softcapping",
  "final_logit_softcapping",
)
# What one size may be: a model of a billion layers is a mistake, or an attack.
_MOST, _MOST_LAYERS = 1 << 24, 1000
_NESTED = ("rope_scaling", "rope_parameters")
_GROUPS = ("text_config", "vision_config")
_INERT = re.compile(
  r"_.*|unsloth_.*|.*_token_(id|index)|.*_version|.*dropout|.*dtype|license"
  r"|(hidden|vocab)_size|projection_dim|projector_hidden_act|vision_use_head"
  r"|(max_position_embedding|num_image_token|num_label)s|sliding_window_size"
  r"|model_type|architectures|problem_type|(id2|label2)\w+|tokenizer_class"
  r"|initializer_\w+|tie_word_embeddings|gradient_checkpointing|ignore_index"
  r"|use_cache|cache_implementation|attn_implementation|(use_)?return_dict"
  r"|output_\w+|(max|min)_(new_)?(length|tokens)|num_beam(_group)?s|do_sample"
  r"|num_return_sequences|temperature|top_[kp]|typical_p|\w+_penalty"
  r"|name_or_path"
)


def read(folder, tower=None):
  """Reads the `config.json` of a folder into a dict, as PaliGemma's are.

  Args:
    folder: str.
    tower: "img" takes a SigLIP's too, "llm" a Gemma's; None only a PaliGemma's.

  Raises:
    ValueError: there is none, it is not JSON, or of another model.
  """
  path = os.path.join(folder, "config.json")
  try:
    with open(path, encoding="utf-8") as f:
      raw = json.load(f)
  except (FileNotFoundError, NotADirectoryError) as error:
    raise ValueError(
      f"no config.json in {folder}; wanted a Hugging Face folder with it and"
      " *.safetensors"
    ) from error
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{path} is not JSON: {error}") from error
  if isinstance(raw, dict):
    _check_kinds(raw, path)
  kind = raw.get("model_type") if isinstance(raw, dict) else raw
  if kind == "paligemma":
    return raw
  if tower == "img" and kind == "siglip":
    return dict(vision_config=raw.get("vision_config", {}))
  if tower == "img" and kind == "siglip_vision_model":
    return dict(vision_config=raw)
  if tower == "llm" and kind in _TEXT:
    return dict(text_config=raw)
  wanted = ["paligemma", *_KINDS.get(tower, ())]
  raise ValueError(
    f"{path}: wanted model_type {' or '.join(wanted)}, found {kind!r}"
    f"{_HINTS.get(kind, '')}"
  )


def _check_kinds(raw, path):
  """Raises ValueError where a value is of another kind than it has to be."""
  kinds = dict.fromkeys((*_GROUPS, *_NESTED), dict) | dict(
    model_type=str, image_token_index=int
  )
  groups = [raw, *(raw[k] for k in _GROUPS if isinstance(raw.get(k), dict))]
  for group in groups:
    for key, kind in kinds.items():
      null = key in _NESTED and group.get(key) is None
      if key in group and not (null or isinstance(group[key], kind)):
        raise ValueError(
          f"{path}: wanted {kind.__name__} as {key}, got"
          f" {str(group[key])[:80]!r}"
        )


def config_of(raw):
  """Returns the paligemma.Config that a `config.json` describes.

  Args:
    raw: dict, as `read` returns it.

  Raises:
    ValueError: a decoder that is neither Gemma nor Gemma 2, or a setting that
      this model has not.
  """
  generation = raw.get("text_config", {}).get("model_type", "gemma")
  config.lookup(_TEXT, generation, "text_config model_type")
  _check_settings(raw, generation)
  text = _TEXT[generation] | _said(raw.get("text_config", {}))
  vision = _VISION | _said(raw.get("vision_config", {}))
  llm = {ours: text[theirs] for ours, theirs in _LLM.items()}
  if generation == "gemma2":
    llm |= _second_generation(text)
  img = {ours: vision[theirs] for ours, theirs in _IMG.items()}
  # What is left at the edges is not seen: 6 of the 384 pixels of So400m/14.
  img["res"] -= img["res"] % img["patch"] * (img["res"] > img["patch"])
  for sizes, large, small in (
    (llm, "num_heads", "num_kv_heads"),
    (img, "width", "num_heads"),
  ):
    if sizes[large] % sizes[small]:
      raise ValueError(
        f"config.json: {large} {sizes[large]} is no multiple of {small}"
        f" {sizes[small]}"
      )
  return paligemma.Config(
    siglip.Config(**img), gemma.Config(**llm, vocab_size=_vocab_size(raw))
  )


def num_rows(raw):
  """Returns the rows of a folder's embedding, padding included."""
  text = raw.get("text_config", {})
  generation = _TEXT[text.get("model_type", "gemma")]
  return text.get("vocab_size", generation["vocab_size"])


def as_stored(raw, rows):
  """Returns a `config.json` that says what its files hold.

  SigLIP's own pooling head, which PaliGemma has no use for, is left out. The
  rows of an embedding may be fewer or more than the file says, if every token
  has one: padding was cut off, or tokens were added.

  Args:
    raw: dict, as `read` returns it.
    rows: int or None, of the embedding.
  """
  if raw.get("model_type") != "paligemma":
    return raw
  text, vision = ({**raw.get(group, {})} for group in _GROUPS)
  vision["vision_use_head"] = False
  if rows and rows >= raw.get("image_token_index", math.inf):
    text["vocab_size"] = rows
  return raw | dict(text_config=text, vision_config=vision)


def padded(vocab_size):
  """Returns the rows for a vocabulary, `<image>` and padding to 64.

  257152 gives 257216.
  """
  return (vocab_size // 64 + 1) * 64


def raw_of(cfg):
  """Returns the `config.json` of a model, as the released ones are.

  Args:
    cfg: paligemma.Config.

  Raises:
    ValueError: a model that transformers has not.
  """
  llm, img = cfg.llm, cfg.img
  _check_generation(llm)
  text = dict(
    model_type="gemma2" if llm.post_norms else "gemma",
    **{theirs: getattr(llm, ours) for ours, theirs in _LLM.items()},
    vocab_size=padded(llm.vocab_size),
    num_image_tokens=img.num_tokens,
    hidden_activation="gelu_pytorch_tanh",
    **(_raw_second_generation(llm) if llm.post_norms else {}),
  )
  vision = dict(
    model_type="siglip_vision_model",
    **{theirs: getattr(img, ours) for ours, theirs in _IMG.items()},
    num_image_tokens=img.num_tokens,
    projection_dim=llm.width,
    projector_hidden_act="gelu_fast",
    vision_use_head=False,
  )
  return dict(
    architectures=["PaliGemmaForConditionalGeneration"],
    model_type="paligemma",
    bos_token_id=2,
    eos_token_id=1,
    pad_token_id=0,
    ignore_index=-100,
    image_token_index=llm.vocab_size,
    hidden_size=llm.width,
    projection_dim=llm.width,
    vocab_size=llm.vocab_size,
    text_config=text,
    vision_config=vision,
  )


def at_resolution(raw, img):
  """Returns a `config.json` for images of another size, that of `img`."""
  vision = dict(image_size=img.res, num_image_tokens=img.num_tokens)
  text = dict(num_image_tokens=img.num_tokens)
  return raw | dict(
    vision_config=raw.get("vision_config", {}) | vision,
    text_config=raw.get("text_config", {}) | text,
  )


def preprocessor_config(img, pp):
  """Returns the `preprocessor_config.json` of a model.

  Where its keys cannot say exactly what the images were, as of big_vision's
  decoding and rounding, there is another one, "pp", that transformers keeps and
  does not look at; `resample` is what comes nearest.

  Args:
    img: siglip.Config.
    pp: str, how the model sees images, see pg/pp/flavours.py.
  """
  bilinear = flavours.method(pp) == "bilinear"
  known = dict(
    processor_class="PaliGemmaProcessor",
    image_processor_type="SiglipImageProcessor",
    image_seq_length=img.num_tokens,
    size=dict(height=img.res, width=img.res),
    do_convert_rgb=True,
    do_resize=True,
    resample=2 if bilinear else 3,
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=True,
    image_mean=[0.5, 0.5, 0.5],
    image_std=[0.5, 0.5, 0.5],
  )
  return known if _pp_of(known, img.res) == pp else known | dict(pp=pp)


def pp(folder, res):
  """Returns how a folder's processor sees images, see pg/pp/flavours.py.

  Args:
    folder: str; None is returned where it has no file of a processor.
    res: int, pixels per side that the model takes.

  Raises:
    ValueError: the file is not JSON, or names a way that there is not here.
  """
  for name, part in (
    ("preprocessor_config.json", None),
    ("processor_config.json", "image_processor"),  # since transformers 5
  ):
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
      continue
    try:
      with open(path, encoding="utf-8") as f:
        known = json.load(f)
      known = known.get(part) if part else known
      if known is not None:
        return _pp_of(known, res)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
      raise ValueError(f"{path}: {error}") from error
  return None


def _pp_of(known, res):
  """Returns the pipeline string of a `preprocessor_config.json`."""
  if "pp" in known:
    return known["pp"]
  resample = known.get("resample", 3)
  if resample not in _RESAMPLE:
    names = ", ".join(f"{k} ({v})" for k, v in _RESAMPLE.items())
    raise ValueError(f"resample is {resample}; wanted one of {names}")
  way = flavours.named("hf", res)
  if _RESAMPLE[resample] == "bicubic":
    return way
  return way.replace("'hf')", "'hf', method='bilinear')")


def _vocab_size(raw):
  """Returns how many rows are tokens of ours: those before `<image>`.

  Behind it are padding and tokens that were added. Where there are as many as
  `<loc>` and `<seg>` it is no end: transformers' default is 256,000.
  """
  rows = num_rows(raw)
  image = raw.get("image_token_index", rows)
  is_end = image > 0 and 0 <= rows - image < len(tokenizer.ADDED)
  return image if is_end else rows


def _second_generation(text):
  scalar, window = text["query_pre_attn_scalar"], text["sliding_window"]
  default = scalar == text["head_dim"]
  return dict(
    post_norms=True,
    attn_softcap=text["attn_logit_softcapping"] or 0.0,
    final_softcap=text["final_logit_softcapping"] or 0.0,
    query_scale=None if default else scalar**-0.5,
    window=window,
  )


def _raw_second_generation(llm):
  scalar = llm.head_dim if llm.query_scale is None else llm.query_scale**-2
  if math.isclose(scalar, round(scalar), rel_tol=1e-9):
    scalar = round(scalar)  # 144 of the 28B, through its square root and back
  return dict(
    query_pre_attn_scalar=scalar,
    # Where we look everywhere, what the released files say: it is the same up
    # to 4096 tokens.
    sliding_window=_TEXT["gemma2"]["sliding_window"]
    if llm.window is None
    else llm.window,
    attn_logit_softcapping=llm.attn_softcap or None,
    final_logit_softcapping=llm.final_softcap or None,
  )


def _check_generation(llm):
  if llm.post_norms:
    return
  wrong = [
    f"{key}={value}"
    for key in ("attn_softcap", "final_softcap", "query_scale", "window")
    if (value := getattr(llm, key))
  ]
  if wrong:
    raise ValueError(
      f"transformers' Gemma 1 has no {', '.join(wrong)}; set them to 0 or None,"
      " or write npz"
    )


def _said(group):
  """Returns what a group of settings says; null is the default."""
  return {k: v for k, v in group.items() if v is not None or k in _OPTIONAL}


def _check_settings(raw, generation):
  """Raises ValueError listing every setting that is not computed here."""
  text, own = raw.get("text_config", {}), dict(_ONLY[generation])
  if generation == "gemma2" and isinstance(text.get("layer_types"), list):
    order = ["sliding_attention", "full_attention"] * len(text["layer_types"])
    own["layer_types"] = (order[: len(order) // 2],)
  # PaliGemma has the mask of a prefix, and a Gemma alone the causal one.
  own["use_bidirectional_attention"] = (raw.get("model_type") == "paligemma",)
  whole = {k: v for k, v in raw.items() if k not in _GROUPS}
  wrong = [
    *_others(whole, "", {}, _ONLY["paligemma"]),
    *_others(text, "text_config.", _TEXT[generation], own),
    *_others(
      raw.get("vision_config", {}), "vision_config.", _VISION, _ONLY["vision"]
    ),
  ]
  if wrong:
    raise ValueError(
      f"config.json has settings that this model has not: {', '.join(wrong)};"
      " what changes nothing that is computed can be taken out of the file"
    )


def _others(group, name, sizes, only):
  """Yields the settings of a group that are neither computed nor inert."""
  found = list(group.items())
  for key in _NESTED:
    found += (group.get(key) or {}).items()
  for key, value in found:
    if key in sizes:
      most = _MOST_LAYERS if key == "num_hidden_layers" else _MOST
      kinds = (int, float) if key in _FRACTIONS else int
      fine = value is None or isinstance(value, kinds) and 0 < value <= most
    elif key in only:
      fine = value is None or value in only[key]
    else:
      fine = not value or key in _NESTED or _INERT.fullmatch(key)
    if not fine:
      yield f"{name}{key}={str(value)[:80]}"
