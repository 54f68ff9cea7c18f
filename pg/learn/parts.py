"""Training on many devices: who has what, and what travels when.

Each device computes with its own rows and has a part of every large parameter,
wrapped in a Part. Where a module reads its parameter, flax opens the wrapper:
then the other parts come, in the compute dtype, inside of what remat computes
again, so that they come twice and do not stay (but with "everything"). In the
backward pass the gradient goes to where its part is (a reduce-scatter), by
default in float32. The embedding never travels: see `look_up` and the loss.

What `tensor` splits stays so: the compiler splits by it what is computed.
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct
from flax.core import meta
from jax.sharding import PartitionSpec

from pg import sharding, tree
from pg.models import paligemma

EMBEDDING = "llm/embedder/input_embedding"


@struct.dataclass
class Part(meta.AxisMetadata):
  """A part of a parameter, which is whole where a module reads it."""

  value: jax.Array
  # For each dimension the axes of the mesh that it is split over.
  axes: tuple = struct.field(pytree_node=False)
  dtype: str = struct.field(pytree_node=False)  # of the whole
  grad_dtype: str = struct.field(pytree_node=False)  # in which it is summed

  def unbox(self):
    return gather(self.value, self.axes, self.dtype, self.grad_dtype)

  def replace_boxed(self, val):
    return self.replace(value=val)

  def add_axis(self, index, params):
    del params
    return self.replace(axes=(*self.axes[:index], (), *self.axes[index:]))

  def remove_axis(self, index, params):
    del params
    return self.replace(axes=self.axes[:index] + self.axes[index + 1 :])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gather(value, axes, dtype, grad_dtype):
  """Returns the whole [...] of which each device has a part.

  Args:
    value: f32 or bf16 [...], the part.
    axes: for each dimension a tuple of the axes of the mesh that split it.
    dtype: of the whole; cast before it travels.
    grad_dtype: in which the parts of the gradient are summed.
  """

  def whole(value):
    for dim, names in enumerate(of_batch(axes)):
      if names:
        value = jax.lax.all_gather(value, names, axis=dim, tiled=True)
    return value

  return _within_tensor(whole, axes)(value.astype(dtype))


def _gather(value, axes, dtype, grad_dtype):
  return gather(value, axes, dtype, grad_dtype), jnp.zeros((), value.dtype)


def _scatter(axes, dtype, grad_dtype, like, g):
  del dtype
  return (scatter(g.astype(grad_dtype), axes).astype(like.dtype),)


gather.defvjp(_gather, _scatter)


def scatter(value, axes):
  """Sums over devices; each keeps its part. The transpose of `gather`."""

  def part(value):
    for dim, names in reversed(tuple(enumerate(of_batch(axes)))):
      if names:
        value = jax.lax.psum_scatter(
          value, names, scatter_dimension=dim, tiled=True
        )
    return value

  return _within_tensor(part, axes)(value)


def of_batch(axes):
  """Returns of each dimension's axes those that split a batch."""
  return tuple(tuple(a for a in x if a in sharding.BATCH) for x in axes)


def _within_tensor(function, axes):
  """Returns the function, kept within each of the parts that `tensor` makes.

  Left to itself, the compiler gathers them before and splits them after.
  """
  if not any("tensor" in x for x in axes):
    return function
  place = PartitionSpec(*("tensor" if "tensor" in x else None for x in axes))
  return jax.shard_map(
    function,
    in_specs=place,
    out_specs=place,
    axis_names={"tensor"},
    check_vma=False,
  )


def look_up(table, tokens):
  """Embeds tokens without moving the table.

  All tokens come to each device, which looks up those that it has in the
  dimensions that it has.

  Args:
    table: Part of f32[V, D].
    tokens: i32[B, L], a device's own.

  Returns:
    [B, L, D] in the compute dtype.
  """
  rows, columns = of_batch(table.axes)
  part = table.value
  if rows + columns:
    tokens = jax.lax.all_gather(tokens, rows + columns, tiled=True)
  if rows:
    tokens -= jax.lax.axis_index(rows) * len(part)
  own = (tokens >= 0) & (tokens < len(part))
  x = part[jnp.where(own, tokens, 0)].astype(table.dtype)
  x = jnp.where(own[..., None], x, jnp.zeros((), x.dtype))
  if rows:  # only one of the terms is not zero
    x = jax.lax.psum_scatter(x, rows, scatter_dimension=0, tiled=True)
  if columns:
    x = jax.lax.all_to_all(x, columns, 0, 2, tiled=True)
  return x


def on_own_rows(function, mesh, spec, dtype):
  """Has each device compute with its rows and its part of a table.

  Args:
    function: from hidden states [B, ...], the table [V, D] and other rows
      [B, ...] to [B, ...].
    mesh: the mesh; where one device has the batch nothing changes.
    spec: PartitionSpec of the table.
    dtype: str, the compute dtype.
  """
  if not _splits_batch(mesh):
    return function
  axes, rows = _axes(spec, 2), PartitionSpec(sharding.BATCH)

  def each(hidden, table, *others):
    return function(hidden, Part(table, axes, dtype, "float32"), *others)

  return jax.shard_map(
    each,
    in_specs=(rows, _place(axes), rows, rows),
    out_specs=rows,
    axis_names=set(sharding.BATCH),
    check_vma=False,
  )


def specs(cfg, mesh, rules):
  """Returns {name: PartitionSpec}; None where a single device has the batch.

  Args:
    cfg: paligemma.Config.
    mesh: the mesh.
    rules: pairs of a regex and a strategy, see pg/sharding.py.
  """
  if not _splits_batch(mesh):
    return None
  return {
    name: sharding.spec(name, x.shape, mesh, rules)
    for name, x in tree.flatten(paligemma.shapes(cfg)).items()
  }


def wrap(params, specs, dtype, grad_dtype):
  """Wraps what a device has only a part of, and the embedding.

  Args:
    params: the parameters as a device has them.
    specs: {name: PartitionSpec}.
    dtype: str, the compute dtype.
    grad_dtype: str, in which gradients are summed over devices.
  """

  def part(name, value):
    axes = _axes(specs[name], value.ndim)
    if not any(of_batch(axes)) and name != EMBEDDING:
      return value
    kept = name.endswith(("/scale", "/bias"))
    return Part(value, axes, "float32" if kept else dtype, grad_dtype)

  return tree.map_named(part, params)


def on_each_device(value_and_grad, specs, is_frozen):
  """Has each device compute with its rows and its parts.

  Args:
    value_and_grad: function from the parameters as a device has them, to be
      wrapped, and its rows, to their loss and its gradients.
    specs: {name: PartitionSpec}.
    is_frozen: tree of bool like the parameters.

  Returns:
    Function from the parameters and all rows to the loss and all gradients.
  """
  frozen = tree.flatten(is_frozen)

  def total(name, grad):  # of copies
    own = sum(_axes(specs[name], grad.ndim), ())
    axes = tuple(axis for axis in sharding.BATCH if axis not in own)
    return jax.lax.psum(grad, axes) if axes and not frozen[name] else grad

  def each(params, rows):
    loss, grads = value_and_grad(params, rows)
    return jax.lax.psum(loss, sharding.BATCH), tree.map_named(total, grads)

  def run(params, rows):
    place = lambda name, x: _place(_axes(specs[name], x.ndim))
    places = tree.map_named(place, params)
    loss, grads = jax.shard_map(
      each,
      in_specs=(places, PartitionSpec(sharding.BATCH)),
      out_specs=(PartitionSpec(), places),
      axis_names=set(sharding.BATCH),
      check_vma=False,  # gradients are each device's own until `total`
    )(params, rows)
    keep = jax.lax.with_sharding_constraint  # so is the new state where it was
    return loss, tree.map_named(lambda name, g: keep(g, specs[name]), grads)

  return run


def _splits_batch(mesh):
  return any(mesh.shape[axis] > 1 for axis in sharding.BATCH)


def _place(axes):
  """Returns the PartitionSpec of an array whose dimensions have these axes."""
  return PartitionSpec(*(x or None for x in of_batch(axes)))


def _axes(spec, ndim):
  """Returns for each dimension a tuple of axes."""
  spec = (*spec, *(None,) * (ndim - len(spec)))
  return tuple(x if isinstance(x, tuple) else (x,) if x else () for x in spec)
