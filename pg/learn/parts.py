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
from pg.models import layers, paligemma, quantize

EMBEDDING = quantize.EMBEDDING


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
      value = all_gather(value, names, dim)
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
      value = psum_scatter(value, names, dim)
    return value

  return _within_tensor(part, axes)(value)


def all_gather(x, names, dim=0):
  """Returns the parts that devices along axes have, one after another."""
  for some in reversed(_turns(names)):
    x = jax.lax.all_gather(x, some, axis=dim, tiled=True)
  return x


def psum_scatter(x, names, dim=0):
  """Sums over axes; each device keeps its part. Undoes `all_gather`."""
  for some in _turns(names):
    x = jax.lax.psum_scatter(x, some, scatter_dimension=dim, tiled=True)
  return x


def _turns(names):
  """Returns tuples of axes, each of one collective.

  For a TPU that is one: a scatter over two is compiled as an all-reduce of the
  whole, and often a gather, too.
  """
  if layers.platform() == "tpu":
    return [(name,) for name in names]
  return [names] if names else []


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
    table: Part of f32[V, D], or Quantized of Parts.
    tokens: i32[B, L], a device's own.

  Returns:
    [B, L, D] in the compute dtype; of a quantised table f32.
  """
  if quantize.is_quantized(table):
    values = table.values.replace(dtype="float32")
    return look_up(values, tokens) * look_up(table.scale, tokens)
  rows, columns = of_batch(table.axes)
  part = table.value
  tokens = all_gather(tokens, rows + columns)
  if rows:
    tokens -= jax.lax.axis_index(rows) * len(part)
  own = (tokens >= 0) & (tokens < len(part))
  x = part[jnp.where(own, tokens, 0)].astype(table.dtype)
  x = jnp.where(own[..., None], x, jnp.zeros((), x.dtype))
  x = psum_scatter(x, rows)  # only one of the terms is not zero
  if columns:
    x = jax.lax.all_to_all(x, columns, 0, 2, tiled=True)
  return x


def part_of(value, spec, dtype, grad_dtype="float32"):
  """Returns the Part that a device has, of Quantized a Quantized of two.

  Args:
    value: array or Quantized of arrays, as a device has them.
    spec: its PartitionSpec, or a Quantized of two.
    dtype, grad_dtype: of a Part; quantised ones keep their own.
  """
  if quantize.is_quantized(value):
    one = lambda x, s: part_of(x, s, str(x.dtype), grad_dtype)
    return jax.tree.map(one, value, spec)
  return Part(value, _axes(spec, value.ndim), dtype, grad_dtype)


def on_own_rows(function, mesh, spec, dtype):
  """Has each device compute with its rows and its part of a table.

  Args:
    function: from hidden states [B, ...], the table [V, D] and other rows
      [B, ...] to [B, ...].
    mesh: the mesh; where one device has the batch nothing changes.
    spec: PartitionSpec of the table, Quantized of two where it is.
    dtype: str, the compute dtype.
  """
  if not _splits_batch(mesh):
    return function
  rows = PartitionSpec(sharding.BATCH)
  place = jax.tree.map(lambda s: _place(_axes(s, 2)), spec)

  def each(hidden, table, *others):
    return function(hidden, part_of(table, spec, dtype), *others)

  return jax.shard_map(
    each,
    in_specs=(rows, place, rows, rows),
    out_specs=rows,
    axis_names=set(sharding.BATCH),
    check_vma=False,
  )


def specs(cfg, mesh, rules, params=None):
  """Returns {name: PartitionSpec}; None where a single device has the batch.

  Args:
    cfg: paligemma.Config.
    mesh: the mesh.
    rules: pairs of a regex and a strategy, see pg/sharding.py.
    params: tree of the parameters' shapes; by default all are f32. Of quantised
      ones there is a Quantized of PartitionSpecs.
  """
  if not _splits_batch(mesh):
    return None
  params = paligemma.shapes(cfg) if params is None else params

  def spec(name, x):
    found = sharding.spec(name, x.shape, mesh, rules)
    if not quantize.is_quantized(x):
      return found
    return jax.tree.map(lambda y: sharding.dividing(found, y.shape, mesh), x)

  return {name: spec(name, x) for name, x in tree.flatten(params).items()}


def wrap(params, specs, dtype, grad_dtype):
  """Wraps what a device has only a part of, and the embedding.

  Args:
    params: the parameters as a device has them.
    specs: {name: PartitionSpec}.
    dtype: str, the compute dtype.
    grad_dtype: str, in which gradients are summed over devices.
  """

  def part(name, value):
    kept = name.endswith(("/scale", "/bias"))
    whole = "float32" if kept else dtype
    found = part_of(value, specs[name], whole, grad_dtype)
    axes = [x.axes for x in jax.tree.leaves(found, is_leaf=_is_part)]
    is_split = any(any(of_batch(x)) for x in axes)
    return found if is_split or name == EMBEDDING else value

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
    if grad is None:
      return None
    own = sum(_axes(specs[name], grad.ndim), ())
    axes = tuple(axis for axis in sharding.BATCH if axis not in own)
    return jax.lax.psum(grad, axes) if axes and not frozen[name] else grad

  def each(params, rows):
    loss, grads = value_and_grad(params, rows)
    return jax.lax.psum(loss, sharding.BATCH), tree.map_named(total, grads)

  def run(params, rows):
    places = tree.map_named(lambda name, x: _places(specs[name], x), params)
    of_grads = tree.map_named(
      lambda _, x: None if quantize.is_quantized(x) else x, places
    )
    loss, grads = jax.shard_map(
      each,
      in_specs=(places, PartitionSpec(sharding.BATCH)),
      out_specs=(PartitionSpec(), of_grads),
      axis_names=set(sharding.BATCH),
      check_vma=False,  # gradients are each device's own until `total`
    )(params, rows)
    keep = jax.lax.with_sharding_constraint  # so is the new state where it was
    like = lambda name, g: None if g is None else keep(g, specs[name])
    return loss, tree.map_named(like, grads)

  return run


def _is_part(x):
  return isinstance(x, Part)


def _splits_batch(mesh):
  return any(mesh.shape[axis] > 1 for axis in sharding.BATCH)


def _places(spec, x):
  """Returns the PartitionSpecs, of axes of a batch, of a parameter."""
  return jax.tree.map(lambda y, s: _place(_axes(s, y.ndim)), x, spec)


def _place(axes):
  """Returns the PartitionSpec of an array whose dimensions have these axes."""
  return PartitionSpec(*(x or None for x in of_batch(axes)))


def _axes(spec, ndim):
  """Returns for each dimension a tuple of axes."""
  spec = (*spec, *(None,) * (ndim - len(spec)))
  return tuple(x if isinstance(x, tuple) else (x,) if x else () for x in spec)
