"""Published sizes have the parameters of `transformers`' models, none drawn.

Needs requirements-parity.txt; run it with `pytest -m parity`.
"""

import pytest

from pg.models import variants
from pg.weights import hf_config, hf_names, tensors

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

# As in the `config.json` files on Hugging Face.
_B = dict(
  hidden_size=768,
  intermediate_size=3072,
  num_hidden_layers=12,
  num_attention_heads=12,
)
_SO400M = dict(
  hidden_size=1152,
  intermediate_size=4304,
  num_hidden_layers=27,
  num_attention_heads=16,
)
VISION = {
  "b32": dict(_B, patch_size=32, image_size=256),
  "b16": dict(_B, patch_size=16, image_size=512),
  "l16": dict(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    patch_size=16,
    image_size=384,
  ),
  "so400m14": dict(_SO400M, patch_size=14, image_size=384),
  "so400m16": dict(_SO400M, patch_size=16, image_size=256),
  "g16": dict(
    hidden_size=1536,
    intermediate_size=6144,
    num_hidden_layers=40,
    num_attention_heads=16,
    patch_size=16,
    image_size=384,
  ),
}


def ours(cfg, tower):
  """Returns {their name: shape} of a tower, as we would write it."""
  rows = hf_names.plan(cfg, cfg.llm.vocab_size)
  found = {}
  for name, _, hub in rows:
    if tensors.within(name, tower):
      found |= hub
  return found


def theirs(made):
  return {
    hf_names.hub_name(k): tuple(x.shape) for k, x in made.named_parameters()
  }


@pytest.mark.parametrize("tower", variants.TOWERS)
def test_image_towers_have_the_tensors_of_theirs(tower):
  vision = transformers.SiglipVisionConfig(
    **VISION[tower], vision_use_head=False
  )
  with torch.device("meta"):
    made = transformers.SiglipVisionModel(vision)
  img = hf_config.config_of(dict(vision_config=VISION[tower])).img
  name = dict(variant=f"{tower}+gemma_2b", res=img.res)
  cfg = variants.from_config(name)
  assert cfg.img == img
  assert ours(cfg, "img") == theirs(made)


@pytest.mark.parametrize("decoder", variants.DECODERS)
def test_decoders_have_the_tensors_of_theirs(decoder):
  cfg = variants.from_config(dict(variant=f"b16+{decoder}"), 256_000)
  text = dict(hf_config.raw_of(cfg)["text_config"], vocab_size=256_000)
  kind = dict(gemma="Gemma", gemma2="Gemma2")[text.pop("model_type")]
  config = getattr(transformers, f"{kind}Config")(**text)
  with torch.device("meta"):
    made = getattr(transformers, f"{kind}ForCausalLM")(config)
  assert ours(cfg, "llm") == theirs(made)


def test_the_defaults_of_their_classes_are_the_sizes_that_they_name():
  for name, config in (
    ("gemma_7b", transformers.GemmaConfig()),
    ("gemma2_2b", transformers.Gemma2Config()),
  ):
    text = dict(config.to_dict(), use_bidirectional_attention=None)
    found = vars(hf_config.config_of(dict(text_config=text)).llm)
    want = vars(variants.DECODERS[name])
    assert {k for k in want if found[k] != want[k]} <= {"vocab_size", "window"}
