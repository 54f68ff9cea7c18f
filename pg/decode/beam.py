"""Beam search without a length penalty, in one compiled loop.

Each row keeps `num_beams` live hypotheses and the best finished one. Every step
compares ending each live hypothesis now with the best finished one, and goes on
with the `num_beams` best of the rest. A row stops when none of its live
hypotheses is more likely than its finished one: log probabilities only fall.

Dimensions: B batch, V vocabulary.
"""

import jax
import jax.numpy as jnp

from pg.decode import loop


def search(cfg, params, batch, *, max_len, eos, num_beams, real=None):
  """Finds each row's most likely answer; jit it as `loop.generate`.

  Args:
    cfg: paligemma.Config.
    params: parameters as `loop.unroll` returns them.
    batch: rows in decoding form.
    max_len: int, tokens in the longest answer, eos included.
    eos: int, the token that ends an answer.
    num_beams: int.
    real: bool[B], rows that are waited for; all by default.

  Returns:
    tokens i32[B, max_len], the best answer, padded with 0 after its eos, and
    its summed log probability f32[B].
  """
  B = batch["tokens"].shape[0]
  logits, context = loop.prefill(cfg, params, batch, max_len)
  first = context.live.shape[1] - max_len
  context = jax.tree.map(lambda x: jnp.repeat(x, num_beams, axis=0), context)
  # All hypotheses are equal at first: only one of them may be continued.
  scores = jnp.full((B, num_beams), -jnp.inf).at[:, 0].set(0.0)
  live = jnp.zeros((B, num_beams, max_len), jnp.int32)
  best = jnp.full(B, -jnp.inf)
  answer = jnp.zeros((B, max_len), jnp.int32)
  asleep = jnp.zeros(B, bool) if real is None else ~real

  def step(state):
    t, logits, context, scores, live, best, answer = state
    logp = jax.nn.log_softmax(logits).reshape(B, num_beams, -1)
    logp = scores[..., None] + logp

    # End the best hypothesis now, if that beats what is finished.
    ended = logp[:, :, eos]  # [B, num_beams]
    i = jnp.argmax(ended, axis=1)
    candidate = jnp.take_along_axis(live, i[:, None, None], axis=1)[:, 0]
    better = ended.max(axis=1) > best
    candidate = candidate.at[:, t].set(eos)
    answer = jnp.where(better[:, None], candidate, answer)
    best = jnp.where(better, ended.max(axis=1), best)

    # Go on with the best others.
    flat = logp.at[:, :, eos].set(-jnp.inf).reshape(B, -1)
    scores, at = jax.lax.top_k(flat, num_beams)
    parent, token = jnp.divmod(at, logp.shape[-1])
    live = jnp.take_along_axis(live, parent[..., None], axis=1)
    live = live.at[:, :, t].set(token)
    rows = (jnp.arange(B)[:, None] * num_beams + parent).reshape(-1)
    context = jax.tree.map(lambda x: x[rows], context)
    token = token.reshape(-1).astype(jnp.int32)
    logits, context = loop.extend(cfg, params, context, token, first + t)
    return t + 1, logits, context, scores, live, best, answer

  def go_on(state):
    t, _, _, scores, _, best, _ = state
    return (t < max_len) & jnp.any((scores.max(axis=1) > best) & ~asleep)

  logits = jnp.repeat(logits, num_beams, axis=0)
  state = (jnp.int32(0), logits, context, scores, live, best, answer)
  *_, best, answer = jax.lax.while_loop(go_on, step, state)
  return answer, best
