"""The training loss: next-token negative log likelihood in chunks of targets.

The vocabulary head is the widest product of the model (257,152 rows), so it
runs only where there is a target: each row's supervised positions are moved to
its front, and the head runs on chunks of columns, as many as the fullest row of
the batch needs. Gradients are formed with each chunk, because the loss is
linear in them and its weights are known beforehand: nothing is computed twice.
No logits are kept; only where targets are few, the gradients by them.

On many devices (pg/learn/parts.py) the vocabulary stays in parts: a chunk's
hidden states come to all devices that share its rows, each computes the logits
of its words, and sums over them travel. Its columns are gathered before the
first chunk, their gradient scattered after the last.

Dimensions: B batch, L text tokens, D width, V vocabulary.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pg import sharding
from pg.learn import parts
from pg.models import attention, gemma, layers, quantize

# Logits of a chunk that one device may hold, in elements (1 GiB in float32).
MAX_LOGITS = 2**28
# Dtype of activations -> by what the loss is multiplied, and its gradients are
# divided: those of float16 would be below its smallest number, 6e-8.
SCALES = {"float16": 2.0**12}


def targets(batch):
  """Splits training rows into the model's inputs, labels and loss mask.

  The only place where tokens are shifted: position t predicts token t + 1.

  Args:
    batch: the rows of `pg/data/prefix_lm.py`, text of length L + 1.

  Returns:
    The batch with text of length L, labels i32[B, L] and bool[B, L], True where
    a label counts.
  """
  inputs = {k: batch[k][:, :-1] for k in ("tokens", "mask_input", "mask_ar")}
  inputs |= {k: batch[k] for k in ("image", "mask_image")}
  return inputs, batch["tokens"][:, 1:], batch["mask_loss"][:, 1:]


def mean_weights(mask, real):
  """Returns f32[B, L] that average over tokens, then over real examples.

  Short answers weigh as much as long ones (big_vision's convention).
  """
  per_row = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
  return per_row * real[:, None] / jnp.maximum(real.sum(), 1)


class Late(NamedTuple):
  """The vocabulary head, of which the gradient is formed elsewhere."""

  matrix: jax.Array  # [V, D]
  # Zeros that nothing reads: as gradients they bring what it is formed of.
  hidden: jax.Array  # [B, L, D]
  logits: jax.Array  # [B, L, V]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def tied(embedding, tokens, weights, last, dtype):
  """Looks up tokens, and returns the embedding for the head, too.

  So that the gradient of what was looked up is added in place to the head's:
  by itself it would be another f32[V, D], almost all of it zeros. The head's is
  the largest there is: where targets are few, what it is formed of is less, and
  is kept until nothing else is left of the backward pass.

  Args:
    embedding: f32[V, D].
    tokens: i32[B, L].
    weights: f32[B, L], as of `weighted_nll`.
    last: an array whose gradient comes last.
    dtype: of hidden states.

  Returns:
    f32[B, L, D], the embedding of `weighted_nll`, and `last`.
  """
  head, (B, L), (V, D) = embedding, tokens.shape, embedding.shape
  if 2 * B * L * jnp.dtype(dtype).itemsize <= D * embedding.dtype.itemsize:
    slots = (jnp.zeros((B, L, width), dtype) for width in (D, V))
    head = Late(embedding, *slots)
  return embedding[tokens], head, last


def _tied_forward(embedding, tokens, weights, last, dtype):
  out = tied(embedding, tokens, weights, last, dtype)
  return out, (embedding, tokens, weights)


def _tied_backward(dtype, kept, g):
  del dtype
  embedding, tokens, weights = kept
  d_tokens, d_head, d_last = g
  if isinstance(d_head, Late):
    hidden, d_logits, zero, d_last = jax.lax.optimization_barrier(
      (d_head.hidden, d_head.logits, jnp.float32(0), d_last)
    )
    head = _Head(embedding)

    def add(d_matrix, at, h, d_logits, w):
      _, pull = jax.vjp(lambda m: _logits(head, m, h), embedding)
      return d_matrix + pull(d_logits.astype(jnp.float32))[0]

    zeros = jnp.broadcast_to(zero, embedding.shape)
    d_head = _fold_targets(add, zeros, hidden, d_logits, weights, head)
  return d_head.at[tokens].add(d_tokens), None, None, d_last


tied.defvjp(_tied_forward, _tied_backward)


def unscaled(value_and_grad, scale):
  """Returns a function that divides a loss and its gradients by `scale`."""

  def divided(*args):
    return jax.tree.map(lambda x: x / scale, value_and_grad(*args))

  return divided


def token_nll(logits, labels, label_smoothing=0.0):
  """Returns -log p of labels under f32[..., V] logits, in float32.

  With label smoothing e the target puts 1 - e on the label and e / (V - 1) on
  each other entry; the entropy of that target is not subtracted.
  """
  V = logits.shape[-1]
  logz = jax.nn.logsumexp(logits, axis=-1)
  hit = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
  if not label_smoothing:
    return logz - hit
  rest = (logits.sum(axis=-1) - hit) * (label_smoothing / (V - 1))
  return logz - (1 - label_smoothing) * hit - rest


def shared_nll(logits, labels, rows, label_smoothing=0.0):
  """Returns `token_nll` of a device's own tokens, the vocabulary in parts.

  Args:
    logits: f32[n * B, ..., V / n], of all tokens and a device's part of words.
    labels: i32[n * B, ...].
    rows: tuple of axes of the mesh, of size n together.
    label_smoothing: float in [0, 1).

  Returns:
    f32[B, ...].
  """
  words = num_words = logits.shape[-1]
  top = jax.lax.stop_gradient(jnp.max(logits, axis=-1))
  share, mine = lambda x: x, top
  if rows:
    n, me = jax.lax.axis_size(rows), jax.lax.axis_index(rows)
    num_words, labels = n * words, labels - me * words
    top, own = jax.lax.pmax(top, rows), len(top) // n
    mine = jax.lax.dynamic_slice_in_dim(top, me * own, own)
    share = lambda x: parts.psum_scatter(x, rows)
  total = share(jnp.sum(jnp.exp(logits - top[..., None]), axis=-1))
  logz = jnp.log(total) + mine
  # No gather: `tensor` may split the words, too.
  word = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  is_label = word == labels[..., None]
  hit = share(jnp.sum(jnp.where(is_label, logits, 0), axis=-1))
  if not label_smoothing:
    return logz - hit
  rest = share(jnp.sum(logits, axis=-1)) - hit
  rest *= label_smoothing / (num_words - 1)
  return logz - (1 - label_smoothing) * hit - rest


class _Head(NamedTuple):
  """The vocabulary head as a device has it, for the whole width."""

  matrix: jax.Array  # [V, D], or part of its rows
  rows: tuple | None = None  # axes of the mesh that split them
  kept: tuple = ()  # axes of what is gathered, as of a Part

  @classmethod
  def of(cls, embedding):
    if isinstance(embedding, Late):
      return cls(embedding.matrix)
    if quantize.is_quantized(embedding):
      values, scale = cls.of(embedding.values), cls.of(embedding.scale)
      both = quantize.Quantized(values.matrix, scale.matrix)
      return values._replace(matrix=both)
    if not isinstance(embedding, parts.Part):
      return cls(embedding)
    words, columns = embedding.axes
    rows, _ = parts.of_batch(embedding.axes)
    kept = tuple(a for a in words if a not in rows), columns
    matrix = parts.gather(
      embedding.value, kept, embedding.dtype, embedding.grad_dtype
    )
    return cls(matrix, rows, kept)

  @property
  def num_words(self):
    n = jax.lax.axis_size(self.rows) if self.rows else 1
    return n * self.matrix.shape[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def weighted_nll(
  hidden, embedding, labels, weights, cap=0.0, label_smoothing=0.0
):
  """Returns the weighted sum of negative log likelihoods of the labels.

  Args:
    hidden: [B, L, D], the decoder's last hidden states.
    embedding: f32[V, D], the tied vocabulary head; or a Part of it, where each
      device calls this with its own rows; or Quantized, without a gradient.
    labels: i32[B, L].
    weights: f32[B, L]; where it is 0 there is no target.
    cap: float, final soft-cap, 0 is off.
    label_smoothing: float in [0, 1).

  Returns:
    f32[].
  """
  head = _Head.of(embedding)

  def add(loss, at, h, y, w):
    return loss + _chunk_nll(h, head, y, w, cap, label_smoothing).sum()

  return _fold_targets(add, jnp.float32(0), hidden, labels, weights, head)


def row_nll(hidden, embedding, labels, mask, cap=0.0):
  """Returns f32[B], each row's mean negative log likelihood per target."""
  weights = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
  head = _Head.of(embedding)

  def add(nll, at, h, y, w):
    return nll + _chunk_nll(h, head, y, w, cap, 0.0)

  zeros = jnp.zeros(len(hidden))
  return _fold_targets(add, zeros, hidden, labels, weights, head)


def _forward(hidden, embedding, labels, weights, cap, label_smoothing):
  """Returns the loss, and its gradients by hidden and embedding."""
  head = _Head.of(embedding)
  is_late = isinstance(embedding, Late)
  is_fixed = quantize.is_quantized(embedding)
  logits_of, by = functools.partial(_logits, head), (head.matrix,)
  if is_fixed:
    logits_of, by = functools.partial(logits_of, head.matrix), ()

  def total(logits, y, w):
    return _nll(logits, head, y, w, cap, label_smoothing).sum()

  def add(carry, at, h, y, w):
    loss, d_hidden, kept = carry
    logits, pull = jax.vjp(logits_of, *by, h)
    value, d_logits = jax.value_and_grad(total)(logits, y, w)
    *d_m, d_h = pull(d_logits)
    if is_late:
      kept = _scatter(kept, at, d_logits.astype(kept.dtype))
    elif d_m:
      kept = kept + d_m[0]
    return loss + value, _scatter(d_hidden, at, d_h), kept

  is_part = isinstance(embedding, parts.Part)
  if is_fixed:
    kept = None
  elif is_late:
    kept = embedding.logits
  else:
    dtype = jnp.float32 if is_part else embedding.dtype
    kept = jnp.zeros(head.matrix.shape, dtype)
  zeros = jnp.float32(0), jnp.zeros_like(hidden), kept
  loss, d_hidden, kept = _fold_targets(
    add, zeros, hidden, labels, weights, head
  )
  if is_part:
    kept = kept.astype(embedding.grad_dtype)
    kept = parts.scatter(kept, head.kept)
    kept = embedding.replace(value=kept.astype(embedding.value.dtype))
  if is_late:
    kept = Late(None, hidden, kept)
  return loss, (d_hidden, kept)


def _backward(cap, label_smoothing, kept, g):
  del cap, label_smoothing
  scale = lambda x: (g * x).astype(x.dtype)
  d_hidden, d_embedding = kept
  if isinstance(d_embedding, Late):  # the gradient is linear in either
    d_embedding = d_embedding._replace(hidden=scale(d_embedding.hidden))
  else:
    d_embedding = jax.tree.map(scale, d_embedding)
  return scale(d_hidden), d_embedding, None, None


weighted_nll.defvjp(_forward, _backward)


def _chunk_nll(h, head, labels, weights, cap, label_smoothing):
  """Returns f32[B], weighted sums over a chunk of hidden [B, chunk, D]."""
  logits = _logits(head, head.matrix, h)
  return _nll(logits, head, labels, weights, cap, label_smoothing)


def _logits(head, matrix, h):
  """Returns f32[B, chunk, V], not capped yet; of a part [n * B, chunk, V / n].

  They are of a head's matrix, which is given for gradients by it.
  """
  if head.rows is None:
    # Without this a vocabulary that is split over devices gathers all rows.
    return layers.constrain(gemma.vocabulary_logits(h, matrix, 0.0))
  if head.rows:
    h = parts.gather(h, (head.rows, (), ()), h.dtype, "float32")
  return gemma.vocabulary_logits(h, matrix, 0.0)


def _nll(logits, head, labels, weights, cap, label_smoothing):
  """Returns f32[B], weighted sums over what `_logits` returned."""
  logits = attention.softcap(logits, cap)
  if head.rows is None:
    nll = token_nll(logits, labels, label_smoothing)
  else:
    if head.rows:
      labels = parts.all_gather(labels, head.rows)
    nll = shared_nll(logits, labels, head.rows, label_smoothing)
  return jnp.sum(nll * weights, axis=1)


def _fold_targets(add, carry, hidden, labels, weights, head):
  """Folds `add(carry, at, hidden, labels, weights)` over chunks of targets.

  `at` i32[B, chunk] are columns, targets first; the other three are
  [B, chunk, ...]. After the last column they are filled: at L, weight 0.
  """
  (B, L), V = weights.shape, head.num_words
  shards = layers.num_batch_shards()
  chunk = max(1, min(8, L, MAX_LOGITS * shards // (B * V)))
  order = jnp.argsort(weights == 0, axis=1, stable=True)
  order = jnp.pad(order, ((0, 0), (0, -L % chunk)), constant_values=L)
  num_chunks = -(-jnp.max(jnp.sum(weights != 0, axis=1)) // chunk)
  # Where each device has rows of its own, all go on together.
  if jax.sharding.get_abstract_mesh().manual_axes:
    num_chunks = jax.lax.pmax(num_chunks, sharding.BATCH)

  def body(i, carry):
    at = jax.lax.dynamic_slice_in_dim(order, i * chunk, chunk, 1)  # [B, chunk]
    chunks = (_gather(x, at) for x in (hidden, labels, weights))
    return add(carry, at, *chunks)

  return jax.lax.fori_loop(0, num_chunks, body, carry)


# Mapped over rows, both stay on the device that holds the row.
_gather = jax.vmap(lambda x, at: x.at[at].get(mode="fill", fill_value=0))
_scatter = jax.vmap(lambda x, at, new: x.at[at].set(new, mode="drop"))
