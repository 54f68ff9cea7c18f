"""Our own checkpoints as a source and a target of conversions.

A checkpoint is stored in chunks of one layer or less (`checkpoint.save_args`),
so a layer is read and written at a time, whatever the size of the model.
"""

import dataclasses

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath
from orbax.checkpoint import type_handlers

from pg import tree
from pg.weights import checkpoint, tensors


class Reader:
  """Reads a checkpoint's parameters; see `pg/weights/tensors.py`."""

  def __init__(self, path):
    """Finds the checkpoint.

    Raises:
      ValueError: there is none.
    """
    self._folder = checkpoint.find(path) / "state"
    self._stores, self._block = {}, (None, 0, None)
    stored = ocp.PyTreeCheckpointHandler().metadata(self._folder).tree
    self.specs = {
      name: jax.ShapeDtypeStruct(leaf.shape, np.dtype(leaf.dtype))
      for name, leaf in tree.flatten(stored["params"]).items()
    }

  def read(self, name, layer=None):
    """Returns one layer of a tensor, or all of it, in the stored dtype.

    Raises:
      ValueError: the checkpoint is damaged.
    """
    try:
      store = self._store(name)
      if layer is None:
        return store.read().result()
      # What was sharded or small when it was saved has chunks of many layers.
      step = store.chunk_layout.read_chunk.shape[0]
      start = layer // step * step
      if self._block[:2] != (name, start):
        self._block = None, 0, None  # freed before the next one is read
        block = store[start : start + step].read().result()
        self._block = name, start, block
      return self._block[2][layer - start]
    except ValueError as error:
      raise ValueError(
        f"{self._folder} is damaged at {name}: {error}"
      ) from error

  def close(self):
    """Forgets what was opened."""
    self._stores, self._block = {}, (None, 0, None)

  def _store(self, name):
    if name not in self._stores:
      path = "params." + name.replace("/", ".") + "/"
      base = f"{self._folder}/"
      base = base if "://" in base else f"file://{base}"
      kvstore = {"driver": "ocdbt", "base": base, "path": path}
      spec = {"driver": "zarr", "kvstore": kvstore}
      self._stores[name] = tensorstore.open(spec, read=True).result()
    return self._stores[name]


@dataclasses.dataclass(frozen=True)
class _Lazy:
  """A tensor that is read when it is written."""

  name: str
  shape: tuple
  dtype: np.dtype
  read: object  # function (name, layer) -> array

  @property
  def size(self):
    return int(np.prod(self.shape))

  @property
  def nbytes(self):
    return self.size * self.dtype.itemsize


class _Handler(type_handlers.NumpyHandler):
  """Stores lazy tensors as Orbax stores arrays, one after another."""

  def __init__(self):
    super().__init__(deepcopy_host_arrays=False)

  async def _open_and_write(self, value, tspec, ts_context):
    # It waits without letting others go on: one layer is in memory at a time.
    store = tensorstore.open(
      tensorstore.Spec(tspec), create=True, open=True, context=ts_context
    ).result()
    for layer in tensors.parts(value.name, value.shape):
      array = value.read(value.name, layer)
      target = store if layer is None else store[layer]
      rows = store.chunk_layout.write_chunk.shape[layer is not None]
      for i in range(0, len(array), rows):
        piece = tensors.as_dtype(array[i : i + rows], value.dtype)
        try:
          target[i : i + len(piece)].write(piece).result()
        except ValueError as error:  # TensorStore's of a full disk
          raise OSError(str(error)) from error


def write(folder, specs, read):
  """Writes a checkpoint of step 0 that a run can start from.

  Args:
    folder: str, becomes a workdir with `checkpoints/0`.
    specs: {name: shape and dtype} to write.
    read: function (name, layer) -> array, of any dtype, as a reader's.

  Raises:
    OSError: it cannot be written.
  """
  flat = {
    name: _Lazy(name, spec.shape, spec.dtype, read)
    for name, spec in specs.items()
  }
  args = {
    f"params/{name}": checkpoint.save_args(name, lazy)
    for name, lazy in flat.items()
  }
  handlers = type_handlers.create_type_handler_registry((_Lazy, _Handler()))
  state = ocp.PyTreeCheckpointHandler(type_handler_registry=handlers)
  composite = ocp.CompositeCheckpointHandler(
    state=state, meta=ocp.JsonCheckpointHandler()
  )
  with ocp.Checkpointer(composite) as saver:
    saver.save(
      epath.Path(folder).resolve() / "checkpoints" / "0",
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(
          tree.unflatten({f"params/{k}": v for k, v in flat.items()}),
          tree.unflatten(args),
        ),
        meta=ocp.args.JsonSave({"step": 0}),
      ),
    )
