"""What both towers are made of: contractions, and scanned stacks of layers.

Parameters are float32 masters; the activations' dtype is the compute dtype.
bfloat16 operands are multiplied as they are on TPU and GPU, whose units add up
in float32. On a CPU they are widened first, as a bfloat16 product is up to 12
times slower there in some shapes: in training, and where both are activations.
Weights that are kept in bfloat16 to serve are multiplied as they are, in the
two forms that are fast (see `_halves` and `_row`).

Of a stack, the backward pass keeps what its policy names: `nothing` keeps only
block inputs (least memory, about 1.31 times the FLOPs), `dots` the results of
products without a batch dimension, `everything` recomputes nothing, so that on
many devices each keeps all layers' weights. Between the first two, `attn_out`
also keeps what attention adds up, and `ffw` that and what the mlp's first
products are. `rows` keeps what `nothing` does and computes the mlp of a decoder
layer for a few rows at a time (see `by_rows`).
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
from flax import linen as nn

from pg import sharding
from pg.models import bank, int8, lora, quantize

_only = jax.checkpoint_policies.save_only_these_names
POLICIES = {
  "rows": jax.checkpoint_policies.nothing_saveable,
  "nothing": jax.checkpoint_policies.nothing_saveable,
  # By the names that jax.ad_checkpoint.checkpoint_name gives.
  "attn_out": _only("attn_out"),
  "ffw": _only("attn_out", "ffw"),
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "everything": None,  # no wrapper at all
}
# Stacks up to this depth are written out: a scan is slower on a CPU, and only
# deep ones take long to compile.
SHALLOW = 4
# Tokens that `by_rows` takes at a time, at least: fewer would be multiplied in
# less time than it takes to add up the gradients by weights.
CHUNK_TOKENS = 4096
# Rows up to which a CPU multiplies faster with the matrix first; see `linear`.
FEW_ROWS = 192
# Tokens up to which a GPU sums with weights of groups, see `_quantized`.
FEW_TOKENS = 4


def dot(equation, x, w, out=None):
  """Contracts activations `x` with `w`, in the dtype of `x`.

  Args:
    equation: str, an einsum over the repository's dimension letters.
    x: f32 or bf16 [...], activations.
    w: [...], parameters or activations; cast to `x.dtype`.
    out: dtype of the result, by default that of `x`; float32 keeps the
      accumulator's precision (attention logits, vocabulary logits).

  Returns:
    [...] of dtype `out`.
  """
  out = x.dtype if out is None else out
  w = w.astype(x.dtype)
  if _on_cpu():
    y = jnp.einsum(equation, x.astype(jnp.float32), w.astype(jnp.float32))
  elif x.dtype == jnp.float32:
    # float32 means float32: no TF32, no bfloat16 passes.
    y = jnp.einsum(equation, x, w, precision=jax.lax.Precision.HIGHEST)
  elif out == jnp.float32:
    y = _widening(equation, x, w)
  else:
    y = jnp.einsum(equation, x, w, preferred_element_type=out)
  return y.astype(out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _widening(equation, x, w):
  """Contracts bf16 or f16 operands to f32, and in the backward pass, too.

  JAX's own would multiply f32 gradients with 16-bit operands: on a GPU as TF32,
  at half the speed. Rounded they are as those of all other products.
  """
  return jnp.einsum(equation, x, w, preferred_element_type=jnp.float32)


def _widening_forward(equation, x, w):
  return _widening(equation, x, w), (x, w)


def _widening_backward(equation, operands, g):
  _, pull = jax.vjp(functools.partial(jnp.einsum, equation), *operands)
  return pull(g.astype(operands[0].dtype))


_widening.defvjp(_widening_forward, _widening_backward)


def dense(equation, x, w, out=None):
  """Contracts each token of activations with parameters: a linear layer.

  On a CPU batch and time become one dimension: that is up to 1.7 times faster
  forward and backward (measured).

  Args:
    equation: str, an einsum in which "..." stands for batch and time, such as
      "...D,DF->...F".
    x: f32 or bf16 [B, T, ...], activations.
    w: [...], parameters; cast to `x.dtype`; or quantize.Quantized, a
      lora.Adapted, or bank.Banked.
    out: as for `dot`.

  Returns:
    [B, T, ...] of dtype `out`.
  """
  if isinstance(w, lora.Adapted):
    return _adapted(equation, x, w, out)
  if isinstance(w, bank.Banked):
    return _banked(functools.partial(dense, equation), x, w, out)
  if quantize.is_quantized(w):
    return _quantized(functools.partial(dense, equation), equation, x, w, out)
  if not _on_cpu():
    return dot(equation, x, w, out)
  rows = x.reshape(-1, *x.shape[2:])
  multiply = _halves if _kept_in_bfloat16(x, w) else dot
  y = multiply(equation, rows, w, out)
  return y.reshape(*x.shape[:2], *y.shape[1:])


def _adapted(equation, x, w, out=None):
  """As `dense` of a weight with an adapter."""
  left, kernel, result = re.split(",|->", equation)
  inner = "".join(c for c in kernel if c not in result)
  outer = "".join(c for c in kernel if c in result)
  kept = "".join(c for c in left if c not in inner)
  y = dense(equation, x, w.base, out)
  # Else XLA for GPUs makes one product of both, and a copy of both for it.
  x = jax.lax.optimization_barrier(x)
  h = x if w.key is None else drop(x, w.cfg.dropout, w.key)
  h = dense(f"{left},{inner}r->{kept}r", h, w.a)
  h = dense(f"{kept}r,r{outer}->{result}", h, w.b, out)
  y = y + w.cfg.scale * h
  if w.m is None:
    return y
  # Without a gradient through the length, as in the paper (section 4.3).
  dims = kernel, inner
  total = lora.added(w.cfg.scale, dims, w.base, w.a, w.b)
  factor = w.m / jax.lax.stop_gradient(lora.norm(total, dims))
  return y * jnp.broadcast_to(factor.astype(y.dtype), y.shape)


def _banked(multiply, x, w, out=None):
  """Contracts each token with a weight and its row's adapter; see bank.py.

  Args:
    multiply: function (x, w, out), the product with the weight alone.
    x: [B, T, ...].
    w: bank.Banked.
    out: as for `dot`.
  """
  y = multiply(x, w.base, out)
  h = x.reshape(*x.shape[:2], -1)
  h = dot("BTD,BDr->BTr", h, w.a[w.rows])
  y = y + dot("BTr,BrF->BTF", h, w.b[w.rows], out).reshape(y.shape)
  if w.f is None:
    return y
  f = w.f[w.rows].astype(y.dtype).reshape(len(y), 1, *y.shape[2:])
  return y * jnp.broadcast_to(f, y.shape)


def _quantized(multiply, equation, x, w, out=None):
  """Contracts with a quantised weight.

  Where an output has one scale it comes after the sum, so that the product is
  with whole numbers, which bfloat16 has exactly.

  Args:
    multiply: function (x, w, out), a product with an array.
    equation: str, what it computes.
    x: [B, T, ...].
    w: quantize.Quantized.
    out: as for `dot`.
  """
  _, kernel, result = re.split(",|->", equation)
  sizes = dict(zip(kernel, w.scale.shape, strict=True))
  if any(n > 1 for letter, n in sizes.items() if letter not in result):
    # A GPU's compiler writes the matrix down for a product, not for sums.
    few = math.prod(x.shape[:2]) <= FEW_TOKENS
    if kernel == "FD" and few and platform() == "gpu":
      x32 = x.astype(jnp.float32)[..., None, :]
      return (
        (x32 * quantize.whole(w, jnp.float32)).sum(-1).astype(out or x.dtype)
      )
    return multiply(x, quantize.whole(w, x.dtype), out)
  if _on_cpu() and (product := int8.find(equation, w.values)):
    y = product(x.reshape(math.prod(x.shape[:2]), -1), w.values, w.scale)
    shape = [n for k, n in zip(kernel, w.shape, strict=True) if k in result]
    return y.reshape(*x.shape[:2], *shape).astype(out or x.dtype)
  y = multiply(x, quantize.numbers(w, x.dtype), jnp.float32)
  scale = w.scale.reshape([n for k, n in sizes.items() if k in result])
  return (y * jnp.broadcast_to(scale, y.shape)).astype(out or x.dtype)


def narrow(x):
  """Rounds to float16; what is beyond its range becomes its largest number."""
  most = float(jnp.finfo(jnp.float16).max)
  return jnp.clip(x, -most, most).astype(jnp.float16)


def linear(x, w, out=None):
  """Contracts each token of activations with a matrix [out, in].

  In float32 on a CPU one row takes 1.1 to 2.4 times less than with [in, out],
  and 2 to 32 rows about half as long, as long as the matrix comes first and XLA
  does not turn the product round; 256 rows take 1.02 to 1.06 times as long. One
  row takes 1.2 to 1.6 times as long with the matrix first (measured).

  Args:
    x: f32 or bf16 [B, T, D], activations.
    w: [F, D], parameters; cast to `x.dtype`; or quantize.Quantized, or
      bank.Banked.
    out: as for `dot`.

  Returns:
    [B, T, F] of dtype `out`.
  """
  if isinstance(w, bank.Banked):
    return _banked(linear, x, w, out)
  if quantize.is_quantized(w):
    return _quantized(linear, "...D,FD->...F", x, w, out)
  rows = x.reshape(-1, x.shape[-1])
  if not _on_cpu():
    return dot("...D,FD->...F", x, w, out)
  equation = "TD,FD->TF"
  if _kept_in_bfloat16(x, w):
    multiply = _row if len(rows) == 1 and w.shape[1] % 2 == 0 else _halves
    y = multiply(equation, rows, w, out)
  elif not 1 < len(rows) <= FEW_ROWS:
    y = dot(equation, rows, w, out)
  else:
    keep = jax.lax.optimization_barrier
    y = keep(dot("FD,DT->FT", w.astype(x.dtype), keep(rows.T), out)).T
  return y.reshape(*x.shape[:-1], len(w))


def _kept_in_bfloat16(x, w):
  """Says whether weights and activations are bfloat16: masters never are."""
  return x.dtype == w.dtype == jnp.bfloat16


def _halves(equation, x, w, out=None):
  """As `dot` of bfloat16 on a CPU: 1.6 to 2 times as fast as float32 if the
  CPU multiplies bfloat16 (measured), with the sums in float32.
  """
  y = jnp.einsum(equation, x, w, preferred_element_type=jnp.float32)
  return y.astype(out or x.dtype)


def _row(_, x, w, out=None):
  """As `linear` of one row [1, D] with w [F, D], both bfloat16, on a CPU.

  Two neighbours of a row of `w` are read as one u32, widened by a shift and by
  a mask, and summed apart: a reduction of two operands, which XLA compiles as
  one loop over the weights. With `xla_cpu_enable_fast_math` LLVM makes it one
  of vectors: 7 to 16 billion weights a second, where float32 reads 6 to 9 and
  a product of one row in bfloat16 .7 (measured, two cores).
  """
  pairs = jax.lax.bitcast_convert_type(w.reshape(len(w), -1, 2), jnp.uint32)
  low = jax.lax.bitcast_convert_type(pairs << 16, jnp.float32)
  high = pairs & jnp.uint32(0xFFFF0000)
  high = jax.lax.bitcast_convert_type(high, jnp.float32)
  x32 = x.astype(jnp.float32).reshape(1, -1, 2)
  even, odd = jax.lax.optimization_barrier((x32[..., 0], x32[..., 1]))
  zero, add = jnp.float32(0), lambda a, b: (a[0] + b[0], a[1] + b[1])
  sums = jax.lax.reduce((low * even, high * odd), (zero, zero), add, (1,))
  return (sums[0] + sums[1])[None].astype(out or x.dtype)


def _on_cpu():
  return platform() == "cpu"


def platform():
  """Returns what the program is compiled for: "cpu", "gpu" or "tpu".

  It is the mesh's, if one is set: a plan for a TPU is compiled on a CPU.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.platform if device else jax.default_backend()


def device_kind():
  """Returns the kind of device compiled for, such as "NVIDIA H200"."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return (device or jax.devices()[0]).device_kind


def scan(block, depth, policy, in_axes=nn.broadcast):
  """Stacks a block `depth` times; its parameters get a leading dimension.

  Args:
    block: module class, called as `(x, ...) -> (x, out)`.
    depth: int, number of layers.
    policy: str, a key of POLICIES.
    in_axes: for each argument after `x`, 0 to split it over the layers or
      `nn.broadcast`.

  Returns:
    A module class.
  """
  keep = POLICIES[policy]
  if keep is not None:
    block = nn.remat(block, policy=keep, prevent_cse=False)
  return nn.scan(
    block,
    variable_axes={"params": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=in_axes,
    length=depth,
    unroll=depth if depth <= SHALLOW else 1,
  )


def by_rows(function, x, weights):
  """Applies a function of rows to a few of them at a time.

  What it computes is held for these alone: the backward pass computes it again.

  Args:
    function: from x and weights to an array like x.
    x: [B, T, D].
    weights: tree of arrays. Gradients by them are summed in float32.
  """
  B, T = len(x) // num_batch_shards(), x.shape[1]
  sizes = (n for n in range(1, B + 1) if not B % n and n * T >= CHUNK_TOKENS)
  num = B // next(sizes, B)
  is_key = lambda w: jnp.issubdtype(w.dtype, jax.dtypes.prng_key)
  if any(map(is_key, jax.tree.leaves(weights))):
    return function(x, weights)  # dropout's draws would be the same for all
  wide = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
  # Row i is of turn i % num: so each device keeps its rows.
  turns = constrain(x.reshape(-1, num, *x.shape[1:])).swapaxes(0, 1)
  y = jax.lax.map(jax.checkpoint(lambda x: function(x, wide)), turns)
  return constrain(y.swapaxes(0, 1).reshape(x.shape))


def constrain(x):
  """Keeps activations [B, ...] split along the batch; no mesh, no effect."""
  mesh = jax.sharding.get_abstract_mesh()
  if not set(sharding.BATCH) <= set(mesh.axis_names):
    return x
  # Where each device has its own rows, they are whole to all of `tensor`.
  axes = None if mesh.manual_axes else sharding.BATCH
  return jax.lax.with_sharding_constraint(x, jax.sharding.PartitionSpec(axes))


def num_batch_shards():
  """Returns over how many shards the mesh in use splits a batch; 1 without.

  So it is where each device sees only its own rows.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axes = set(sharding.BATCH) - set(mesh.manual_axes)
  return math.prod(mesh.shape.get(a, 1) for a in axes)


class Dropout(nn.Dropout):
  """Dropout whose draws are the same over however many devices rows lie."""

  def __call__(self, x):  # [B, ...]
    if self.deterministic or not self.rate:
      return x
    return drop(x, self.rate, self.make_rng("dropout"))


def drop(x, rate, key):
  """Sets a share of numbers [B, ...] to zero, and scales up the others."""
  axes, keep = (), 1 - rate
  if jax.sharding.get_abstract_mesh().manual_axes:
    axes = sharding.BATCH
  num = jax.lax.axis_size(axes) if axes else 1
  mask = jax.random.bernoulli(key, keep, (num * len(x), *x.shape[1:]))
  if axes:
    start = jax.lax.axis_index(axes) * len(x)
    mask = jax.lax.dynamic_slice_in_dim(mask, start, len(x))
  return jnp.where(mask, x / keep, jnp.zeros_like(x))
