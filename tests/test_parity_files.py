"""Files that `transformers` wrote are ours, and files of ours are theirs.

Small random models of both generations, in float32 on a CPU. Needs
requirements-parity.txt; run it with `pytest -m parity`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import convert, pp, tree
from pg.codecs import tokenizer
from pg.decode import loop
from pg.models import paligemma, siglip, variants
from pg.pp import parse
from pg.weights import hf, hf_config, load, npz, tensors
from tests.support import toy
from tests.weights.test_npz import assert_same, from_memory, read_all, specs_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TEXT = "caption en"
NANO = variants.VARIANTS["nano"]
NANO_2 = variants.VARIANTS["nano2"]
# Caps and a query scale that are felt.
LLM_2 = dataclasses.replace(
  NANO_2.llm,
  window=4096,
  query_scale=10**-0.5,
  attn_softcap=3.0,
  final_softcap=1.0,
)
MODELS = {
  "pg1": NANO,
  "pg1_all_kv_heads": dataclasses.replace(
    NANO, llm=dataclasses.replace(NANO.llm, num_kv_heads=4)
  ),
  # As SigLIP 2 with patches of 16 pixels, and Gemma 7B: as many key heads as
  # query heads, and they are together wider than the model.
  "b16+gemma_7b": dataclasses.replace(
    NANO,
    img=dataclasses.replace(NANO.img, patch=16, res=64),
    llm=dataclasses.replace(NANO.llm, num_kv_heads=4),
  ),
  "pg2": dataclasses.replace(NANO_2, llm=LLM_2),
  "pg2_no_final_softcap": dataclasses.replace(
    NANO_2, llm=dataclasses.replace(LLM_2, final_softcap=0.0)
  ),
}
each_model = pytest.mark.parametrize("model", MODELS)


def draw(cfg):
  """Draws parameters with a say of every part in every logit."""
  rng = np.random.default_rng(0)

  def one(name, x):
    noise = rng.standard_normal(x.shape, np.float32)
    if name.endswith(("bias", "scale")):
      return 0.3 * noise + (name.startswith("img") and name.endswith("scale"))
    return noise * np.float32(1.2 * x.shape[-2] ** -0.5)

  return tree.flatten(tree.map_named(one, paligemma.shapes(cfg)))


def image(cfg):
  shape = (cfg.img.res, cfg.img.res, 3)
  return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def ours(cfg, params):
  """Returns logits of the prompt f32[L, V], and eight greedy tokens."""
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  tokens = np.array([[tok.bos, *tok.encode(TEXT), *tok.sep]], np.int32)
  rows = dict(
    image=image(cfg)[None, None],
    mask_image=np.ones((1, 1), bool),
    tokens=tokens,
    mask_input=np.ones(tokens.shape, bool),
    mask_ar=np.zeros(tokens.shape, bool),
  )
  model, p = paligemma.PaliGemma(cfg), jax.tree.map(jnp.asarray, params)
  logits = jax.jit(
    lambda p: toy.logits(cfg, p, model.apply({"params": p}, **rows))
  )(p)
  answer = loop.generate(cfg, loop.unroll(p), rows, max_len=8, eos=-1)
  return np.asarray(logits[0]), np.asarray(answer.tokens[0])


def theirs(model, cfg, vocab_size):
  """Returns the same of a transformers model."""
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  text = [tok.bos, *tok.encode(TEXT), *tok.sep]
  ids = [model.config.image_token_id] * cfg.img.num_tokens + text
  pixels = image(cfg).astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
  inputs = dict(
    input_ids=torch.tensor([ids]),
    token_type_ids=torch.zeros((1, len(ids)), dtype=torch.long),
    attention_mask=torch.ones((1, len(ids)), dtype=torch.long),
    pixel_values=torch.from_numpy(pixels),
  )
  with torch.no_grad():
    # Without labels the prompt is all prefix, as ours.
    logits = model(**inputs).logits[0, cfg.img.num_tokens :]
    out = model.generate(
      **inputs, max_new_tokens=8, do_sample=False, eos_token_id=-1
    )
  return logits[:, :vocab_size].numpy(), out[0, len(ids) :].numpy()


def opened(folder):
  """Opens a folder with transformers; nothing may be missing or left over."""
  model, info = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
    folder, output_loading_info=True, dtype=torch.float32
  )
  assert not any(info[k] for k in info), info
  return model.eval()


def assert_agree(mine, other):
  assert other[0].std() > 0.2
  np.testing.assert_allclose(mine[0], other[0], rtol=0, atol=1e-4)
  np.testing.assert_array_equal(mine[1], other[1])


@each_model
def test_what_we_write_they_open_and_answer_alike(tmp_path, model):
  cfg = MODELS[model]
  flat = draw(cfg)
  (tmp_path / "hf").mkdir()
  hf.write(
    tmp_path / "hf", hf_config.raw_of(cfg), specs_of(flat), from_memory(flat)
  )
  their_model = opened(tmp_path / "hf")
  mine = ours(cfg, tree.unflatten(flat))
  assert_agree(mine, theirs(their_model, cfg, cfg.llm.vocab_size))


@each_model
def test_what_they_write_we_open_and_answer_alike(tmp_path, model):
  cfg = MODELS[model]
  flat = draw(cfg)
  (tmp_path / "a").mkdir()
  hf.write(
    tmp_path / "a", hf_config.raw_of(cfg), specs_of(flat), from_memory(flat)
  )
  their_model = opened(tmp_path / "a")
  their_model.save_pretrained(tmp_path / "b", max_shard_size="400KB")
  assert len(list((tmp_path / "b").glob("*.safetensors"))) > 1
  reader = hf.Reader(tmp_path / "b")
  assert reader.cfg == cfg
  params = read_all(reader, reader.cfg)
  assert_same(params, flat)
  mine = ours(reader.cfg, tree.unflatten(params))
  assert_agree(mine, theirs(their_model, cfg, cfg.llm.vocab_size))


@each_model
def test_their_files_come_back_from_npz_bit_by_bit(tmp_path, model):
  cfg = MODELS[model]
  raw = hf_config.raw_of(cfg)
  text = dict(raw["text_config"])
  kind = dict(gemma="GemmaConfig", gemma2="Gemma2Config")[text["model_type"]]
  config = transformers.PaliGemmaConfig(
    text_config=getattr(transformers, kind)(**text),
    vision_config=transformers.SiglipVisionConfig(**raw["vision_config"]),
    projection_dim=cfg.llm.width,
    image_token_index=cfg.llm.vocab_size,
  )
  made = transformers.PaliGemmaForConditionalGeneration(config)
  made.save_pretrained(tmp_path / "a")
  tok = tokenizer.NANO
  convert.convert(tmp_path / "a", tmp_path / "a.npz", "npz", model=tok)
  convert.convert(tmp_path / "a.npz", tmp_path / "b", "hf", check=True)
  want, got = made.state_dict(), opened(tmp_path / "b").state_dict()
  assert want.keys() == got.keys()
  for name, x in want.items():
    assert torch.equal(x, got[name]), name


def test_their_processor_opens_our_folder_with_our_ids(tmp_path):
  flat = draw(NANO)
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  tok = tokenizer.NANO
  convert.convert(tmp_path / "a.npz", tmp_path / "hf", "hf", model=tok)
  processor = transformers.AutoProcessor.from_pretrained(tmp_path / "hf")
  row = processor(
    text="<image>" + TEXT, images=image(NANO), return_tensors="np"
  )
  mine = tokenizer.Tokenizer(tok)
  want = [NANO.llm.vocab_size] * NANO.img.num_tokens
  want += [mine.bos, *mine.encode(TEXT), *mine.sep]
  assert row["input_ids"][0].tolist() == want
  pixels = image(NANO).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
  np.testing.assert_allclose(row["pixel_values"][0], pixels, atol=1e-6)
  for text in ("detect  cat ; <loc0012><seg003>\n", "été 猫 🙂", " a\n\nb"):
    got = processor.tokenizer.encode(text, add_special_tokens=False)
    assert got == mine.encode(text)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_their_processor_sees_an_image_as_our_flavour(tmp_path, method):
  way = f"decode(precise=True) | resize(48, flavour='hf', method='{method}')"
  hf.write_processor(tmp_path, NANO.img, way)
  # Pillow's, as in the flavour; with torchvision some values are 1 off.
  theirs = transformers.SiglipImageProcessorPil.from_pretrained(tmp_path)
  noise = np.random.default_rng(0).integers(256, size=(60, 90, 3))
  noise = noise.astype(np.uint8)
  got = theirs(noise, return_tensors="np")["pixel_values"][0]
  mine = parse.build(way)({"image": noise}, pp.Turn())["image"]
  pixels = mine.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
  np.testing.assert_allclose(got, pixels, atol=1e-6)
  assert hf_config.pp(tmp_path, 48) == way


@pytest.mark.parametrize(
  "whole, patch, res", [(True, 12, 48), (False, 12, 48), (False, 14, 48)]
)
def test_the_image_tower_of_a_siglip_sees_alike(tmp_path, whole, patch, res):
  """Of 48 pixels, as of 384, patches of 14 see those of the upper left."""
  sizes = hf_config.raw_of(NANO)["vision_config"]
  sizes |= dict(patch_size=patch, image_size=res)
  vision = transformers.SiglipVisionConfig(**dict(sizes, vision_use_head=True))
  if whole:
    text = dict(hidden_size=96, num_hidden_layers=1, num_attention_heads=4)
    config = transformers.SiglipConfig(
      text_config=text | dict(intermediate_size=96, vocab_size=8),
      vision_config=vision.to_dict(),
    )
    made = transformers.SiglipModel(config)
    tower = made.vision_model
  else:
    tower = made = transformers.SiglipVisionModel(vision)
  made.eval().save_pretrained(tmp_path)
  weights = load.open(f"img={tmp_path}")
  params = tree.unflatten(
    {
      name.removeprefix("img/"): tensors.whole(weights.reader, name)
      for name in weights.reader.specs
    }
  )
  width = NANO.img.width
  params["head"] = dict(kernel=np.eye(width), bias=np.zeros(width))
  seen = weights.cfg.img.res
  mine = siglip.Tower(weights.cfg.img, width).apply(
    {"params": params}, image(NANO)[None, :seen, :seen]
  )
  pixels = image(NANO).astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1
  with torch.no_grad():
    want = tower(torch.from_numpy(pixels)).last_hidden_state.numpy()
  assert want.std() > 0.2
  np.testing.assert_allclose(mine, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", ["pg1", "pg1_all_kv_heads", "pg2"])
def test_the_decoder_of_a_gemma_reads_alike(tmp_path, model):
  cfg = MODELS[model]
  text = hf_config.raw_of(cfg)["text_config"]
  # As it is released: no <loc>, no <seg>, no <image>.
  text |= dict(vocab_size=cfg.llm.vocab_size - 1152)
  names = dict(gemma="Gemma", gemma2="Gemma2")
  name = names[text.pop("model_type")]
  config = getattr(transformers, f"{name}Config")(**text)
  made = getattr(transformers, f"{name}ForCausalLM")(config).eval()
  with torch.no_grad():
    for parameter in made.parameters():
      parameter.mul_(8)
  made.save_pretrained(tmp_path / "llm")
  npz.write(tmp_path / "img.npz", *_written(draw(NANO)))
  weights = load.open(f"img={tmp_path / 'img.npz'},llm={tmp_path / 'llm'}")
  assert weights.cfg.llm == cfg.llm
  params = tree.unflatten(
    {k: tensors.whole(weights.reader, k) for k in weights.reader.specs}
  )
  tokens = np.arange(5, 25, dtype=np.int32)[None]
  rows = dict(
    image=image(NANO)[None, None],
    mask_image=np.zeros((1, 1), bool),
    tokens=tokens,
    mask_input=np.ones(tokens.shape, bool),
    mask_ar=np.ones(tokens.shape, bool),
  )
  net = paligemma.PaliGemma(weights.cfg)
  hidden = net.apply({"params": params}, **rows)
  mine = toy.logits(weights.cfg, params, hidden)
  with torch.no_grad():
    want = made(torch.from_numpy(tokens).long()).logits.numpy()
  assert want.std() > 0.2
  mine = mine[..., : want.shape[-1]]
  np.testing.assert_allclose(mine, want, rtol=0, atol=1e-4)


def _written(flat):
  return specs_of(flat), from_memory(flat)
