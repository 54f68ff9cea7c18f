"""Low-rank adapters (LoRA): small matrices that are trained in place of large.

A weight w stays as it is. Beside it are a, which maps its inputs to `r` numbers
(the rank), and b, which maps those to its outputs: a layer computes

  x w + scale * (x a) b

and b starts at zero, so that at first nothing changes. With DoRA each output is
rescaled: what w + scale * a b gives has the length m, which is trained, too.

Adapters are parameters, `lora/<name of the weight>/a`, `b` and `m`. `attach`
puts them to their weights as flax reads them; layers stay scanned.

Sources: LoRA arXiv:2106.09685, rsLoRA arXiv:2312.03732, DoRA arXiv:2402.09353.
Dimensions: those of gemma.py and siglip.py, r rank, d width of the decoder.
"""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
from flax import struct
from flax.core import meta

from pg import tree
from pg.models import matrices, quantize

ROOT = "lora"
_OWN = re.compile(rf"{ROOT}/(.*)/[abm]")


@dataclasses.dataclass(frozen=True)
class Config:
  """Which weights have an adapter, and of what kind."""

  targets: tuple  # names of weights
  rank: int
  alpha: float  # the scale is alpha / rank
  dropout: float = 0.0  # of what a sees, in training
  rank_stabilized: bool = False  # the scale is alpha / sqrt(rank)
  dora: bool = False

  @property
  def scale(self):
    by = math.sqrt(self.rank) if self.rank_stabilized else self.rank
    return self.alpha / by

  @property
  def towers(self):
    """The first names, such as "img", of the weights."""
    return {name.partition("/")[0] for name in self.targets}


@struct.dataclass
class Adapted:
  """A weight and its adapter, which `layers.dense` applies."""

  # First, as flax compares its shape with the module's.
  base: jax.Array  # [..., in, out], or Quantized, or a box
  a: jax.Array  # f32[..., in, r]
  b: jax.Array  # f32[..., r, out]
  m: jax.Array | None  # f32[..., out]
  key: jax.Array | None  # of dropout, one for each of the stack
  cfg: Config = struct.field(pytree_node=False)

  def __iter__(self):
    """Splits a stack, as iterating over an array does."""
    return (jax.tree.map(lambda x, i=i: x[i], self) for i in range(len(self.a)))


@struct.dataclass
class Box(meta.AxisMetadata):
  """What a module reads as an Adapted."""

  value: Adapted

  def unbox(self):
    return self.value.replace(base=meta.unbox(self.value.base))

  def replace_boxed(self, val):
    return self.replace(value=val)

  def add_axis(self, index, params):
    return self._with_axes("add_axis", index, params)

  def remove_axis(self, index, params):
    return self._with_axes("remove_axis", index, params)

  def _with_axes(self, change, index, params):
    base = getattr(meta, change)(self.value.base, index, params)
    return self.replace(value=self.value.replace(base=base))


def target(name):
  """Returns the weight that an adapter's parameter belongs to.

  Any other name is its own.
  """
  own = _OWN.fullmatch(name)
  return own[1] if own else name


def from_config(c, shapes):
  """Returns the Config that a config file describes; None without adapters.

  Args:
    c: the config, with `lora` (a group) and `schedule`: what that freezes has
      no adapter.
    shapes: tree of the weights' shapes.

  Raises:
    ValueError: no weight to adapt, or a rank above the size of one.
  """
  how = c.lora
  if not how.rank:
    return None
  flat = tree.flatten(shapes)
  known = [name for name in flat if matrices.letters(name)]
  found = [name for name in known if re.fullmatch(how.targets, name)]
  if not found:
    raise ValueError(
      f"lora.targets {how.targets!r} is the whole name of none of"
      f" {len(known)} weights that can be adapted:\n  " + "\n  ".join(known)
    )
  free = [n for n in found if tree.match(c.schedule, n) is not None]
  if not free:
    raise ValueError(
      f"lora.targets {how.targets!r}: `schedule` freezes all {len(found)}"
      " weights that it matches; give them a schedule, or other targets"
    )
  for name in free:
    sizes = _sizes(name, flat[name].shape)
    if how.rank > min(sizes):
      raise ValueError(
        f"lora.rank {how.rank} is above the {min(sizes)} of {name}, which maps"
        f" {sizes[0]} numbers to {sizes[1]}: an adapter is to be smaller; try"
        f" {max(1, min(sizes) // 4)}, or other lora.targets"
      )
  return Config(
    tuple(free),
    how.rank,
    how.alpha,
    how.dropout,
    how.rank_stabilized,
    how.dora,
  )


def init(cfg, rng, params):
  """Draws adapters: a uniformly within fan_in ** -0.5, as PEFT does, b zeros.

  Args:
    cfg: Config.
    rng: key.
    params: tree of the weights.

  Returns:
    Tree of f32 arrays, `{weight: {"a", "b"}}`, with DoRA `m`, too.
  """
  flat, found = tree.flatten(params), {}
  for i, name in enumerate(cfg.targets):
    w, key = flat[name], jax.random.fold_in(rng, i)
    shape = shapes(name, w.shape, cfg.rank)
    most = _sizes(name, w.shape)[0] ** -0.5
    found[f"{name}/a"] = most * jax.random.uniform(key, shape["a"], minval=-1)
    found[f"{name}/b"] = jnp.zeros(shape["b"])
    if cfg.dora:
      found[f"{name}/m"] = norm(w, matrices.letters(name))
  return tree.unflatten(found)


def shapes(name, shape, rank):
  """Returns {"a", "b", "m": shape} of the adapter of a weight of a shape."""
  kernel, inner = matrices.letters(name)
  lead = shape[: len(shape) - len(kernel)]
  size = dict(zip(kernel, shape[len(lead) :], strict=True))
  ins = [size[x] for x in inner]
  outs = [size[x] for x in kernel if x not in inner]
  return dict(a=(*lead, *ins, rank), b=(*lead, rank, *outs), m=(*lead, *outs))


def attach(cfg, params, rng=None):
  """Puts adapters to their weights.

  Args:
    cfg: Config, or None: nothing changes.
    params: tree of parameters with `lora`; weights may be in boxes.
    rng: key of dropout; None is without.

  Returns:
    Parameters that a model is applied with.
  """
  if cfg is None:
    return params
  flat = tree.flatten({k: v for k, v in params.items() if k != ROOT})
  own = tree.flatten(params[ROOT])
  for i, name in enumerate(cfg.targets):
    a, key = own[f"{name}/a"], None
    if rng is not None and cfg.dropout:
      lead = a.shape[: a.ndim - len(matrices.letters(name)[1]) - 1]
      key = jax.random.fold_in(rng, i)
      key = jax.random.split(key, math.prod(lead)).reshape(lead)
    m = own.get(f"{name}/m")
    pair = a, own[f"{name}/b"]
    flat[name] = Box(Adapted(flat[name], *pair, m, key, cfg))
  return tree.unflatten(flat)


def merged(cfg, params):
  """Returns parameters without adapters, that compute what they did with them.

  Args:
    cfg: Config, or None: nothing is added.
    params: tree of parameters with `lora`, or some of it. Quantised weights
      with an adapter are f32 then.
  """
  flat = tree.flatten({k: v for k, v in params.items() if k != ROOT})
  own = tree.flatten(params.get(ROOT, {}))
  for name in set(cfg.targets if cfg else ()) & set(flat):
    parts = {k: own[f"{name}/{k}"] for k in "abm" if f"{name}/{k}" in own}
    w = flat[name]
    if quantize.is_quantized(w):
      w = quantize.whole(w, "float32")
    flat[name] = merge(cfg.scale, matrices.letters(name), w, parts)
  return tree.unflatten(flat)


def merge(scale, dims, w, parts):
  """Adds an adapter to its weight.

  Args:
    scale: float.
    dims: of the weight, see `matrices.letters`.
    w: f32, f16 or bf16 [..., in, out], numpy or jax.
    parts: {"a": [..., in, r], "b": [..., r, out]}, with DoRA "m", alike.

  Returns:
    [..., in, out], summed in float32, in the dtype of `w`.
  """
  total = added(scale, dims, w, parts["a"], parts["b"])
  if "m" in parts:
    length = norm(total, dims, keepdims=True)
    total = total * (parts["m"].reshape(length.shape) / length)
  return total.astype(w.dtype)


def added(scale, dims, w, a, b):
  """Returns w + scale * a b in float32; see `merge`."""
  kernel, inner = dims
  outer = "".join(x for x in kernel if x not in inner)
  equation = f"...{inner}r,...r{outer}->...{kernel}"
  xp, how = a.__array_namespace__(), dict(optimize=True)
  if xp is jnp:
    how = dict(precision=jax.lax.Precision.HIGHEST)
  return quantize.whole(w, "float32") + scale * xp.einsum(equation, a, b, **how)


def norm(w, dims, *, keepdims=False):
  """Returns the lengths f32[..., out] of a weight's columns [..., in, out].

  That of zeros is 1e-15, by which one can divide.
  """
  kernel, inner = dims
  axes = tuple(kernel.index(x) - len(kernel) for x in inner)
  w = quantize.whole(w, "float32")
  squares = (w * w).sum(axis=axes, keepdims=keepdims)
  return w.__array_namespace__().maximum(squares, 1e-30) ** 0.5


def _sizes(name, shape):
  """Returns how many numbers a weight maps to how many."""
  kernel, inner = matrices.letters(name)
  size = dict(zip(kernel, shape[-len(kernel) :], strict=True))
  ins = math.prod(size[x] for x in inner)
  return ins, math.prod(size.values()) // ins
