"""Beam search without a length penalty, in one compiled loop.

Each row keeps N live hypotheses and the best finished one. Every step weighs
ending each live hypothesis now against the best finished one, and goes on with
the N best of the rest. A row stops when none of its live hypotheses is more
likely than its finished one: log probabilities only fall.

Dimensions: B batch, N beams, A longest answer, S cache slots, V vocabulary.
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
    max_len: int, A, tokens in the longest answer, eos included.
    eos: int, the token that ends an answer.
    num_beams: int, N.
    real: bool[B], rows that are waited for; all by default.

  Returns:
    tokens i32[B, A], the best answer, padded with 0 behind its eos, and its
    summed log probability f32[B].
  """
  B, N, A = batch["tokens"].shape[0], num_beams, max_len
  logits, context = loop.prefill(cfg, params, batch, max_len)
  first = context.live.shape[1] - max_len
  context = jax.tree.map(lambda x: jnp.repeat(x, N, axis=0), context)
  # All N hypotheses are equal at first: only one of them may be continued.
  scores = jnp.full((B, N), -jnp.inf).at[:, 0].set(0.0)
  live = jnp.zeros((B, N, A), jnp.int32)
  best = jnp.full(B, -jnp.inf)
  answer = jnp.zeros((B, A), jnp.int32)
  asleep = jnp.zeros(B, bool) if real is None else ~real

  def step(state):
    t, logits, context, scores, live, best, answer = state
    logp = scores[..., None] + jax.nn.log_softmax(logits).reshape(B, N, -1)

    # End the best hypothesis now, if that beats what is finished.
    ended = logp[:, :, eos]  # [B, N]
    i = jnp.argmax(ended, axis=1)
    candidate = jnp.take_along_axis(live, i[:, None, None], axis=1)[:, 0]
    better = ended.max(axis=1) > best
    candidate = candidate.at[:, t].set(eos)
    answer = jnp.where(better[:, None], candidate, answer)
    best = jnp.where(better, ended.max(axis=1), best)

    # Go on with the N best others.
    flat = logp.at[:, :, eos].set(-jnp.inf).reshape(B, -1)
    scores, at = jax.lax.top_k(flat, N)
    parent, token = jnp.divmod(at, logp.shape[-1])
    live = jnp.take_along_axis(live, parent[..., None], axis=1)
    live = live.at[:, :, t].set(token)
    rows = (jnp.arange(B)[:, None] * N + parent).reshape(-1)
    context = jax.tree.map(lambda x: x[rows], context)
    token = token.reshape(-1).astype(jnp.int32)
    logits, context = loop.extend(cfg, params, context, token, first + t)
    return t + 1, logits, context, scores, live, best, answer

  def go_on(state):
    t, _, _, scores, _, best, _ = state
    return (t < A) & jnp.any((scores.max(axis=1) > best) & ~asleep)

  logits = jnp.repeat(logits, N, axis=0)
  state = (jnp.int32(0), logits, context, scores, live, best, answer)
  *_, best, answer = jax.lax.while_loop(go_on, step, state)
  return answer, best
