"""Who sees whom, and that every way of computing it is the same attention."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu import splash_attention

from pg import sharding
from pg.models import attention, kernels
from tests.support import toy

# Which images are shown, lengths of prefix and suffix.
ROWS = (
  ((True, True), 3, 4),
  ((True, False), 5, 6),
  ((False, True), 5, 2),
  ((False, False), 1, 3),
  ((True, True), 11, 0),
  ((True, False), 0, 11),
)
I, L = 4, 11  # tokens of an image and of a text


def tokens(mode="prefix", num_image=I):
  """Returns the Tokens of ROWS under a mask of the paper's ablations."""
  batch = toy.batch(ROWS, num_images=2, text_len=L)
  shown = np.repeat(batch["mask_image"], num_image, axis=1)
  valid = np.concatenate([shown, batch["mask_input"]], axis=1)
  ar = np.concatenate([np.zeros_like(shown), batch["mask_ar"]], axis=1)
  ar = dict(prefix=ar, causal=ar | True, full=ar & False)[mode]
  num_full = 0 if mode == "causal" else 2 * num_image
  return attention.Tokens.of(jnp.array(valid), jnp.array(ar), num_full)


def inputs(num_kv_heads=2, head_dim=8, length=2 * I + L):
  """Draws q, k, v of ROWS with four heads of queries."""
  B, K = len(ROWS), num_kv_heads
  keys = jax.random.split(jax.random.key(0), 3)
  shapes = (K, 4 // K) if K < 4 else (K,), (K,), (K,)
  return tuple(
    jax.random.normal(key, (B, length, *heads, head_dim))
    for key, heads in zip(keys, shapes, strict=True)
  )


def by_dense(q, k, v, tokens=None, window=None, cap=0.0):
  mask = None if tokens is None else attention.visible(tokens, tokens, window)
  return attention.dense(q, ((k, v, mask),), cap)


def results(attend, real=None):
  """Returns a function to values and gradients where queries are real."""

  def loss(q, k, v):
    y = attend(q, k, v)
    y = (
      y
      if real is None
      else jnp.where(jnp.expand_dims(real, range(2, y.ndim)), y, 0)
    )
    return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

  grad = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)

  def run(q, k, v):
    (_, y), gradients = grad(q, k, v)
    return y, gradients

  return jax.jit(run)


def assert_same(have, want, tolerance):
  for x, y in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
    x, y = (np.asarray(a, np.float32) for a in (x, y))
    np.testing.assert_allclose(x, y, atol=tolerance, rtol=tolerance)


# Who sees whom.


def see(valid, ar, window=None):
  """Returns the mask of one row as lines of 1 and "."."""
  as_bool = lambda x: jnp.array([[int(i) for i in x]]) == 1
  t = attention.Tokens.of(as_bool(valid), as_bool(ar))
  (mask,) = attention.visible(t, t, window)
  return ["".join(".1"[int(x)] for x in row) for row in mask]


def test_the_documented_mask_is_the_computed_one():
  doc = inspect.getdoc(attention.visible)
  drawn = re.findall(r"^ {4}(?:valid =|ar    =|)([ 01.]+)$", doc, re.M)
  drawn = [line.split() for line in drawn]
  rows = ["".join(row[-6:]) for row in drawn]
  assert see(drawn[0][:6], drawn[1][:6]) == rows


def test_a_window_narrows_what_causal_queries_see():
  want = ["111...", "111...", "111...", "..11..", "...11.", "....11"]
  assert see("111111", "000111", window=2) == want


def test_a_window_counts_positions_and_not_slots():
  valid = jnp.array([[1, 1, 0, 0, 1, 1]]) == 1  # a hole of two slots
  position = attention.Tokens.of(valid, valid).position
  np.testing.assert_array_equal(position[0], [0, 1, 1, 1, 2, 3])
  want = ["11....", "11....", "......", "......", ".1..1.", "....11"]
  assert see("110011", "000011", window=2) == want


# Ways to compute it.


def test_softcap_bounds_and_leaves_small_values():
  x = jnp.linspace(-100, 100, 41)
  y = attention.softcap(x, 5.0)
  assert jnp.abs(y).max() <= 5 and jnp.all(jnp.diff(y) >= 0)
  np.testing.assert_allclose(y, 5 * np.tanh(np.asarray(x) / 5), rtol=1e-6)
  small = jnp.float32(1e-3)
  np.testing.assert_allclose(attention.softcap(small, 5.0), 1e-3, 1e-6)
  np.testing.assert_array_equal(attention.softcap(x, 0.0), x)


@pytest.mark.parametrize(
  "mode, num_kv_heads, options",
  (
    ("prefix", 1, dict()),
    ("prefix", 2, dict(cap=3.0, window=2)),
    ("prefix", 2, dict(window=attention.FAR)),
    ("causal", 2, dict(window=3)),
    ("full", 1, dict(cap=2.0)),
    (None, 4, dict()),
  ),
)
def test_queries_in_chunks_are_the_same_attention(
  monkeypatch, mode, num_kv_heads, options
):
  t = tokens(mode) if mode else None
  args = inputs(num_kv_heads)
  real = t and t.valid
  want = results(functools.partial(by_dense, tokens=t, **options), real)(*args)
  attend = functools.partial(attention.attend, tokens=t, **options)
  monkeypatch.setattr(attention, "MAX_LOGITS", 4000)
  fn = results(attend, real)
  assert "while" in fn.lower(*args).as_text()  # three chunks of eight queries
  assert_same(fn(*args), want, 1e-5)


def layer(px, batch, num_text=128):
  """Returns shapes of a layer of PaliGemma 3B: q, k, v and Tokens."""
  T = (px // 14) ** 2 + num_text
  shape = lambda *dims: jax.ShapeDtypeStruct((batch, T, *dims), jnp.bfloat16)
  as_tokens = lambda x: attention.Tokens.of(x, x)
  real = jax.ShapeDtypeStruct((batch, T), bool)
  qkv = shape(1, 8, 256), shape(1, 256), shape(1, 256)
  return *qkv, jax.eval_shape(as_tokens, real)


def test_queries_go_in_chunks_only_where_logits_are_large():
  scans = lambda *size: (
    "scan" in str(jax.make_jaxpr(attention.attend)(*layer(*size)))
  )
  assert not scans(224, 32) and not scans(448, 2)
  assert scans(448, 8) and scans(896, 1)


def test_at_896_px_a_layer_holds_a_fifth_of_what_the_dense_mask_does():
  def temporary(attend):
    def loss(q, k, v, tokens):
      return jnp.sum(attend(q, k, v, tokens).astype(jnp.float32))

    program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*layer(896, 4, 512))
    return program.compile().memory_analysis().temp_size_in_bytes

  assert 5 * temporary(attention.attend) < temporary(by_dense)


# Kernels of GPUs and TPUs.

CPU = jax.sharding.AbstractDevice("cpu", None, platform="cpu")
V5E = jax.sharding.AbstractDevice("TPU v5 lite", 1, platform="tpu")
H200, A100, T4 = (
  jax.sharding.AbstractDevice(f"NVIDIA {kind}", 132, platform="gpu")
  for kind in ("H200", "A100-SXM4-80GB", "T4")
)


@pytest.mark.parametrize(
  "device, num, cap, dtype, want",
  (
    (V5E, 4096, 0.0, jnp.bfloat16, "splash"),
    (V5E, 1024, 50.0, jnp.bfloat16, "splash"),
    (V5E, 512, 0.0, jnp.bfloat16, None),  # XLA needs nothing there
    (V5E, 0, 0.0, jnp.bfloat16, None),  # all are causal
    (V5E, 4096, 0.0, jnp.float32, None),  # float32 means float32
    (H200, 4096, 0.0, jnp.bfloat16, "cudnn"),
    (H200, 256, 0.0, jnp.bfloat16, "cudnn"),
    (H200, 4096, 50.0, jnp.bfloat16, None),
    (H200, 4096, 0.0, jnp.float32, None),
    (A100, 4096, 0.0, jnp.bfloat16, None),
    (T4, 4096, 0.0, jnp.bfloat16, None),
    (CPU, 4096, 0.0, jnp.bfloat16, None),
  ),
)
def test_the_kernel_is_that_of_the_mesh_compiled_for(
  device, num, cap, dtype, want
):
  shape = (1,), ("fsdp_x",)
  mesh = jax.sharding.AbstractMesh(*shape, abstract_device=device)
  q = jax.ShapeDtypeStruct((1, num, 1, 8, 256), dtype)
  with jax.sharding.use_abstract_mesh(mesh):
    found = kernels.find(q, num, cap)
  (kernel,) = found.args if found else (None,)
  assert getattr(kernel, "func", kernel) == getattr(kernels, want or "", None)


def use_kernel(patch, kernel):
  """Lets `attend` find a kernel, which also gets the cap."""
  on_each = functools.partial(functools.partial, kernels.on_each_device)
  with_cap = lambda cap: functools.partial(kernel, cap=cap)
  patch.setattr(kernels, "find", lambda q, num, cap: on_each(with_cap(cap)))
  patch.setattr(kernels, "BLOCK", 128)


def sequences(num_image, num_kv_heads, head_dim):
  """Returns q, k, v and Tokens whose images have more tokens than ROWS'."""
  t = tokens(num_image=num_image)
  length = t.valid.shape[1]
  return *inputs(num_kv_heads, head_dim, length=length), t


def use_splash(patch):
  """Lets `attend` find the TPU's kernel, which a CPU interprets."""
  make = functools.partial(splash_attention.make_splash_mha, interpret=True)
  patch.setattr(splash_attention, "make_splash_mha", make)
  use_kernel(patch, kernels.splash)


@pytest.mark.parametrize(
  "num_kv_heads, head_dim, cap", ((1, 128, 0.0), (2, 72, 3.0))
)
def test_splash_attention_is_the_same(monkeypatch, num_kv_heads, head_dim, cap):
  use_splash(monkeypatch)
  *args, t = sequences(64, num_kv_heads, head_dim)
  attend = functools.partial(attention.attend, tokens=t, cap=cap)
  want = results(functools.partial(by_dense, tokens=t, cap=cap), t.valid)(*args)
  assert_same(results(attend, t.valid)(*args), want, 1e-4)


def test_splash_attention_without_a_mask_is_the_same(monkeypatch):
  use_splash(monkeypatch)
  args = inputs(4, 72, length=128)
  want = results(by_dense)(*args)
  assert_same(results(attention.attend)(*args), want, 1e-4)


def like_cudnn(q, k, v, *, implementation, **options):
  """What XLA makes of arguments for cuDNN, which a CPU does not have."""
  assert implementation == "cudnn"
  assert {x.dtype for x in (q, k, v)} == {q.dtype}
  return DOT_PRODUCT_ATTENTION(q, k, v, implementation="xla", **options)


DOT_PRODUCT_ATTENTION = jax.nn.dot_product_attention


@pytest.mark.parametrize("num_kv_heads", (1, 2))
def test_cudnn_is_given_the_same_attention(monkeypatch, num_kv_heads):
  monkeypatch.setattr(jax.nn, "dot_product_attention", like_cudnn)
  use_kernel(monkeypatch, lambda *args, cap: kernels.cudnn(*args))
  *args, t = sequences(4, num_kv_heads, 8)
  attend = functools.partial(attention.attend, tokens=t)
  want = results(functools.partial(by_dense, tokens=t), t.valid)(*args)
  assert_same(results(attend, t.valid)(*args), want, 1e-5)
  assert_same(results(attention.attend)(*args), results(by_dense)(*args), 1e-5)


@pytest.mark.parametrize(
  "num_kv_heads, heads", ((1, (1, 2, 1)), (2, (1, 2, 1)), (4, (2, 2)))
)
def test_a_kernel_gets_each_devices_rows_and_heads(
  monkeypatch, num_kv_heads, heads
):
  sizes = []

  def kernel(q, k, v, keys, cap):
    sizes.append((q.shape[0], *q.shape[2:-1], k.shape[2]))
    return attention.dense(q, ((k, v, keys[:, None]),), cap)

  *args, t = sequences(4, num_kv_heads, 8)
  want = results(functools.partial(by_dense, tokens=t), t.valid)(*args)
  use_kernel(monkeypatch, kernel)
  mesh = sharding.make_mesh(dict(fsdp=3, tensor=2), jax.devices()[:6])
  with jax.set_mesh(mesh):
    attend = functools.partial(attention.attend, tokens=t)
    assert_same(results(attend, t.valid)(*args), want, 1e-5)
  assert set(sizes) == {(2, *heads)}
