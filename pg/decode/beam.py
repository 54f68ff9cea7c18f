"""Beam search in one compiled loop, as big_vision or as transformers do it.

Each row keeps `num_beams` live hypotheses. Without a length penalty it is the
search of big_vision, with which results were published: every step compares
ending each live hypothesis now with the best finished one, and goes on with the
`num_beams` best of the rest; a row stops when none of its live hypotheses is
more likely than its finished one, as log probabilities only fall.

With a length penalty p it is the search of transformers: the score of an answer
of t tokens is its log probability / t ** p; a hypothesis may end only where
that is among the `num_beams` best continuations; what is live when the slots
are full ends there; a row stops when it has `num_beams` finished answers and
its best live hypothesis scores no better than the worst of them.

Where nothing may end, the best live hypothesis is the answer.

Dimensions: B batch, n beams, A slots (tokens in the longest answer),
V vocabulary.
"""

import jax
import jax.numpy as jnp

from pg.decode import loop


def search(
  cfg,
  params,
  batch,
  *,
  max_len,
  eos,
  num_beams,
  length_penalty=None,
  forbidden=(),
  automaton=None,
  real=None,
):
  """Finds each row's best answer; jit it as `loop.generate`.

  Args:
    cfg: paligemma.Config.
    params: parameters as `loop.unroll` returns them.
    batch: rows in decoding form.
    max_len: int, A, eos included.
    eos: int or i32[k], tokens that end an answer.
    num_beams: int, n.
    length_penalty: float or None, see above.
    forbidden, automaton: see loop.Rules.
    real: bool[B], rows that are waited for; all by default.

  Returns:
    tokens i32[B, A], the best answer, padded with 0 after its eos, and its
    summed log probability f32[B].
  """
  logits, prompt = loop.prefill(cfg, params, batch)
  rules = loop.Rules(eos, forbidden=forbidden, automaton=automaton)
  return of_prompt(
    cfg, params, logits, prompt, rules, max_len, num_beams, length_penalty, real
  )


def of_prompt(
  cfg,
  params,
  logits,
  prompt,
  rules,
  max_len,
  num_beams,
  length_penalty=None,
  real=None,
):
  """Searches on from what `loop.prefill` returned; else as `search`."""
  B, V = logits.shape
  n, A, stop = num_beams, max_len, jnp.ravel(jnp.asarray(rules.stop))
  penalty = 0.0 if length_penalty is None else length_penalty
  rows = jnp.arange(B)[:, None]

  def step(state):
    t, logits, keys, node, logp, live, best, answer, finished, open_ = state
    words = jax.nn.log_softmax(logits)
    words = jnp.where(rules.allow(logits, node) == -jnp.inf, -jnp.inf, words)
    words = logp[..., None] + words  # [B, n, V]
    norm = (t + 1.0) ** penalty
    ends = jnp.isin(jnp.arange(V), stop)

    # What may end now: [B, k] candidates, their hypotheses and tokens.
    if length_penalty is None:
      score = jnp.where(ends, words, -jnp.inf)
      score, token = score.max(-1), jnp.argmax(score, -1)  # [B, n]
      parent = jnp.broadcast_to(jnp.arange(n), (B, n))
    else:
      score, at = jax.lax.top_k(words.reshape(B, n * V), n)
      parent, token = jnp.divmod(at, V)
      score = jnp.where(ends[token] | (t + 1 == A), score / norm, -jnp.inf)
    i = jnp.argmax(score, axis=1, keepdims=True)
    found = jnp.take_along_axis(score, i, axis=1)[:, 0]
    candidate = live[rows, jnp.take_along_axis(parent, i, axis=1)][:, 0]
    token = jnp.take_along_axis(token, i, axis=1)[:, 0]
    better = (found > best[0]) & open_
    candidate = candidate.at[:, t].set(token)
    answer = jnp.where(better[:, None], candidate, answer)
    best = (
      jnp.where(better, found, best[0]),
      jnp.where(better, found * norm, best[1]),
    )
    finished = jax.lax.top_k(jnp.concatenate([finished, score], 1), n)[0]

    # Go on with the best others.
    flat = jnp.where(ends, -jnp.inf, words).reshape(B, n * V)
    logp, at = jax.lax.top_k(flat, n)
    parent, token = jnp.divmod(at, V)
    token = token.astype(jnp.int32)
    live = live[rows, parent].at[:, :, t].set(token)
    keys = jax.tree.map(lambda x: x[rows, parent], keys)
    node = rules.follow(node[rows, parent], token)
    logits, keys = loop.extend(cfg, params, prompt, keys, token, t)
    if length_penalty is None:
      open_ &= logp[:, 0] > best[0]
    else:
      open_ &= logp[:, 0] / norm > finished[:, -1]
    return t + 1, logits, keys, node, logp, live, best, answer, finished, open_

  def go_on(state):
    return (state[0] < A) & jnp.any(state[-1])

  nothing = jnp.full(B, -jnp.inf)
  state = (
    jnp.int32(0),
    jnp.broadcast_to(logits[:, None], (B, n, V)),
    loop.slots(cfg, prompt, n, A),
    loop.roots(rules, (B, n)),
    # All hypotheses are equal at first: only one of them may be continued.
    jnp.full((B, n), -jnp.inf).at[:, 0].set(0.0),
    jnp.zeros((B, n, A), jnp.int32),
    (nothing, nothing),  # score and log probability of the best answer
    jnp.zeros((B, A), jnp.int32),
    jnp.full((B, n), -jnp.inf),  # scores of finished answers, best first
    jnp.ones(B, bool) if real is None else real,  # rows that are not done
  )
  state = jax.lax.while_loop(go_on, step, state)
  _, _, _, _, logp, live, best, answer, _, _ = state
  # Where nothing may end in time, what is live stands for the answer.
  cut = (best[0] == -jnp.inf) & (logp[:, 0] > -jnp.inf)
  cut &= True if real is None else real
  answer = jnp.where(cut[:, None], live[:, 0], answer)
  return answer, jnp.where(cut, logp[:, 0], best[1])
