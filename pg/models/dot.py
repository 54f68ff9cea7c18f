"""The one contraction of parameters and activations: precision per backend.

Parameters are float32 masters; the activations' dtype is the compute dtype.
bfloat16 operands are multiplied as they are on TPU and GPU, whose units add up
in float32. On a CPU a bfloat16 product is up to 12 times slower than float32
(measured, one row), so there it is never emitted: operands are widened first.
"""

import jax
import jax.numpy as jnp


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
  if x.dtype == jnp.float32:
    # float32 means float32: no TF32, no bfloat16 passes.
    y = jnp.einsum(equation, x, w, precision=jax.lax.Precision.HIGHEST)
  elif jax.default_backend() == "cpu":
    y = jnp.einsum(equation, x.astype(jnp.float32), w.astype(jnp.float32))
  else:
    y = jnp.einsum(equation, x, w, preferred_element_type=out)
  return y.astype(out)
