"""Slots in which answers to different prompts grow, each at its own pace.

A prompt is read by `loop.prefill` and put into a free slot; one program then
writes the next tokens of all slots. Each has its own length, adapter, settings
of the sampling and automaton, all of them data: another request compiles
nothing. What a slot holds depends on no other slot.

Dimensions: S slots, T key positions of a prompt, A tokens in the longest
answer, K key/value heads, H head dim, V vocabulary, b the first slots, those
that are computed.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pg.codecs import tokenizer
from pg.decode import constraint, loop, sampling
from pg.models import attention
from pg.models import bank as bank_lib

TOP = 20  # likeliest tokens that can be told of each position
ENTRIES = 1 << 18  # of an automaton's table, at most


class How(NamedTuple):
  """How an answer is written: numbers, or arrays [S] of them."""

  limit: jax.Array  # i32, tokens of it
  temperature: jax.Array = np.float32(0)
  top_p: jax.Array = np.float32(1)
  seed: jax.Array = np.uint32(0)
  number: jax.Array = np.int32(0)  # which of the answers to its prompt
  adapter: jax.Array = np.int32(0)  # its number in the bank; 0 is none
  tells_top: jax.Array = np.bool_(False)  # whether `top` is wanted
  stride: jax.Array = np.int32(0)  # classes of its automaton; 0: it has none
  node: jax.Array = np.int32(0)  # where it begins in the automaton


class Lines(NamedTuple):
  """What is written in slots."""

  tokens: jax.Array  # i32[S, A], 0 after the end
  logp: jax.Array  # f32[S, A], log probabilities of the whole vocabulary
  top: jax.Array  # i32[S, A, TOP], likeliest tokens
  top_logp: jax.Array  # f32[S, A, TOP]
  step: jax.Array  # i32[S], tokens that are there
  node: jax.Array  # i32[S], where in the automaton
  done: jax.Array  # bool[S], ended, or free


class Automata(NamedTuple):
  """The automaton of each slot; see constraint.py."""

  classes: jax.Array  # i32[S, V]
  table: jax.Array  # i32[S, ENTRIES], rows of How.stride


class Slots(NamedTuple):
  """Answers that are being written."""

  prompt: loop.Prompt  # of [S, T]
  keys: tuple  # per layer: k, v [S, 1, A, K, H], of all but the last token
  lines: Lines
  how: How
  automata: Automata


def empty(cfg, num, prompt_len, max_len, *, int8=False):
  """Makes free slots.

  Args:
    cfg: paligemma.Config.
    num: int, S.
    prompt_len: int, T, image and text tokens of the longest prompt.
    max_len: int, A.
    int8: bool, whether keys and values of prompts are in 8 bits.

  Returns:
    Slots.
  """
  K, H, V = cfg.llm.num_kv_heads, cfg.llm.head_dim, cfg.llm.vocab_size
  ints = lambda *shape: jnp.zeros((num, *shape), jnp.int32)
  floats = lambda *shape: jnp.zeros((num, *shape), jnp.float32)

  def prompts():
    x = jnp.zeros((num, prompt_len, K, H), cfg.dtype)
    return attention.Int8.of(x) if int8 else x

  pairs = tuple((prompts(), prompts()) for _ in range(cfg.llm.depth))
  unread = jnp.zeros((num, prompt_len), bool)
  unread = attention.Tokens(unread, ints(prompt_len), ints(prompt_len))
  prompt = loop.Prompt(pairs, unread, ints())
  own = lambda: jnp.zeros((num, 1, max_len, K, H), cfg.dtype)
  keys = tuple((own(), own()) for _ in range(cfg.llm.depth))
  top, top_logp = ints(max_len, TOP), floats(max_len, TOP)
  written = ints(max_len), floats(max_len), top, top_logp
  lines = Lines(*written, ints() + 1, ints(), jnp.ones(num, bool))
  how = How(*(jnp.full(num, x) for x in How(np.int32(1))))
  return Slots(prompt, keys, lines, how, Automata(ints(V), ints(ENTRIES)))


def check(automaton):
  """Raises ValueError where an automaton is too large for a slot."""
  nodes, stride = automaton.table.shape
  if nodes * stride > ENTRIES:
    raise ValueError(
      f"the constraint has {nodes} nodes and {stride} classes of tokens, and"
      f" its table at most {ENTRIES} entries; take fewer or shorter options"
    )


def table_of(automaton):
  """Returns an automaton as `constrain` takes it, and its stride."""
  nodes, stride = automaton.table.shape
  table = np.full(ENTRIES, constraint.NEVER, np.int32)
  table[: nodes * stride] = np.ravel(automaton.table)
  return automaton.classes, table, np.int32(stride)


def constrain(automata, at, classes, table):
  """Puts an automaton to slot `at` i32[]; see `table_of`."""
  return Automata(
    automata.classes.at[at].set(classes), automata.table.at[at].set(table)
  )


def insert(slots, at, logits, prompt, how):
  """Puts a prompt into a slot, and writes the first token of its answer.

  Args:
    slots: Slots.
    at: i32[], which.
    logits, prompt: a row of what `loop.prefill` returns; T may be less.
    how: How, of numbers.

  Returns:
    Slots.
  """

  def put(all_rows, row):
    rest = zip(all_rows.shape[1:], row.shape[1:], strict=True)
    row = jnp.pad(row, [(0, 0), *((0, full - n) for full, n in rest)])
    return jax.lax.dynamic_update_slice_in_dim(all_rows, row, at, axis=0)

  tokens = dataclasses.replace(prompt.tokens, num_full=0)
  prompt = prompt._replace(tokens=tokens)
  logits, prompt, how = jax.tree.map(lambda x: x[None], (logits, prompt, how))
  row = jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x, at, 1),
    (slots.lines, slots.automata),
  )
  lines, automata = row
  lines = jax.tree.map(jnp.zeros_like, lines)._replace(node=how.node)
  lines = _write(lines, how, automata, logits)
  return slots._replace(
    prompt=jax.tree.map(put, slots.prompt, prompt),
    lines=jax.tree.map(put, slots.lines, lines),
    how=jax.tree.map(put, slots.how, how),
  )


def release(lines, at):
  """Ends the answer in slot `at` i32[], of Lines."""
  return lines._replace(done=lines.done.at[at].set(True))


def advance(cfg, params, bank, slots, num_steps, is_awaited, num_rows):
  """Writes the answers in the first slots on.

  Args:
    cfg: paligemma.Config.
    params: parameters as `loop.unroll` returns them.
    bank: bank.Bank of adapters, or None.
    slots: Slots.
    num_steps: i32[], tokens of each, at most.
    is_awaited: bool[], whether to come back as soon as any answer ends.
    num_rows: int, b.

  Returns:
    Slots, and i32[], how many steps it were.
  """
  part = jax.tree.map(lambda x: x[:num_rows], slots)
  params = bank_lib.attach(params, bank, part.how.adapter, 0)
  before = part.lines.done

  def go_on(carry):
    i, _, lines = carry
    ended = jnp.any(lines.done & ~before)
    return (i < num_steps) & ~jnp.all(lines.done) & ~(is_awaited & ended)

  def body(carry):
    i, keys, lines = carry
    at = lines.step - 1
    last = jnp.take_along_axis(lines.tokens, at[:, None], axis=1)
    logits, keys = loop.extend(cfg, params, part.prompt, keys, last, at)
    lines = _write(lines, part.how, part.automata, logits[:, 0])
    return i + 1, keys, lines

  i, *new = jax.lax.while_loop(
    go_on, body, (jnp.int32(0), part.keys, part.lines)
  )
  put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, 0, axis=0)
  keys, lines = jax.tree.map(put, [slots.keys, slots.lines], new)
  return slots._replace(keys=keys, lines=lines), i


def _write(lines, how, automata, logits):
  """Chooses and writes the next token of each answer; logits f32[b, V]."""

  def allowed():
    start = (lines.node * how.stride)[:, None]
    after = jnp.take_along_axis(automata.table, start + automata.classes, 1)
    free = (how.stride == 0)[:, None]
    return jnp.where(free | (after != constraint.NEVER), logits, -jnp.inf)

  is_bound = how.stride > 0
  token = sampling.choose_each(
    jax.lax.cond(jnp.any(is_bound), allowed, lambda: logits),
    how.temperature,
    how.top_p,
    how.seed,
    lines.step,
    how.number,
  )
  likely = jax.nn.log_softmax(logits)
  logp = jnp.take_along_axis(likely, token[:, None], axis=1)[:, 0]
  top_logp, top = jax.lax.cond(
    jnp.any(how.tells_top & ~lines.done),
    lambda: tuple(jax.lax.top_k(likely, TOP)),
    lambda: (likely[:, :TOP], jnp.zeros((len(likely), TOP), jnp.int32)),
  )
  rows = jnp.arange(len(token))
  here = jnp.where(lines.done, lines.tokens.shape[1], lines.step)  # or nowhere
  put = lambda x, new: x.at[rows, here].set(new, mode="drop")
  class_of = jnp.take_along_axis(automata.classes, token[:, None], axis=1)
  at = (lines.node * how.stride)[:, None] + class_of
  node = jnp.take_along_axis(automata.table, at, axis=1)[:, 0]
  goes_on = is_bound & (node != constraint.NEVER) & ~lines.done
  step = lines.step + ~lines.done
  ended = (token == tokenizer.Tokenizer.eos) | (step >= how.limit)
  return Lines(
    put(lines.tokens, token),
    put(lines.logp, logp),
    put(lines.top, top),
    put(lines.top_logp, top_logp),
    step,
    jnp.where(goes_on, node, lines.node),
    lines.done | ended,
  )
