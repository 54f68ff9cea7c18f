"""The model equals `transformers`' PaliGemma, run side by side.

Small random models of both generations, in float32 on a CPU. Needs
requirements-parity.txt; run it with `pytest -m parity`.
"""

import dataclasses
import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pg import tree
from pg.data import prefix_lm
from pg.decode import beam, loop
from pg.learn import loss as loss_lib
from pg.models import gemma, paligemma
from tests.support import hf_weights

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCAB, IMAGE = 128, 127  # rows of the embedding; the id that marks an image
SEED = 0
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
  "pg1_all_kv_heads_two_images": (
    functools.partial(generation_1, num_key_value_heads=4),
    28,
    2,
  ),
  "pg2": (generation_2, 56, 1),
  "pg2_window_two_images_no_final_softcap": (
    functools.partial(
      generation_2, sliding_window=8, final_logit_softcapping=None
    ),
    28,
    2,
  ),
}
every_case = pytest.mark.parametrize("case", CASES)
pytestmark = pytest.mark.parity
# Compiling is most of the time here, and this halves it.
jit = functools.partial(
  jax.jit,
  static_argnums=0,
  compiler_options={"xla_backend_optimization_level": 0},
)


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
  """Draws a weight such that every part has a say in every logit.

  Layers write more than the embedding does: else the tied head, which finds
  the input's own row in the residual stream, answers by repeating it.
  """
  noise = rng.standard_normal(shape, np.float32)
  if len(shape) == 1:  # norms and biases
    centers = {
      "language_model.norm": 3,
      "post_feedforward": 2,
      "vision_tower.*norm.*weight": 1,
    }
    return 0.3 * noise + first_match(centers, name, 0)
  gains = {
    "position_embedding": 4,
    "embed_tokens": 0.7,
    "[qk]_proj": 1.5,
    "o_proj": 3,
    "down_proj": 6,
  }
  gain = first_match(gains, name, 1)
  return noise * np.float32(gain * np.prod(shape[1:]) ** -0.5)


def first_match(table, name, default):
  return next((v for k, v in table.items() if re.search(k, name)), default)


@functools.cache
def ours(case):
  """Returns our config and parameters of the same model."""
  model = reference(case)
  cfg = hf_weights.config(model.config)
  return cfg, jax.tree.map(jnp.asarray, hf_weights.params(weights(model), cfg))


def weights(model):
  return {k: v.detach().numpy() for k, v in model.named_parameters()}


def images(case, num):
  _, res, M = CASES[case]
  shape = (num, M, res, res, 3)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def batch(case, texts, *, prompts=False):
  """Returns our batch of (prefix, suffix) pairs; prompts have no eos."""
  make = lambda prefix, suffix: prefix_lm.make(prefix, suffix, IDS, TEXT_LEN)
  if prompts:
    make = lambda prefix, start: prefix_lm.make_prompt(
      prefix, IDS, TEXT_LEN, start
    )
  rows = [make(*text) for text in texts]
  assert prompts or not any(map(prefix_lm.is_cut, rows))
  image = images(case, len(texts))
  return {k: np.stack([row[k] for row in rows]) for k in rows[0]} | dict(
    image=image, mask_image=np.ones(image.shape[:2], bool)
  )


def num_soft(case):
  _, res, M = CASES[case]
  return M * (res // 14) ** 2


def their_batch(case, texts, *, prompts=False, left=False, only=None):
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
    answer = IDS.encode(suffix) + [IDS.eos] * (not prompts)
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
  if prompts:
    del out["labels"]
  pixels = pixels.reshape(-1, *pixels.shape[2:]).transpose(0, 3, 1, 2)
  return out | dict(pixel_values=torch.from_numpy(pixels.copy()))


def forward(cfg, p, rows):
  """Returns image tokens [B, M * I, D] and hidden states [B, L, D]."""
  model = paligemma.PaliGemma(cfg)
  inputs, _, _ = loss_lib.targets(rows)
  soft = model.apply({"params": p}, rows["image"], method="embed_image")
  return soft, model.apply({"params": p}, **inputs)


@jit
def run(cfg, p, rows, weigh):
  """Returns loss, image tokens and logits f32[B, L, V]; and the gradients."""

  def fn(p):
    soft, hidden = forward(cfg, p, rows)
    _, labels, _ = loss_lib.targets(rows)
    table, cap = p["llm"]["embedder"]["input_embedding"], cfg.llm.final_softcap
    loss = loss_lib.weighted_nll(hidden, table, labels, weigh, cap)
    return loss, (soft, gemma.vocabulary_logits(hidden, table, cap))

  (loss, (soft, logits)), grads = jax.value_and_grad(fn, has_aux=True)(p)
  return loss, soft, logits, grads


@functools.cache
def our_output(case):
  """Runs the training batch, every target weighed alike as theirs are."""
  rows = batch(case, EXAMPLES)
  _, _, mask = loss_lib.targets(rows)
  return run(*ours(case), rows, mask / np.float32(mask.sum()))


@functools.cache
def their_output(case):
  """Runs the training batch, backwards too: its outputs and its gradients."""
  model = reference(case)
  output = model(**their_batch(case, EXAMPLES))
  model.zero_grad()
  output.loss.backward()
  grads = {k: v.grad.numpy().copy() for k, v in model.named_parameters()}
  return output, grads


@jit
def greedy(cfg, p, rows, eos):
  return loop.generate(cfg, p, rows, max_len=NUM_NEW, eos=eos)


def their_greedy(case, inputs, eos):
  """Returns greedy tokens i32[B, A] and their log probabilities f32[B, A]."""
  with torch.no_grad():
    out = reference(case).generate(
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
  """Returns our greedy Answer, and the eos that ends some of its rows early."""
  cfg, p = ours(case)
  p, rows = loop.unroll(p), batch(case, PROMPTS, prompts=True)
  free = np.asarray(greedy(cfg, p, rows, -1).tokens)
  assert len(np.unique(free)) > len(free)
  lengths = {int(t): first(free == t) for t in np.unique(free[free > 0])}
  eos = next(t for t, n in lengths.items() if 2 < min(n) < max(n) == NUM_NEW)
  return greedy(cfg, p, rows, eos), eos


def first(hits):
  """Returns the column of each row's first hit, the row's length without."""
  return np.where(hits.any(axis=1), hits.argmax(axis=1), hits.shape[1])


def assert_same_answer(case, tokens, logp):
  got, eos = answered(case)
  np.testing.assert_array_equal(got.tokens, tokens)
  written = np.arange(NUM_NEW) <= first(tokens == eos)[:, None]
  np.testing.assert_allclose(got.logp, np.where(written, logp, 0), atol=1e-4)


@every_case
def test_every_weight_has_its_place(case):
  cfg, p = ours(case)
  assert tree.diff(paligemma.shapes(cfg), p) == ""
  theirs = sum(w.size for w in weights(reference(case)).values())
  assert sum(w.size for w in jax.tree.leaves(p)) == theirs


@every_case
def test_image_tokens_equal_theirs(case):
  _, soft, _, _ = our_output(case)
  output, _ = their_output(case)
  want = output.image_hidden_states.detach().numpy()
  np.testing.assert_allclose(soft, want.reshape(soft.shape), atol=1e-4)


@every_case
def test_logits_of_padded_rows_equal_theirs(case):
  _, _, got, _ = our_output(case)
  output, _ = their_output(case)
  want = output.logits.detach().numpy()[:, num_soft(case) :]
  real = batch(case, EXAMPLES)["mask_input"]
  assert not real[:, want.shape[1] :].any()
  real = real[:, : want.shape[1]]
  got, want = got[:, : want.shape[1]][real], want[real]
  assert want.std() > 1
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@every_case
def test_loss_and_gradients_equal_theirs(case):
  loss, _, _, grads = our_output(case)
  output, want = their_output(case)
  np.testing.assert_allclose(loss, output.loss.item(), rtol=1e-5)
  grads = tree.flatten(grads)
  want = tree.flatten(hf_weights.params(want, ours(case)[0]))
  norm = lambda arrays: np.sqrt(sum(np.sum(x**2) for x in arrays))
  total = norm(want.values())
  np.testing.assert_allclose(norm(grads.values()), total, rtol=1e-5)
  for name, x in want.items():
    if name.endswith("key/bias"):  # softmax cancels it but for rounding
      assert norm([grads[name]]) < 1e-6 * total
    else:
      assert norm([x]) > 1e-3 * total, name
      assert norm([grads[name] - x]) < 1e-4 * norm([x]), name


@every_case
def test_training_loss_is_the_mean_of_their_losses_on_single_examples(case):
  rows = batch(case, EXAMPLES)
  _, _, mask = loss_lib.targets(rows)
  weigh = loss_lib.mean_weights(mask, np.ones(len(mask), bool))
  loss, _, _, _ = run(*ours(case), rows, weigh)
  with torch.no_grad():
    want = [
      reference(case)(**their_batch(case, EXAMPLES, only=i)).loss
      for i in range(len(EXAMPLES))
    ]
  np.testing.assert_allclose(loss, np.mean(want), rtol=1e-5)


@every_case
def test_greedy_answers_of_a_batch_equal_theirs_one_by_one(case):
  _, eos = answered(case)
  alone = [
    their_greedy(case, their_batch(case, PROMPTS, prompts=True, only=i), eos)
    for i in range(len(PROMPTS))
  ]
  assert_same_answer(case, *map(np.concatenate, zip(*alone)))


@every_case
def test_greedy_answers_equal_theirs_with_padding_on_the_left(case):
  _, eos = answered(case)
  inputs = their_batch(case, PROMPTS, prompts=True, left=True)
  assert_same_answer(case, *their_greedy(case, inputs, eos))


def test_a_window_narrows_the_sight_of_suffix_tokens_alone():
  case = "pg2_window_two_images_no_final_softcap"
  cfg, p = ours(case)
  rows = batch(case, EXAMPLES)
  wide = dataclasses.replace(cfg.llm, window=None)
  _, near = jit(forward)(cfg, p, rows)
  _, far = jit(forward)(dataclasses.replace(cfg, llm=wide), p, rows)
  off = np.abs(near - far).max(axis=-1)
  prefix = ~rows["mask_ar"][:, :-1]
  suffix = ~prefix & rows["mask_input"][:, :-1]
  # Two programs that round in another order: as close as all logits are.
  assert off[prefix].max() < 1e-4
  assert off[suffix].min() > 1e-2


@pytest.mark.parametrize("length_penalty", (0.0, 1.0, 2.5))
@pytest.mark.parametrize("case", ("pg1", "pg2"))
def test_beams_with_a_length_penalty_equal_theirs(case, length_penalty):
  _, eos = answered(case)
  cfg, p = ours(case)
  search = functools.partial(
    beam.search,
    cfg,
    max_len=NUM_NEW,
    num_beams=3,
    length_penalty=length_penalty,
  )
  rows = batch(case, PROMPTS, prompts=True)
  for stop in (eos, eos + 1, [eos, eos + 2, eos + 3]):
    tokens, _ = jax.jit(search)(loop.unroll(p), rows, eos=np.array(stop))
    for i, row in enumerate(np.asarray(tokens)):
      inputs = their_batch(case, PROMPTS, prompts=True, only=i)
      with torch.no_grad():
        out = reference(case).generate(
          **inputs,
          max_new_tokens=NUM_NEW,
          do_sample=False,
          num_beams=3,
          length_penalty=length_penalty,
          eos_token_id=stop,
          pad_token_id=IDS.pad,
        )
      want = out[0, inputs["input_ids"].shape[1] :].numpy()
      np.testing.assert_array_equal(row, np.pad(want, (0, NUM_NEW - len(want))))
