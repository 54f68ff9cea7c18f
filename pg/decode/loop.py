"""Generation with a key/value cache: prefill, then one compiled loop.

Weights are unrolled (one subtree per layer) and cast once. The cache is a
tuple over layers of k, v [B, S, K, H]. Every row writes its token to the same
slot; a row with a shorter prompt simply has a hole of padding in its cache,
which `live` hides. RoPE positions are counted per row, so that a token stands
exactly where it stood in training.

Dimensions: B batch, L text tokens of the prompt, T = image tokens + L,
S = T + max_len key positions (cache slots), D width, K key/value heads, H head
dim, V vocabulary.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pg.decode import sampling
from pg.models import gemma, paligemma


class Context(NamedTuple):
  """The key/value cache and positions of the tokens that were read so far."""

  cache: tuple  # per layer: k, v [B, S, K, H]
  live: jax.Array  # bool[B, S], the slot holds a token that may be seen
  positions: jax.Array  # i32[B, S], of the tokens in the slots
  length: jax.Array  # i32[B], tokens read: the next one's position


class Answer(NamedTuple):
  """Generated tokens; everything after the first eos is padding (0)."""

  tokens: jax.Array  # i32[B, max_len]
  logp: jax.Array  # f32[B, max_len], log probabilities, 0 on padding


def unroll(params, dtype=None):
  """Unstacks scanned decoder layers: a tuple of trees, one per layer.

  Args:
    params: the model's parameters.
    dtype: optional compute dtype to cast the decoder's products to, once; the
      scales of norms stay as they are.

  Returns:
    The parameters with `llm/layers` a tuple, each as `gemma.split_gates` leaves
    it.
  """

  def cast(path, x):
    return x if dtype is None or path[-1].key == "scale" else x.astype(dtype)

  llm = jax.tree_util.tree_map_with_path(cast, params["llm"])
  depth = jax.tree.leaves(llm["layers"])[0].shape[0]
  layers = tuple(
    gemma.split_gates(jax.tree.map(lambda x, i=i: x[i], llm["layers"]))
    for i in range(depth)
  )
  return {**params, "llm": {**llm, "layers": layers}}


def _layers(cfg, llm, x, positions, masks, cache, slot):
  """Runs all layers; returns hidden states [B, T, D] and the new cache."""
  new = []
  for i, (layer, (k, v)) in enumerate(zip(llm["layers"], cache, strict=True)):
    x, kv = gemma.Block(cfg, split_gates=True).apply(
      {"params": layer}, x, positions, masks, i, (k, v, slot)
    )
    new.append(kv)
  return gemma.RMSNorm().apply({"params": llm["final_norm"]}, x), tuple(new)


def _embed(cfg, llm, tokens, dtype):
  decoder = gemma.Decoder(cfg, dtype)
  embedder = {"embedder": llm["embedder"]}
  return decoder.apply({"params": embedder}, tokens, method="embed")


def _logits(cfg, llm, x):
  embedding = llm["embedder"]["input_embedding"]
  return gemma.vocabulary_logits(x, embedding, cfg.final_softcap)


def prefill(cfg, params, batch, num_new):
  """Runs the model on images and prompts and fills the cache.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    batch: rows in decoding form (see `pg/data/prefix_lm.py`).
    num_new: int, slots to leave for the answer.

  Returns:
    f32[B, V], logits of the first token of the answer, and the Context.
  """
  llm = params["llm"]
  keys = ("image", "mask_image", "tokens", "mask_input", "mask_ar")
  x, valid, ar = paligemma.PaliGemma(cfg).apply(
    {"params": {"img": params["img"], "llm": {"embedder": llm["embedder"]}}},
    **{k: batch[k] for k in keys},
    method="embed",
  )
  positions = paligemma.positions_of(valid)
  masks = paligemma.attention_masks(valid, ar, positions, cfg.llm.window)

  pad = lambda a: jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, num_new)])
  B, S = x.shape[0], x.shape[1] + num_new
  slots = jnp.zeros((B, S, cfg.llm.num_kv_heads, cfg.llm.head_dim), x.dtype)
  masks = tuple(None if m is None else pad(m) for m in masks)
  cache = ((slots, slots),) * cfg.llm.depth
  x, cache = _layers(cfg.llm, llm, x, positions, masks, cache, 0)
  T = valid.shape[1]
  last = jnp.max(jnp.where(valid, jnp.arange(T)[None], 0), axis=1)  # [B]
  x = jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]  # [B, D]
  context = Context(cache, pad(valid), pad(positions), valid.sum(axis=1))
  return _logits(cfg.llm, llm, x), context


def extend(cfg, params, context, tokens, slot):
  """Runs the model on one more token per row, cached in the common `slot`.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    context: Context.
    tokens: i32[B].
    slot: i32[].

  Returns:
    f32[B, V], logits of the next token, and the new Context.
  """
  x = _embed(cfg.llm, params["llm"], tokens[:, None], cfg.dtype)  # [B, 1, D]
  here = context.length[:, None]  # [B, 1]
  live = context.live.at[:, slot].set(True)
  positions = context.positions.at[:, slot].set(context.length)
  mask = live[:, None]  # [B, 1, S]
  local = None
  if cfg.llm.window is not None:
    local = mask & (here[..., None] - positions[:, None] < cfg.llm.window)
  x, cache = _layers(
    cfg.llm, params["llm"], x, here, (mask, local), context.cache, slot
  )
  context = Context(cache, live, positions, context.length + 1)
  return _logits(cfg.llm, params["llm"], x[:, 0]), context


def generate(
  cfg, params, batch, *, max_len, eos, sampler=None, forbidden=(), real=None
):
  """Generates an answer for every row; jit it over params, batch and real.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    batch: rows in decoding form.
    max_len: int, tokens in the longest answer, eos included.
    eos: int, the token that ends an answer.
    sampler: sampling.Sampler, greedy by default.
    forbidden: token ids that are never chosen; log probabilities stay those of
      the whole vocabulary.
    real: bool[B], rows that are waited for; all by default.

  Returns:
    Answer.
  """
  sampler = sampler or sampling.Sampler()
  B = batch["tokens"].shape[0]
  logits, context = prefill(cfg, params, batch, max_len)
  first = context.live.shape[1] - max_len
  ids = batch.get("index", jnp.arange(B))
  ban = jnp.isin(jnp.arange(cfg.llm.vocab_size), jnp.array(forbidden, int))

  def choose(logits, step, done):
    allowed = jnp.where(ban[None], -jnp.inf, logits) if forbidden else logits
    token = sampling.choose(allowed, sampler, ids, step)
    logp = jax.nn.log_softmax(logits)[jnp.arange(B), token]
    return jnp.where(done, 0, token), jnp.where(done, 0.0, logp)

  def write(answer, step, token, logp):
    return Answer(
      answer.tokens.at[:, step].set(token), answer.logp.at[:, step].set(logp)
    )

  def go_on(state):
    step, _, _, done, _ = state
    return (step < max_len) & ~jnp.all(done)

  def body(state):
    step, token, context, done, answer = state
    logits, context = extend(cfg, params, context, token, first + step - 1)
    token, logp = choose(logits, step, done)
    answer = write(answer, step, token, logp)
    return step + 1, token, context, done | (token == eos), answer

  done = jnp.zeros(B, bool) if real is None else ~real
  token, logp = choose(logits, 0, done)
  blank = Answer(
    jnp.zeros((B, max_len), jnp.int32), jnp.zeros((B, max_len), jnp.float32)
  )
  state = (
    jnp.int32(1),
    token,
    context,
    done | (token == eos),
    write(blank, 0, token, logp),
  )
  return jax.lax.while_loop(go_on, body, state)[-1]
