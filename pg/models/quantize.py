"""Quantised weights: whole numbers of 8 or 4 bits, with scales.

int8 has one scale for each output of a weight, int4 and nf4 one for each group
of 64 inputs of each output, or of as many as an argument says ("int4:32").
Where no group of 16 or more divides a weight's inputs (SigLIP's heads of 72),
and of the embedding in any format, it is int8. Norms, biases, the embeddings of
patches and positions stay as they are.

The numbers are those that qwix makes: symmetric, by the largest of a group; of
nf4 (arXiv:2305.14314, appendix E) they are places in a table. The dtype of the
values, int8, int4 or uint4, says which of the three they are.
"""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pg import tree
from pg.models import matrices

DTYPES = {"int8": jnp.int8, "int4": jnp.int4, "nf4": jnp.uint4}
EMBEDDING = "llm/embedder/input_embedding"
GROUP, LEAST = 64, 16  # inputs that share a scale
_PIECE = 1 << 25  # elements that are quantised at once
NF4 = (
  *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
  *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
  *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
  *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
  *(0.7229568362236023, 1.0),
)


@struct.dataclass
class Quantized:
  """A quantised weight, which the products of layers.py take.

  Its values come first, as flax compares their shape with the module's. Either
  has as many dimensions as the weight; a scale is of all that it divides.
  """

  values: jax.Array  # int8, int4 or uint4
  scale: jax.Array  # f32

  @property
  def shape(self):
    return self.values.shape

  @property
  def dtype(self):
    return self.values.dtype

  @property
  def size(self):
    return self.values.size

  def __iter__(self):
    """Splits a stack, as iterating over an array does."""
    each = zip(self.values, self.scale, strict=True)
    return (Quantized(*pair) for pair in each)


class Format(NamedTuple):
  """What weights are quantised to."""

  kind: str  # of DTYPES
  group: int | None = None  # inputs that share a scale; None is as above


def parse(text):
  """Returns the Format that "int8", "int4", "nf4" or "int4:32" names.

  Raises:
    ValueError: it names none.
  """
  found = re.fullmatch(r"int8|(int4|nf4)(:\d{1,6})?", text)
  if not found:
    raise ValueError(
      f"{text!r} is no format of quantised weights; wanted int8, int4 or nf4,"
      " of the last two also with how many inputs share a scale: int4:32"
    )
  kind, _, group = text.partition(":")
  return Format(kind, int(group) if group else None)


def is_quantized(w):
  return isinstance(w, Quantized)


def letters(name):
  """Returns the dimensions of what is quantised, and those summed over."""
  return ("VD", "D") if name == EMBEDDING else matrices.letters(name)


def check(how, shapes):
  """Raises ValueError where the group of a Format does not divide the inputs.

  That is of the decoder; of an image tower weights that it does not divide are
  int8.

  Args:
    how: Format.
    shapes: {name: anything with a shape}, of all weights.
  """
  if how.group is None:
    return
  for name, x in shapes.items():
    if name == EMBEDDING or not name.startswith("llm/") or not letters(name):
      continue
    size = _inputs(name, x.shape)[1]
    if not how.group or size % how.group:
      fit = [n for n in (16, 32, 64, 128, 256) if size % n == 0]
      raise ValueError(
        f"{how.kind}:{how.group}: groups of {how.group} do not divide the"
        f" {size} inputs of {name}; try {', '.join(map(str, fit))}"
      )


def form(how, name, shape):
  """Returns how a weight is quantised, or None where it is not.

  Args:
    how: Format.
    name: str.
    shape: tuple.

  Returns:
    (a key of DTYPES, the shape of the scale).
  """
  if not letters(name):
    return None
  (kernel, inner), (at, size) = letters(name), _inputs(name, shape)
  lead = len(shape) - len(kernel)
  scale = [
    1 if i >= lead and kernel[i - lead] in inner else n
    for i, n in enumerate(shape)
  ]
  group = how.group or max(
    (n for n in (GROUP, 32, LEAST) if size % n == 0), default=0
  )
  is_whole = how.kind == "int8" or name == EMBEDDING
  if is_whole or not group or size % group:
    return "int8", tuple(scale)
  scale = [shape[i] if 1 == n else n for i, n in enumerate(scale)]
  scale[at] = size // group
  return how.kind, tuple(scale)


def _inputs(name, shape):
  """Returns the axis along which groups lie, and its size."""
  kernel, inner = letters(name)
  at = len(shape) - len(kernel) + kernel.index(inner[-1])
  return at, shape[at]


def abstract(how, name, spec):
  """Returns the shapes and dtypes of a weight [...], quantised if it is."""
  found = form(how, name, spec.shape)
  if not found:
    return spec
  values = jax.ShapeDtypeStruct(spec.shape, DTYPES[found[0]])
  return Quantized(values, jax.ShapeDtypeStruct(found[1], jnp.float32))


def of_array(how, name, w):
  """Quantises a weight, in float32.

  Args:
    how: Format.
    name: str.
    w: [...], f32, f16 or bf16, numpy or jax.

  Returns:
    Quantized of numpy or jax arrays as `w`; `w` where it is not quantised.
  """
  like = abstract(how, name, w)
  return as_like(like, w) if is_quantized(like) else w


def as_like(like, w):
  """Quantises a weight, in float32, to what has these shapes and dtypes.

  Args:
    like: Quantized, as of `abstract`.
    w: [...], f32, f16 or bf16, numpy or jax.

  Returns:
    Quantized of numpy or jax arrays as `w`.
  """
  kind, scale = kind_of(like), like.scale.shape
  if isinstance(w, jax.Array):
    return _quantize(w, kind, scale)
  rows = len(w)
  if scale[0] == rows:  # one after another, without a copy of all in f32
    rows = max(1, _PIECE // w[:1].size)
  pieces = []
  for i in range(0, len(w), rows):
    piece = np.ascontiguousarray(w[i : i + rows], np.float32)
    part = _quantize(piece, kind, (min(scale[0], len(piece)), *scale[1:]))
    pieces.append(jax.tree.map(np.asarray, part))
  if len(pieces) == 1:
    return pieces[0]
  return jax.tree.map(lambda *x: np.concatenate(x), *pieces)


def num_bytes(w):
  """Returns the bytes of a weight [...] in memory, where int4 is packed."""
  bits = jax.dtypes.itemsize_bits
  return sum(x.size * bits(x.dtype) // 8 for x in jax.tree.leaves(w))


def kind_of(w):
  """Returns the key of DTYPES that a Quantized is of."""
  return next(k for k, x in DTYPES.items() if x == w.values.dtype)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _quantize(w, kind, scale):
  import qwix  # it takes half a second

  pairs = list(enumerate(zip(w.shape, scale, strict=True)))
  found = qwix.quantize(
    w.astype(jnp.float32),
    kind if kind == "nf4" else DTYPES[kind],
    channelwise_axes=[i for i, (n, m) in pairs if n == m],
    tiled_axes={i: n // m for i, (n, m) in pairs if n != m},
  )
  return Quantized(found.qvalue, found.scale)


def quantized(how, params):
  """Returns parameters, f32, with the weights of a Format quantised."""
  return tree.map_named(functools.partial(of_array, how), params)


def numbers(w, dtype):
  """Returns what is multiplied with the scales, [...] of a dtype."""
  xp = w.values.__array_namespace__()
  if w.values.dtype != DTYPES["nf4"]:
    return w.values.astype(dtype)
  return xp.asarray(NF4, dtype)[w.values.astype(xp.int32)]


def whole(w, dtype):
  """Returns a weight [...] in a dtype; Quantized is made of values and scales.

  Args:
    w: Quantized or an array, numpy or jax.
    dtype: of the result; the products with scales are f32.
  """
  if not is_quantized(w):
    return w.astype(dtype)
  scale, xp = w.scale, w.scale.__array_namespace__()
  for axis, (n, m) in enumerate(zip(w.values.shape, scale.shape, strict=True)):
    if m not in (1, n):  # of scales, which XLA does not write down
      scale = xp.repeat(scale, n // m, axis=axis)
  return (numbers(w, "float32") * scale).astype(dtype)


def rows(table, tokens, dtype):
  """Looks up rows [..., D] of an embedding [V, D], Quantized or not."""
  if not is_quantized(table):
    return table[tokens].astype(dtype)
  if tokens.size == 1:
    # Of one row a TPU's compiler makes a slice, for which it copies the table
    # into another layout; of two it does not.
    both = jnp.concatenate([tokens, tokens], axis=-1)
    return rows(table, both, dtype)[..., :1, :]
  return whole(Quantized(table.values[tokens], table.scale[tokens]), dtype)
