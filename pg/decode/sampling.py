"""Sampling the next token from logits: greedy, temperature, top-k, nucleus."""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Settings of the sampling; the default is greedy."""

  temperature: float = 0.0  # 0 is greedy
  top_k: int = 0  # keep the k most likely; 0 keeps all
  top_p: float = 1.0  # keep the fewest that reach this probability
  seed: int = 0

  def __post_init__(self):
    if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
      raise ValueError(
        f"{self}: wanted temperature >= 0, top_k >= 0 and 0 < top_p <= 1"
      )


def choose(logits, sampler, ids, step):
  """Samples one token per row.

  The draw of a row depends on the seed, its id and the step only: neither on
  its neighbours in the batch nor on its place.

  Args:
    logits: f32[B, V]; -inf where a token is not allowed.
    sampler: Sampler.
    ids: i32[B], the rows' numbers.
    step: i32[], which token of the answer this is.

  Returns:
    i32[B].
  """
  if sampler.temperature == 0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits / sampler.temperature
  if sampler.top_k or sampler.top_p < 1:
    logits = _keep(logits, sampler.top_k, sampler.top_p)
  key = jax.random.fold_in(jax.random.key(sampler.seed), step)
  draw = lambda i, x: jax.random.categorical(jax.random.fold_in(key, i), x)
  return jax.vmap(draw)(ids, logits).astype(jnp.int32)


def _keep(logits, k, p):
  """Returns logits with -inf for all but the k best, or the nucleus of p.

  Of equal ones the first is the better, as for argmax.
  """
  V = logits.shape[-1]
  best, ids = jax.lax.top_k(logits, min(k or V, V))  # stable
  probs = jax.nn.softmax(best, axis=-1)
  before = jnp.cumsum(probs, axis=-1) - probs  # mass of better tokens
  best = jnp.where(before < p, best, -jnp.inf)
  nothing = jnp.full_like(logits, -jnp.inf)
  return jnp.put_along_axis(nothing, ids, best, axis=-1, inplace=False)
