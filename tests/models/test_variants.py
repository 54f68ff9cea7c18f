"""Sizes by name: every published image tower and decoder, and both together."""

import itertools
import json
import math

import jax
import numpy as np
import pytest

from pg import tree
from pg.models import paligemma, siglip, variants
from pg.weights import hf_config, npz, tensors

# (tower, pixels): parameters without the pooling head, as those of SigLIP in
# transformers (tests/test_parity_sizes.py). They round to the 86M, 303M and
# 400M of SigLIP 2, arXiv:2502.14786; of g16 with its head, 28,329,984 more, it
# is half the bytes of siglip2-giant-opt-patch16-384-ONNX in float16.
TOWERS = {
  ("b32", 256): 87_465_216,
  ("b16", 224): 85_797_120,
  ("b16", 512): 86_433_024,
  ("l16", 256): 303_361_024,
  ("l16", 384): 303_688_704,
  ("so400m14", 224): 412_442_352,
  ("so400m14", 384): 412_987_248,
  ("so400m16", 512): 413_534_448,
  ("g16", 384): 2_327_319_552 // 2 - 28_329_984,
}
# With 256,000 rows: the metadata of the files on Hugging Face.
DECODERS = {
  "gemma_2b": 2_506_172_416,
  "gemma_7b": 8_537_680_896,
  "gemma2_2b": 2_614_341_888,
  "gemma2_9b": 9_241_705_984,
  "gemma2_27b": 27_227_128_320,
}
PAIRS = [
  f"{tower}+{decoder}"
  for tower, decoder in zip(variants.TOWERS, itertools.cycle(DECODERS))
]


def count(cfg, tower):
  shapes = tensors.shapes(cfg).items()
  return sum(math.prod(x.shape) for k, x in shapes if tensors.within(k, tower))


@pytest.mark.parametrize("tower, res", TOWERS)
def test_image_towers_have_the_published_numbers_of_parameters(tower, res):
  res -= res % variants.TOWERS[tower].patch
  cfg = variants.from_config(dict(variant=f"{tower}+gemma_2b", res=res))
  assert count(cfg, "img") == TOWERS[tower, res + 6 * (res == 378)]


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_have_the_published_numbers_of_parameters(decoder):
  cfg = variants.from_config(dict(variant=f"b16+{decoder}"), 256_000)
  assert count(cfg, "llm") == DECODERS[decoder]


def test_all_are_counted():
  assert {tower for tower, _ in TOWERS} == set(variants.TOWERS)
  assert set(DECODERS) == set(variants.DECODERS)


@pytest.mark.parametrize(
  "tower, res, num_tokens",
  [("b32", 256, 64), ("b16", 256, 256), ("g16", 384, 576), ("l16", 512, 1024)],
)
def test_an_image_has_a_token_for_each_patch(tower, res, num_tokens):
  cfg = variants.from_config(dict(variant=f"{tower}+gemma_2b", res=res))
  made = siglip.Tower(cfg.img, 8).init_with_output
  images = jax.ShapeDtypeStruct((2, res, res, 3), np.uint8)
  tokens, _ = jax.eval_shape(made, jax.random.key(0), images)
  assert tokens.shape == (2, num_tokens, 8)
  assert cfg.img.num_tokens == num_tokens


@pytest.mark.parametrize("name", PAIRS)
def test_sizes_come_back_from_shapes_and_from_json(name):
  cfg = variants.from_config(dict(variant=name, res=448))
  assert npz.config_of(tree.flatten(paligemma.shapes(cfg))) == cfg
  raw = json.loads(json.dumps(hf_config.raw_of(cfg)))
  again = hf_config.config_of(raw)
  assert again.img == cfg.img
  found, want = ({**vars(x.llm), "window": 0} for x in (again, cfg))
  assert found.pop("query_scale") == pytest.approx(want.pop("query_scale"))
  assert found == want
  assert raw["text_config"]["num_image_tokens"] == cfg.img.num_tokens


def test_pixels_that_no_patch_sees_are_left_off():
  vision = dict(image_size=384, patch_size=14, hidden_size=1152)
  vision |= dict(num_attention_heads=16)
  img = hf_config.config_of(dict(vision_config=vision)).img
  assert (img.res, img.num_tokens) == (378, 729)
  with pytest.raises(ValueError, match="res 8 is not a multiple of the 14"):
    hf_config.config_of(dict(vision_config=dict(vision, image_size=8)))


@pytest.mark.parametrize(
  "name, said",
  [
    ("b17+gemma_2b", 'unknown image tower "b17"; did you mean "b1'),
    ("b16+gemma_8b", 'unknown decoder "gemma_8b"; did you mean "gemma_'),
    ("b16", 'unknown model variant "b16"'),
  ],
)
def test_an_unknown_tower_or_decoder_gets_a_suggestion(name, said):
  with pytest.raises(ValueError, match=said):
    variants.from_config(dict(variant=name))
