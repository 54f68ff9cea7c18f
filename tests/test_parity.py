"""The model equals `transformers`' PaliGemma, run side by side.

Small random models of both generations, in float32 on a CPU. Needs
requirements-parity.txt; run it with `pytest -m parity`.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import tree
from pg.data import prefix_lm
from pg.decode import loop
from pg.learn import loss as loss_lib
from pg.models import paligemma
from tests import hf_weights

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB, IMAGE = 128, 127  # rows of the embedding; the id that marks an image
SEED = 3
TEXT_LEN, NUM_NEW = 18, 8

# Text is numbers here: the ids themselves.
IDS = types.SimpleNamespace(
  bos=2, eos=1, pad=0, sep=[3], encode=lambda text: [*map(int, text.split())]
)
# (prefix, suffix): what is trained on.
EXAMPLES = (
  ("17 5 9", "30 31"),
  ("40", "11 12 13 14 15 16 17 18 19 20"),
  ("", "21"),
  ("7 8 9 10 11 12 13 14 15", "33 34 35"),
  ("50 51 52 53 54", "60 61 62 63 64 65"),
)
# (prefix, given start of the answer): what is continued.
PROMPTS = (("17 5 9", ""), ("", ""), ("40 41", "11 12 13"), ("7 8 9 6 5 4", ""))


def generation_1(**changes):
  return transformers.GemmaConfig(**_SIZES | changes)


def generation_2(**changes):
  # Caps and a query scale that are felt, and are no function of other sizes.
  caps = dict(attn_logit_softcapping=3.0, final_logit_softcapping=6.0)
  return transformers.Gemma2Config(
    **_SIZES | caps | dict(query_pre_attn_scalar=10) | changes
  )


_SIZES = dict(
  hidden_size=64,
  num_hidden_layers=3,
  intermediate_size=96,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=24,
  vocab_size=VOCAB,
)
# Decoder, pixels of an image, images per example.
CASES = {
  "pg1": (functools.partial(generation_1, num_key_value_heads=1), 56, 1),
  "pg1_all_kv_heads": (
    functools.partial(generation_1, num_key_value_heads=4),
    28,
    1,
  ),
  "pg1_two_images": (generation_1, 28, 2),
  "pg2": (generation_2, 56, 1),
  "pg2_no_final_softcap": (
    functools.partial(generation_2, final_logit_softcapping=None),
    28,
    1,
  ),
  "pg2_window": (functools.partial(generation_2, sliding_window=8), 56, 1),
  "pg2_window_two_images": (
    functools.partial(generation_2, sliding_window=6),
    28,
    2,
  ),
}
every_case = pytest.mark.parametrize("case", CASES)
pytestmark = pytest.mark.parity


@functools.cache
def reference(case):
  """Returns a random model whose logits, norms and attention are not flat."""
  decoder, res, _ = CASES[case]
  model = transformers.PaliGemmaForConditionalGeneration(
    transformers.PaliGemmaConfig(
      text_config=decoder(),
      vision_config=transformers.SiglipVisionConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=res,
        patch_size=14,
        vision_use_head=False,
      ),
      projection_dim=_SIZES["hidden_size"],
      image_token_index=IMAGE,
    )
  ).eval()
  rng = np.random.default_rng(SEED)
  with torch.no_grad():
    for name, weight in model.named_parameters():
      weight.copy_(torch.from_numpy(draw(name, tuple(weight.shape), rng)))
  return model


def draw(name, shape, rng):
  noise = rng.standard_normal(shape, np.float32)
  if len(shape) == 1:  # biases and norms, of which the tower's are around 1
    return 0.3 * noise + ("layer" in name and "vision_tower" in name)
  gains = dict(position_embedding=4, embed_tokens=3, q_proj=1.5, k_proj=1.5)
  gain = next((g for part, g in gains.items() if part in name), 1.0)
  return noise * np.float32(gain * np.prod(shape[1:]) ** -0.5)


@functools.cache
def ours(case):
  """Returns our config and parameters of the same model."""
  model = reference(case)
  cfg = hf_weights.config(model.config)
  return cfg, jax.tree.map(jnp.asarray, hf_weights.params(weights(model), cfg))


def weights(model):
  return {k: v.detach().numpy() for k, v in model.named_parameters()}


def images(case, num):
  _, res, F = CASES[case]
  shape = (num, F, res, res, 3)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def batch(case, texts, form):
  """Returns our batch of (prefix, suffix) pairs."""
  rows = [prefix_lm.make(*text, IDS, TEXT_LEN, form) for text in texts]
  assert form == "decode" or not any(map(prefix_lm.is_cut, rows))
  image = images(case, len(texts))
  return {k: np.stack([row[k] for row in rows]) for k in rows[0]} | dict(
    image=image, mask_image=np.ones(image.shape[:2], bool)
  )


def num_soft(case):
  _, res, F = CASES[case]
  return F * (res // 14) ** 2


def their_batch(case, texts, form, *, left=False, only=None):
  """Returns the same for `transformers`, padded as long as needed.

  Args:
    left: bool, padding stands in front, as its `generate` wants it.
    only: int or None, one example alone.
  """
  keys = ("input_ids", "token_type_ids", "labels", "attention_mask")
  rows = []
  for prefix, suffix in texts:
    given = [IMAGE] * num_soft(case)
    given += [IDS.bos, *IDS.encode(prefix), *IDS.sep]
    answer = IDS.encode(suffix) + [IDS.eos] * (form == "train")
    length = len(given) + len(answer)
    types = [0] * len(given) + [1] * len(answer)
    labels = [-100] * len(given) + answer
    rows.append((given + answer, types, labels, [1] * length))
  pixels = images(case, len(texts)).astype(np.float32) / 127.5 - 1
  if only is not None:
    rows, pixels = rows[only : only + 1], pixels[only : only + 1]
  longest = max(len(row[0]) for row in rows)

  def padded(values, blank):
    blanks = [blank] * (longest - len(values))
    return blanks + values if left else values + blanks

  out = {
    key: torch.tensor([padded(row[i], (0, 0, -100, 0)[i]) for row in rows])
    for i, key in enumerate(keys)
  }
  if form == "decode":
    del out["labels"]
  pixels = pixels.reshape(-1, *pixels.shape[2:]).transpose(0, 3, 1, 2)
  return out | dict(pixel_values=torch.from_numpy(pixels.copy()))


@functools.partial(jax.jit, static_argnums=0)
def forward(cfg, p, rows):
  """Returns image tokens [B, F * I, D] and logits f32[B, L, V]."""
  model = paligemma.PaliGemma(cfg)
  inputs, _, _ = loss_lib.targets(rows)
  soft = model.apply({"params": p}, rows["image"], method="embed_image")
  hidden = model.apply({"params": p}, **inputs)
  return soft, model.apply({"params": p}, hidden, method="logits")


@functools.cache
def their_output(case):
  """Runs the training batch, backwards too: its outputs and its gradients."""
  model = reference(case)
  output = model(**their_batch(case, EXAMPLES, "train"))
  model.zero_grad()
  output.loss.backward()
  grads = {k: v.grad.numpy().copy() for k, v in model.named_parameters()}
  return output, grads


@functools.partial(jax.jit, static_argnums=(0, 3))
def loss_and_grads(cfg, p, rows, average):
  """Returns our loss and its gradients, averaged with `average(mask)`."""

  def fn(p):
    inputs, labels, mask = loss_lib.targets(rows)
    hidden = paligemma.PaliGemma(cfg).apply({"params": p}, **inputs)
    table = p["llm"]["embedder"]["input_embedding"]
    return loss_lib.weighted_nll(
      hidden, table, labels, average(mask), cfg.llm.final_softcap
    )

  return jax.value_and_grad(fn)(p)


def over_tokens(mask):
  """Weighs every target alike, as `transformers` does."""
  return mask / mask.sum()


def over_examples(mask):
  return loss_lib.mean_weights(mask, jnp.ones(len(mask), bool))


@functools.partial(jax.jit, static_argnums=0)
def greedy(cfg, p, rows, eos):
  return loop.generate(cfg, p, rows, max_len=NUM_NEW, eos=eos)


def their_greedy(model, inputs, eos):
  """Returns greedy tokens i32[B, A] and their log probabilities f32[B, A]."""
  with torch.no_grad():
    out = model.generate(
      **inputs,
      max_new_tokens=NUM_NEW,
      do_sample=False,
      eos_token_id=eos,
      pad_token_id=IDS.pad,
      return_dict_in_generate=True,
      output_logits=True,
    )
  tokens = out.sequences[:, inputs["input_ids"].shape[1] :]
  logp = torch.log_softmax(torch.stack(out.logits, dim=1), dim=-1)
  logp = logp.gather(-1, tokens[..., None])[..., 0]
  rest = [(0, 0), (0, NUM_NEW - tokens.shape[1])]
  return np.pad(tokens.numpy(), rest), np.pad(logp.numpy(), rest)


@functools.cache
def answered(case):
  """Returns our greedy Answer, and an eos that ends some of its rows early."""
  cfg, p = ours(case)
  p, rows = loop.unroll(p), batch(case, PROMPTS, "decode")
  free = np.asarray(greedy(cfg, p, rows, -1).tokens)
  ends = lambda token: (free == token).any(axis=1).mean()
  eos = next(int(t) for t in np.unique(free[:, 2:-1]) if 0 < ends(t) < 1)
  return greedy(cfg, p, rows, eos), eos


def assert_same_answer(got, tokens, logp):
  np.testing.assert_array_equal(got.tokens, tokens)
  np.testing.assert_allclose(got.logp, np.where(tokens, logp, 0), atol=1e-4)


@every_case
def test_every_weight_has_its_place(case):
  cfg, p = ours(case)
  assert tree.diff(paligemma.shapes(cfg), p) == ""
  theirs = sum(w.size for w in weights(reference(case)).values())
  assert sum(w.size for w in jax.tree.leaves(p)) == theirs


@every_case
def test_image_tokens_equal_transformers(case):
  soft, _ = forward(*ours(case), batch(case, EXAMPLES, "train"))
  output, _ = their_output(case)
  want = output.image_hidden_states.detach().numpy()
  np.testing.assert_allclose(soft, want.reshape(soft.shape), atol=1e-4)


@every_case
def test_logits_of_padded_rows_equal_transformers(case):
  rows = batch(case, EXAMPLES, "train")
  _, got = forward(*ours(case), rows)
  output, _ = their_output(case)
  want = output.logits.detach().numpy()[:, num_soft(case) :]
  real = rows["mask_input"][:, : want.shape[1]]
  assert real.sum() == rows["mask_input"].sum()
  got, want = got[:, : want.shape[1]][real], want[real]
  assert want.std() > 1
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@every_case
def test_loss_and_gradients_equal_transformers(case):
  cfg, p = ours(case)
  rows = batch(case, EXAMPLES, "train")
  loss, grads = loss_and_grads(cfg, p, rows, over_tokens)
  output, want = their_output(case)
  np.testing.assert_allclose(loss, output.loss.item(), rtol=1e-5)
  grads = tree.flatten(grads)
  want = tree.flatten(hf_weights.params(want, cfg))
  norm = lambda arrays: np.sqrt(sum(np.sum(x**2) for x in arrays))
  total = norm(want.values())
  np.testing.assert_allclose(norm(grads.values()), total, rtol=1e-5)
  for name, x in want.items():
    # The floor is for biases of keys: softmax cancels them but for rounding.
    assert norm([x]) > 1e-3 * total or "bias" in name, name
    assert norm([grads[name] - x]) < 1e-4 * norm([x]) + 1e-6 * total, name


@every_case
def test_training_loss_is_the_mean_of_their_losses_on_single_examples(case):
  rows = batch(case, EXAMPLES, "train")
  loss, _ = loss_and_grads(*ours(case), rows, over_examples)
  with torch.no_grad():
    want = [
      reference(case)(**their_batch(case, EXAMPLES, "train", only=i)).loss
      for i in range(len(EXAMPLES))
    ]
  np.testing.assert_allclose(loss, np.mean(want), rtol=1e-5)


@every_case
def test_greedy_answers_of_a_batch_equal_theirs_one_by_one(case):
  got, eos = answered(case)
  model = reference(case)
  alone = [
    their_greedy(model, their_batch(case, PROMPTS, "decode", only=i), eos)
    for i in range(len(PROMPTS))
  ]
  assert_same_answer(got, *map(np.concatenate, zip(*alone)))


@every_case
def test_greedy_answers_equal_theirs_with_padding_on_the_left(case):
  got, eos = answered(case)
  inputs = their_batch(case, PROMPTS, "decode", left=True)
  assert_same_answer(got, *their_greedy(reference(case), inputs, eos))


def test_a_window_narrows_the_sight_of_the_suffix_alone():
  case = "pg2_window"
  cfg, p = ours(case)
  rows = batch(case, EXAMPLES, "train")
  far = reference("pg2").config.text_config.sliding_window
  wide, _ = ours("pg2")
  assert wide.llm.window == far > TEXT_LEN + num_soft(case) > cfg.llm.window
  _, narrow = forward(cfg, p, rows)
  _, full = forward(wide, p, rows)
  off = np.abs(narrow - full).max(axis=-1)
  suffix = rows["mask_ar"] & rows["mask_input"]
  assert off[~rows["mask_ar"][:, :-1]].max() < 1e-5
  assert off[suffix[:, :-1]].min() > 1e-2
