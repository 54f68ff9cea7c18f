"""Our own checkpoints as a source and a target of conversions.

Orbax stores a tensor as one chunk, so here a tensor is in memory at a time.
"""

import os

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

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
    self._last = None, None
    stored = ocp.PyTreeCheckpointHandler().metadata(self._folder).tree
    self.specs = {
      name: jax.ShapeDtypeStruct(leaf.shape, np.dtype(leaf.dtype))
      for name, leaf in tree.flatten(stored["params"]).items()
    }

  def read(self, name, layer=None):
    """Returns one layer of a tensor, or all of it, in the stored dtype."""
    if self._last[0] != name:
      self._last = None, None  # freed before the next one is read
      self._last = name, self._tensor(name)
    return self._last[1] if layer is None else self._last[1][layer]

  def close(self):
    """Forgets the last tensor."""
    self._last = None, None

  def _tensor(self, name):
    flat = {f"params/{name}": ocp.RestoreArgs(restore_type=np.ndarray)}
    args = tree.unflatten(flat)
    restored = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
      self._folder,
      args=ocp.args.PyTreeRestore(
        item=args, restore_args=args, partial_restore=True
      ),
    )
    return tree.flatten(restored)[f"params/{name}"]


def write(folder, specs, read):
  """Writes a checkpoint of step 0 that a run can start from.

  Args:
    folder: str, becomes a workdir with `checkpoints/0`.
    specs: {name: shape and dtype} to write.
    read: function (name, layer) -> array, of any dtype, as a reader's.

  Raises:
    OSError: it cannot be written.
  """
  # Orbax wants all arrays at once: on the disk they need no memory.
  scratch = os.path.join(folder, "scratch")
  os.makedirs(scratch)
  flat = {}
  for i, (name, spec) in enumerate(specs.items()):
    path = os.path.join(scratch, str(i))
    with open(path, "wb") as f:
      for layer in tensors.parts(name, spec.shape):
        tensors.write_array(f, read(name, layer), spec.dtype)
    flat[name] = np.memmap(path, spec.dtype, "r", shape=spec.shape)
  with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as saver:
    saver.save(
      epath.Path(folder).resolve() / "checkpoints" / "0",
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave({"params": tree.unflatten(flat)}),
        meta=ocp.args.JsonSave({"step": 0}),
      ),
    )
  for i in range(len(specs)):
    os.remove(os.path.join(scratch, str(i)))
  os.rmdir(scratch)
