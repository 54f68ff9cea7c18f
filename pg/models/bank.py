"""Several adapters of one model: each row of a batch has its own.

All adapters of a weight lie in one array, the first of them nothing, and a row
has the number of its own: which one is data, so that another one compiles
nothing. Ranks are filled up to the largest. A layer computes, of a row's a, b
and f,

  (x w + (x a) b) * f

where b is times the adapter's scale, and f, of DoRA, the length of what an
output sums up over that of w + a b.

Dimensions: B batch, T query positions; n adapters and nothing, r rank, in and
out all that a matrix maps from and to.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pg import tree
from pg.models import lora, matrices

_LAYERS, _STACKED = "llm/layers/", "img/Transformer/"
_QKV = "attn/qkv/w"
# Where the matrices of a decoder's weight are in serving; see gemma.py.
_SERVED = {
  "attn/q_einsum/w": (_QKV,),
  "attn/kv_einsum/w": (_QKV,) * 2,
  "attn/qkv_einsum/w": (_QKV,) * 3,
  "attn/attn_vec_einsum/w": ("attn/out/w",),
  "mlp/gating_einsum": ("mlp/gate/w", "mlp/up/w"),
  "mlp/linear": ("mlp/down/w",),
}


@struct.dataclass
class Banked:
  """A weight and its adapters, which the products of layers.py apply."""

  # First, as flax compares its shape with the module's.
  base: jax.Array  # a weight as without adapters
  a: jax.Array  # [n, in, r]
  b: jax.Array  # [n, r, out]
  f: jax.Array | None  # [n, out]
  rows: jax.Array  # i32[B], which one


class Bank(NamedTuple):
  """The adapters of a model."""

  names: tuple  # of number 1 and on
  img: dict  # {weight: {"a", "b", "f"}}, of layers stacked
  llm: tuple  # per layer {matrix of serving: {"a", "b", "f"}}


class _Pair(NamedTuple):
  """One adapter of one matrix."""

  a: np.ndarray  # f32[in, r]
  b: np.ndarray  # f32[r, out]
  f: np.ndarray | None  # f32[out]


def make(cfg, adapters, read):
  """Joins adapters, in float32.

  Args:
    cfg: paligemma.Config.
    adapters: {name: anything with `scale` and `parts`}, see
      pg/weights/adapters.py.
    read: function (weight, layer or None) -> array, called for DoRA.

  Returns:
    Bank of numpy arrays.
  """
  img, llm = {}, [{} for _ in range(cfg.llm.depth)]
  for number, own in enumerate(adapters.values(), start=1):
    layers = [{} for _ in llm]
    for name, parts in own.parts.items():
      if not name.startswith(_LAYERS):
        img.setdefault(name, {})[number] = _pairs(own.scale, name, parts, read)
        continue
      for i, layer in enumerate(layers):
        one = {k: x[i] for k, x in parts.items()}
        short = name.removeprefix(_LAYERS)
        layer[short] = _pairs(own.scale, name, one, read, i)
    for i, layer in enumerate(layers):
      for matrix, pair in _served(cfg.llm, layer).items():
        llm[i].setdefault(matrix, {})[number] = pair
  num = len(adapters) + 1
  return Bank(
    tuple(adapters),
    {name: _stacked(name, found, num) for name, found in img.items()},
    tuple({k: _joined(x, num) for k, x in layer.items()} for layer in llm),
  )


def attach(params, bank, rows, num_images):
  """Puts adapters to their weights.

  Args:
    params: parameters of serving, as `decode.loop.unroll` returns them.
    bank: Bank, or None: nothing changes.
    rows: i32[B], the number of each row's adapter; 0 is none.
    num_images: int, M, images of each row.

  Returns:
    Parameters that serving is applied with.
  """
  if bank is None:
    return params
  # On the device: arguments of programs that run for each token.
  rows = jnp.asarray(rows, jnp.int32)

  def put(flat, found, rows):
    own = {(): rows}
    for name, one in found.items():
      depth = one["a"].shape[:-3]
      if depth not in own:
        own[depth] = jnp.broadcast_to(rows[None], (*depth, len(rows)))
      flat[name] = lora.Box(Banked(flat[name], **one, rows=own[depth]))
    return tree.unflatten(flat)

  img = {k.removeprefix("img/"): x for k, x in bank.img.items()}
  img = put(tree.flatten(params["img"]), img, jnp.repeat(rows, num_images))
  layers = zip(params["llm"]["layers"], bank.llm, strict=True)
  layers = tuple(put(tree.flatten(x), own, rows) for x, own in layers)
  return {**params, "img": img, "llm": {**params["llm"], "layers": layers}}


def _pairs(scale, name, parts, read, layer=None):
  """Returns the _Pairs of an adapter, one for each matrix of a weight."""
  dims = matrices.letters(name)
  a, b = parts["a"], parts["b"]
  f = None
  if "m" in parts:
    total = lora.added(scale, dims, read(name, layer), a, b)
    f = parts["m"] / lora.norm(total, dims)
  rank, found = a.shape[-1], []
  for at in np.ndindex(a.shape[: a.ndim - len(dims[1]) - 1]):
    own = a[at].reshape(-1, rank), scale * b[at].reshape(rank, -1)
    found.append(_Pair(*own, None if f is None else f[at].ravel()))
  return found


def _served(cfg, layer):
  """Puts the _Pairs of a decoder's layer to matrices of serving.

  Queries, keys and values are one matrix there: a are side by side, and b on a
  diagonal.

  Args:
    cfg: gemma.Config.
    layer: {weight: list of _Pairs}.

  Returns:
    {matrix: _Pair}.
  """
  found, inputs = {}, {}
  for name, own in layer.items():
    first = int(name == "attn/kv_einsum/w")
    for i, (matrix, pair) in enumerate(zip(_SERVED[name], own, strict=True)):
      if matrix == _QKV:
        inputs[first + i] = pair
      else:
        found[matrix] = pair
  if inputs:
    num_heads = 0, cfg.num_heads, cfg.num_kv_heads, cfg.num_kv_heads
    starts = np.cumsum(num_heads) * cfg.head_dim
    b = np.zeros((sum(len(x.b) for x in inputs.values()), starts[-1]))
    f = np.ones(starts[-1], np.float32)
    first = 0
    for i, pair in inputs.items():
      columns = slice(starts[i], starts[i + 1])
      b[first : first + len(pair.b), columns] = pair.b
      first += len(pair.b)
      f[columns] = 1 if pair.f is None else pair.f
    a = np.concatenate([pair.a for pair in inputs.values()], axis=1)
    is_dora = any(pair.f is not None for pair in inputs.values())
    found[_QKV] = _Pair(a, b.astype(np.float32), f if is_dora else None)
  return found


def _joined(found, num):
  """Joins adapters of one matrix.

  Args:
    found: {number: _Pair}.
    num: int, n.

  Returns:
    {"a": f32[n, in, r], "b": f32[n, r, out], "f": f32[n, out] or None}.
  """
  one = next(iter(found.values()))
  rank = max(len(pair.b) for pair in found.values())
  a = np.zeros((num, len(one.a), rank), np.float32)
  b = np.zeros((num, rank, one.b.shape[1]), np.float32)
  f = np.ones((num, one.b.shape[1]), np.float32)
  for i, pair in found.items():
    a[i, :, : len(pair.b)], b[i, : len(pair.b)] = pair.a, pair.b
    f[i] = 1 if pair.f is None else pair.f
  is_dora = any(pair.f is not None for pair in found.values())
  return dict(a=a, b=b, f=f if is_dora else None)


def _stacked(name, found, num):
  """Joins adapters of a weight of the image tower; see `_joined`.

  Args:
    name: str, the weight's.
    found: {number: list of _Pairs}, one for each layer, or a single one.
    num: int, n.
  """
  each = zip(*found.values(), strict=True)
  each = [_joined(dict(zip(found, one, strict=True)), num) for one in each]
  if not name.startswith(_STACKED):
    return each[0]
  return {
    k: None if x is None else np.stack([one[k] for one in each])
    for k, x in each[0].items()
  }
