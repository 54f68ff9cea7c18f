"""Our own checkpoints as source and target of conversions.

A checkpoint is stored in chunks of one layer or less (`content.CHUNK`),
so a layer is read and written at a time, whatever the size of the model.
"""

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath

from pg import tree
from pg.weights import checkpoint, checksums, content, folders, tensors

_CODEC = {"driver": "zarr", "compressor": {"id": "zstd"}}  # Orbax's


class Arrays:
  """Reads the arrays of an Orbax tree; see `pg/weights/tensors.py`."""

  def __init__(self, folder, choose):
    """Opens the tree.

    Args:
      folder: epath.Path.
      choose: function from the flat names in it to {our name: flat name}.

    Raises:
      ValueError: it cannot be read.
    """
    self._folder = folder
    self._stores, self._block = {}, (None, 0, None)
    stored = ocp.PyTreeCheckpointHandler().metadata(folder).tree
    stored = tree.flatten(stored)
    self._names = choose(stored)
    self.specs = {
      name: jax.ShapeDtypeStruct(stored[k].shape, np.dtype(stored[k].dtype))
      for name, k in self._names.items()
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
      spec = _place(self._folder, self._names[name])
      self._stores[name] = tensorstore.open(spec, read=True).result()
    return self._stores[name]


class Reader(Arrays):
  """Reads a checkpoint's parameters."""

  def __init__(self, path):
    """Finds the checkpoint.

    Raises:
      ValueError: there is none.
    """
    folder = folders.readable(checkpoint.find(path)) / "state"
    super().__init__(folder, lambda stored: checkpoint.parameters(path, stored))


def write(folder, specs, read):
  """Writes a checkpoint of step 0 that a run can start from.

  Args:
    folder: str, becomes a workdir with `checkpoints/0`.
    specs: {name: shape and dtype} to write.
    read: function (name, layer) -> array, of any dtype, as a reader's.

  Raises:
    OSError: it cannot be written.
  """
  path = epath.Path(folder).resolve() / "checkpoints" / "0"
  # Orbax writes all arrays at once, so it gets ones without a shape, and the
  # real ones take their place.
  names = {f"params/{k}": np.zeros((), v.dtype) for k, v in specs.items()}
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as saver:
    saver.save(
      path,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(tree.unflatten(names)),
        meta=ocp.args.JsonSave({"step": 0}),
      ),
    )
  try:
    for name, spec in specs.items():
      _write(path / "state", name, spec, read)
    checksums.write(path)
  except ValueError as error:  # TensorStore's of a full disk
    raise OSError(str(error)) from error


def _write(folder, name, spec, read):
  """Writes a tensor, a chunk at a time."""
  stacked = tensors.is_stacked(name)
  store = tensorstore.open(
    _place(folder, f"params/{name}"),
    create=True,
    delete_existing=True,
    dtype=tensorstore.dtype(spec.dtype),
    shape=spec.shape,
    codec=tensorstore.CodecSpec(_CODEC),
    chunk_layout=tensorstore.ChunkLayout(
      chunk=tensorstore.ChunkLayout.Grid(
        elements=content.CHUNK // spec.dtype.itemsize,
        shape=[int(stacked), *[0] * len(spec.shape[1:])],
      )
    ),
  ).result()
  for layer in tensors.parts(name, spec.shape):
    array = read(name, layer)
    target = store if layer is None else store[layer]
    rows = store.chunk_layout.write_chunk.shape[stacked]
    for i in range(0, len(array), rows):
      piece = tensors.as_dtype(array[i : i + rows], spec.dtype)
      target[i : i + len(piece)].write(piece).result()


def _place(folder, name):
  """Returns where TensorStore finds an array by its flat name."""
  path = name.replace("/", ".") + "/"
  base = f"{folder}/"
  base = base if "://" in base else f"file://{base}"
  kvstore = {"driver": "ocdbt", "base": base, "path": path}
  return {"driver": "zarr", "kvstore": kvstore}
