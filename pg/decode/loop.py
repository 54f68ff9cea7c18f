"""Generation: the prompt is read once, then answers grow in a compiled loop.

Weights are unrolled (one subtree per layer) and cast once; or as they are
trained, where there is no room for that, and a token takes about twice as long.
Of a row there may be n answers (samples, or the beams of a search): all see the
same keys and values of the prompt, which are never copied nor written to, and
each has slots for its own. Answers grow together, a token a step, so step t is
slot t of all.
RoPE positions are counted per row: a token stands exactly where it stood in
training, however much padding is before it.

Dimensions: B batch, L text tokens of the prompt, T = image tokens + L key
positions of the prompt, n answers, A slots (tokens in the longest answer),
D width, K key/value heads, H head dim, V vocabulary.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pg import tree
from pg.decode import sampling
from pg.models import attention, gemma, lora, paligemma, quantize

_INT8 = quantize.Format("int8")


class Prompt(NamedTuple):
  """What was read before the answer."""

  keys: tuple  # per layer: k, v [B, T, K, H], or attention.Int8 of them
  tokens: attention.Tokens  # [B, T]
  length: jax.Array  # i32[B], tokens read: the position of the next


class Answer(NamedTuple):
  """Generated tokens; everything after the first eos is padding (0)."""

  tokens: jax.Array  # i32[B, A], or i32[B, n, A]
  logp: jax.Array  # f32 alike, log probabilities, 0 on padding


class State(NamedTuple):
  """Answers that are being written; `step` tokens of each are there."""

  step: jax.Array  # i32[]
  answer: Answer  # of i32 and f32[B, n, A]
  keys: tuple  # per layer: k, v [B, n, A, K, H], of all but the last token
  done: jax.Array  # bool[B, n]
  node: jax.Array  # i32[B, n], where in the automaton


class Rules(NamedTuple):
  """How the next token is chosen; a pytree, so that a program serves all."""

  stop: object  # int or i32[...], tokens that end an answer
  sampler: sampling.Sampler = sampling.Sampler()
  forbidden: tuple = ()  # token ids that are never chosen
  automaton: object = None  # see constraint.py

  def allow(self, logits, node):
    """Returns logits f32[B, n, V] with -inf where a token is not allowed."""
    if len(self.forbidden):
      at = jnp.array(self.forbidden)
      logits = logits.at[..., at].set(-jnp.inf)
    if self.automaton is None:
      return logits
    return jnp.where(self.automaton.allowed(node), logits, -jnp.inf)

  def follow(self, node, token):
    """Returns the automaton's nodes after tokens i32[B, n]."""
    return node if self.automaton is None else self.automaton.next(node, token)


def unroll(params, dtype=None, adapters=None):
  """Unstacks scanned decoder layers: a tuple of trees, one per layer.

  Args:
    params: the model's parameters.
    dtype: optional compute dtype to cast the decoder's products to, once; the
      scales of norms stay as they are.
    adapters: lora.Config, of adapters among the parameters, which are added to
      their weights, a layer at a time; or None. Quantised weights are int8
      then, as a card that needs them so has no room for whole ones.

  Returns:
    The parameters with `llm/layers` a tuple, each as `gemma.serving` has it.
  """

  def cast(name, x):
    kept = name.endswith("scale") or quantize.is_quantized(x)
    return x if dtype is None or kept else x.astype(dtype)

  cast_all = functools.partial(tree.map_named, cast)
  llm, own = params["llm"], params.get(lora.ROOT, {})
  depth = jax.tree.leaves(llm["layers"])[0].shape[0]

  def merge(params):
    flat = tree.flatten(params)

    def again(name, w):
      was = quantize.is_quantized(flat[name])
      lost = was and not quantize.is_quantized(w)
      return quantize.of_array(_INT8, name, w) if lost else w

    return tree.map_named(again, lora.merged(adapters, params))

  def layer(i):
    one = {"llm": {"layers": llm["layers"]}, lora.ROOT: {"llm": own.get("llm")}}
    one = jax.tree.map(lambda x: x[i], one)
    one = merge(one)["llm"]["layers"]
    return tree.unflatten(gemma.serving(tree.flatten(cast_all(one))))

  layers = tuple(map(layer, range(depth)))
  rest = {k: x for k, x in llm.items() if k != "layers"}
  towers = {k: x for k, x in params.items() if k != "llm"}
  return {**merge(towers), "llm": {**cast_all(rest), "layers": layers}}


def _layers(cfg, llm, x, tokens, past, last=None):
  """Runs all layers.

  Returns:
    hidden states [B, T, D], or only [B, 1, D] of the positions `last` i32[B],
    where it is given; and each layer's k, v.
  """
  keys, layers = [], llm["layers"]
  is_stack = not isinstance(layers, tuple)
  for i, seen in enumerate(past):
    only = last if i == cfg.depth - 1 else None
    layer = _taken(layers, i, x) if is_stack else layers[i]
    x, new = gemma.Block(cfg, serving=not is_stack).apply(
      {"params": layer}, x, tokens, i, seen, only
    )
    keys.append(new)
  norm = gemma.RMSNorm(cfg.float32_stream)
  return norm.apply({"params": llm["final_norm"]}, x), tuple(keys)


def _taken(stack, i, x):
  """Returns a layer of a stack, when `x` is there.

  Before, all of them would be taken and cast ahead of the loop: a copy.
  """
  i, _ = jax.lax.optimization_barrier((jnp.int32(i), x))
  at = lambda w: jax.lax.dynamic_index_in_dim(w, i, keepdims=False)
  return jax.tree.map(at, stack)


def _embed(cfg, llm, tokens):
  embedder = {"params": {"embedder": llm["embedder"]}}
  decoder = gemma.Decoder(cfg.llm, cfg.dtype)
  return decoder.apply(embedder, tokens, method="embed")


def _logits(cfg, llm, x):
  embedding = llm["embedder"]["input_embedding"]
  cap = cfg.final_softcap
  return gemma.vocabulary_logits(x, embedding, cap, serving=True)


def embed_images(cfg, params, image):
  """Maps u8[B, M, R, R, 3] to image tokens [B, M * I, D]."""
  model = paligemma.PaliGemma(cfg)
  params = {"params": {"img": params["img"]}}
  return model.apply(params, image, method="embed_image")


def prefill(cfg, params, batch, *, int8=False):
  """Reads images and prompts.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    batch: rows in decoding form (see `pg/data/prefix_lm.py`); `image` may be
      the image tokens that `embed_images` returns.
    int8: bool, whether keys and values are kept in 8 bits.

  Returns:
    f32[B, V], logits of the first token of the answer, and the Prompt.
  """
  llm = params["llm"]
  keys = ("image", "mask_image", "tokens", "mask_input", "mask_ar")
  x, tokens = paligemma.PaliGemma(cfg).apply(
    {"params": {"img": params["img"], "llm": {"embedder": llm["embedder"]}}},
    **{k: batch[k] for k in keys},
    method="embed",
  )
  valid = tokens.valid
  last = jnp.max(jnp.where(valid, jnp.arange(valid.shape[1])[None], 0), axis=1)
  x, keys = _layers(cfg.llm, llm, x, tokens, ((),) * cfg.llm.depth, last)
  if int8:
    keys = jax.tree.map(attention.Int8.of, keys)
  prompt = Prompt(keys, tokens, valid.sum(axis=1))
  return _logits(cfg.llm, llm, x)[:, 0], prompt


def slots(cfg, prompt, num_answers, max_len):
  """Makes the empty keys and values of answers; see State."""
  B, K, H = len(prompt.length), cfg.llm.num_kv_heads, cfg.llm.head_dim
  empty = jnp.zeros((B, num_answers, max_len, K, H), cfg.dtype)
  return ((empty, empty),) * cfg.llm.depth


def roots(rules, shape):
  """Returns the automaton's first nodes, i32[B, n]."""
  node = jnp.zeros(shape, jnp.int32)
  return (
    node if rules.automaton is None else node + rules.automaton.start[:, None]
  )


def extend(cfg, params, prompt, keys, tokens, step):
  """Reads one more token of each answer.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    prompt: Prompt.
    keys: the answers' keys and values, see State.
    tokens: i32[B, n].
    step: i32[], which token of the answer this is, from 0; or i32[B], of each
      row's answers.

  Returns:
    f32[B, n, V], logits of the next token, and the new keys and values.
  """
  llm = params["llm"]
  x = _embed(cfg, llm, tokens)  # [B, n, D]
  each = jnp.reshape(step, (-1, 1))  # [1 or B, 1]
  here = jnp.broadcast_to(prompt.length[:, None] + each, tokens.shape)
  slots = jnp.arange(keys[0][0].shape[2])
  back = each[:, :, None] - slots[None, None]  # [1 or B, 1, A]
  past = tuple(
    gemma.Past(seen, prompt.tokens, back, own, step)
    for seen, own in zip(prompt.keys, keys, strict=True)
  )
  x, keys = _layers(cfg.llm, llm, x, attention.Tokens.after(here), past)
  return _logits(cfg.llm, llm, x), keys


def score(cfg, params, logits, prompt, answers):
  """Returns how likely given answers are, all read in one pass.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    logits, prompt: of `prefill`.
    answers: i32[B, n, A], padded with 0 at their ends.

  Returns:
    f32[B, n, A], log probabilities of the tokens, 0 on padding.
  """
  B, n, A = answers.shape
  llm = params["llm"]
  step = jnp.tile(jnp.arange(A), n)[None]  # [1, n * A]
  own = jnp.repeat(jnp.arange(n), A)
  here = prompt.length[:, None] + step  # [B, n * A]
  back = jnp.where(own[:, None] == own[None], step.T - step, -1)[None]
  past = tuple(gemma.Past(x, prompt.tokens, back) for x in prompt.keys)
  x = _embed(cfg, llm, answers.reshape(B, n * A))
  x, _ = _layers(cfg.llm, llm, x, attention.Tokens.after(here), past)
  after = _logits(cfg.llm, llm, x).reshape(B, n, A, -1)[:, :, :-1]
  first = jnp.broadcast_to(logits[:, None, None], (B, n, 1, logits.shape[-1]))
  logp = jax.nn.log_softmax(jnp.concatenate([first, after], axis=2))
  logp = jnp.take_along_axis(logp, answers[..., None], axis=-1)[..., 0]
  return jnp.where(answers == 0, 0.0, logp)


def begin(cfg, logits, prompt, rules, max_len, *, num=1, ids=None, real=None):
  """Writes the first token of each answer.

  Args:
    cfg: paligemma.Config.
    logits, prompt: of `prefill`.
    rules: Rules.
    max_len: int, A.
    num: int, n, answers to each row.
    ids: i32[B], the rows' numbers, on which their draws depend.
    real: bool[B], rows that are waited for; all by default.

  Returns:
    State.
  """
  shape = (len(logits), num)
  done = jnp.zeros(shape, bool)
  if real is not None:
    done |= ~real[:, None]
  node = roots(rules, shape)
  blank = Answer(
    jnp.zeros((*shape, max_len), jnp.int32),
    jnp.zeros((*shape, max_len), jnp.float32),
  )
  keys = slots(cfg, prompt, num, max_len)
  state = State(jnp.int32(0), blank, keys, done, node)
  logits = jnp.broadcast_to(logits[:, None], (*shape, logits.shape[-1]))
  return _write(state, logits, rules, ids)


def advance(cfg, params, prompt, state, rules, until, ids=None):
  """Writes answers on, to `until` tokens or until all have ended.

  Args:
    cfg: paligemma.Config.
    params: parameters as `unroll` returns them.
    prompt: Prompt.
    state: State.
    rules: Rules.
    until: int or i32[], at most A.
    ids: as `begin`.

  Returns:
    State.
  """

  def go_on(state):
    return (state.step < until) & ~jnp.all(state.done)

  def body(state):
    last = jax.lax.dynamic_index_in_dim(
      state.answer.tokens, state.step - 1, axis=2, keepdims=False
    )
    logits, keys = extend(cfg, params, prompt, state.keys, last, state.step - 1)
    return _write(state._replace(keys=keys), logits, rules, ids)

  return jax.lax.while_loop(go_on, body, state)


def _write(state, logits, rules, ids):
  """Chooses and writes the next token of each answer; logits f32[B, n, V]."""
  B, n, V = logits.shape
  ids = jnp.arange(B) if ids is None else ids
  allowed = rules.allow(logits, state.node).reshape(B * n, V)
  token = sampling.choose(
    allowed,
    rules.sampler,
    jnp.repeat(ids, n),
    state.step,
    jnp.tile(jnp.arange(n), B),
  ).reshape(B, n)
  logp = jax.nn.log_softmax(logits)
  logp = jnp.take_along_axis(logp, token[..., None], axis=-1)[..., 0]
  token, logp = jnp.where(state.done, 0, token), jnp.where(state.done, 0, logp)
  answer = Answer(
    state.answer.tokens.at[:, :, state.step].set(token),
    state.answer.logp.at[:, :, state.step].set(logp),
  )
  done = state.done | jnp.isin(token, jnp.asarray(rules.stop))
  node = rules.follow(state.node, token)
  return State(state.step + 1, answer, state.keys, done, node)


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
  rules = Rules(eos, sampler or sampling.Sampler(), forbidden)
  logits, prompt = prefill(cfg, params, batch)
  ids = batch.get("index")
  state = begin(cfg, logits, prompt, rules, max_len, ids=ids, real=real)
  state = advance(cfg, params, prompt, state, rules, max_len, ids)
  return jax.tree.map(lambda x: x[:, 0], state.answer)
