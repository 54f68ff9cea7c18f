"""Sampling the next token from logits: greedy, temperature, top-k, nucleus."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Sampler:
  """Settings of the sampling; the default is greedy.

  As a pytree its numbers are leaves: programs serve every temperature above 0,
  every top_p below 1 and every seed.
  """

  temperature: float = 0.0  # 0 is greedy
  top_k: int = 0  # keep the k most likely; 0 keeps all
  top_p: float = 1.0  # keep the fewest that reach this probability
  seed: int = 0

  def __post_init__(self):
    if (
      not 0 <= self.temperature < math.inf
      or self.top_k < 0
      or not 0 < self.top_p <= 1
    ):
      raise ValueError(
        f"{self}: wanted 0 <= temperature < inf, top_k >= 0 and 0 < top_p <= 1"
      )

  def tree_flatten(self):
    if self.temperature == 0:
      return (), None
    top_p = (self.top_p,) if self.top_p < 1 else ()
    seed = self.seed
    if isinstance(seed, int):  # else jit takes it for an int32
      seed = np.uint32(seed % 2**32)
    return (self.temperature, seed, *top_p), self.top_k

  @classmethod
  def tree_unflatten(cls, top_k, leaves):
    self = object.__new__(cls)
    names = ("temperature", "seed", "top_p")
    for name, x in dict(zip(names, leaves), top_k=top_k or 0).items():
      object.__setattr__(self, name, x)
    return self


def choose(logits, sampler, ids, step, answers=None):
  """Samples one token per row.

  The draw of a row depends on the seed, its id, the number of its answer and
  the step only: neither on its neighbours in the batch nor on its place.

  Args:
    logits: f32[B, V]; -inf where a token is not allowed.
    sampler: Sampler.
    ids: i32[B], the rows' numbers.
    step: i32[], which token of the answer this is.
    answers: i32[B], which of the answers to its row each is, 0 by default.

  Returns:
    i32[B].
  """
  if isinstance(sampler.temperature, float | int) and not sampler.temperature:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  logits = logits / sampler.temperature
  nucleus = not isinstance(sampler.top_p, float | int) or sampler.top_p < 1
  if sampler.top_k or nucleus:
    logits = _keep(logits, sampler.top_k, sampler.top_p)
  key = jax.random.fold_in(jax.random.key(sampler.seed), step)

  def draw(i, answer, x):
    own = jax.random.fold_in(key, i)
    other = jax.random.fold_in(own, answer)
    return jax.random.categorical(jnp.where(answer == 0, own, other), x)

  answers = jnp.zeros_like(ids) if answers is None else answers
  return jax.vmap(draw)(ids, answers, logits).astype(jnp.int32)


def choose_each(logits, temperature, top_p, seed, step, answers):
  """As `choose`, where each row has settings of its own.

  A row gets the token that `choose` gives it alone, with 0 as its id.

  Args:
    logits: f32[B, V]; -inf where a token is not allowed.
    temperature: f32[B], 0 where a row is greedy.
    top_p: f32[B].
    seed: u32[B].
    step, answers: i32[B].

  Returns:
    i32[B].
  """
  best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
  drawn = temperature > 0
  # A mass of more than all, so that rounding leaves no token out.
  mass = jnp.where(top_p < 1, top_p, 2.0)
  heat = jnp.where(drawn, temperature, 1.0)

  def draw(x, heat, seed, step, answer, *mass):
    sampler = Sampler.tree_unflatten(0, (heat, seed, *mass))
    return choose(x[None], sampler, jnp.zeros(1, jnp.int32), step, answer[None])

  def all_rows(*mass):
    own = (logits, heat, seed, step, answers, *mass)
    return jnp.where(drawn, jax.vmap(draw)(*own)[:, 0], best)

  kinds = (lambda: best), all_rows, lambda: all_rows(mass)
  kind = jnp.any(drawn) + jnp.any(drawn & (top_p < 1)).astype(jnp.int32)
  return jax.lax.switch(kind, kinds)


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
