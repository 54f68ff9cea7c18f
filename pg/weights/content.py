"""What is in a checkpoint's folder, as Orbax stores and reads it."""

import contextlib
import logging
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp

from pg import tree
from pg.data.storage import bucket
from pg.weights import folders, tensors

# Orbax logs a dozen lines per save; its failures arrive as exceptions.
logging.getLogger("absl").addFilter(lambda r: "/orbax/" not in r.pathname)
# What it leaves under way when one file cannot be written complains by itself.
logging.getLogger("asyncio").addFilter(lambda r: "never retrieved" not in r.msg)

CHUNK = 1 << 26  # bytes


def _report(unraisable, *, report=sys.unraisablehook):
  """Reports an exception that nobody can catch, but for one of no interest.

  When an array cannot be written or read, Orbax closes its event loop, and the
  others, still under way in TensorStore, each complain that it is closed.
  """
  if str(unraisable.exc_value) != "Event loop is closed":
    report(unraisable)


sys.unraisablehook = _report


def arrays(folder):
  """Returns {flat name: what Orbax knows of an array} of a checkpoint."""
  with _reading(folder):
    stored = ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
    return tree.flatten(stored)


def meta(folder):
  """Returns the dict that was saved with the state."""
  with _reading(folder):
    return ocp.JsonCheckpointHandler().restore(folder / "meta")


def check(wanted, stored, folder, *, dtypes):
  """Sees that a checkpoint has what is wanted of it.

  Args:
    wanted, stored: {flat name: anything with shape and dtype}.
    folder: how it is called.
    dtypes: bool, whether those are compared, too.

  Raises:
    ValueError: it has not; every difference is listed.
  """
  report = tree.diff(tree.unflatten(wanted), tree.unflatten(stored))
  if dtypes and not report:
    report = "\n".join(
      f"! {name}: wanted {leaf.dtype}, found {stored[name].dtype}"
      for name, leaf in wanted.items()
      if leaf.dtype != stored[name].dtype
    )
  if report:
    what = "of another model"
    if dtypes:
      what += ", optimizer or choice of what is frozen; use another workdir"
    raise ValueError(f"{folder} is {what}:\n{report}")


def restore(folder, flat):
  """Reads arrays; returns them in nested dicts.

  Args:
    folder: epath.Path, one that Orbax can read.
    flat: {flat name: jax.ShapeDtypeStruct, or anything else for a numpy array}.
  """
  item = tree.unflatten(flat)
  args = ocp.args.PyTreeRestore(
    item=item,
    restore_args=jax.tree.map(_as_wanted, item),
    partial_restore=True,
  )
  with _reading(folder):
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    return reader.restore(folder / "state", args=args)


def _as_wanted(leaf):
  if not isinstance(leaf, jax.ShapeDtypeStruct):
    return ocp.RestoreArgs(restore_type=np.ndarray)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return ocp.ArrayRestoreArgs(sharding=leaf.sharding or one, dtype=leaf.dtype)


@contextlib.contextmanager
def _reading(folder):
  """Names the checkpoint in whatever Orbax makes of a damaged one."""
  try:
    yield
  except jax.errors.JaxRuntimeError:  # such as too little memory
    raise
  except Exception as error:
    if bucket.is_bucket(folder) and bucket.is_refusal(error):
      raise OSError(f"cannot read {folder}: {bucket.reason(error)}") from error
    said = str(error).strip().partition("\n")[0]
    said = damaged(folder, f"{type(error).__name__}: {said}")
    raise ValueError(said) from error


def damaged(folder, found):
  """Returns the message of a damaged checkpoint, or of one that is gone."""
  if folders.exists(folder):
    return f"{folder} is damaged ({found})"
  return (
    f"{folder} was removed while it was read: its run saved a newer one; try"
    " again"
  )


def flat(state):
  """Returns {flat name: leaf} of a pytree."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def save_args(name, leaf):
  """Says how Orbax cuts an array into chunks: a layer or less in each.

  Without this a chunk is all of a tensor (or of a device's share), and who
  reads one layer of the 62 GB of a 28B model's mlp reads all of it.

  Args:
    name: str, flat name in the train state.
    leaf: array, or anything with shape and nbytes.
  """
  if leaf.nbytes <= CHUNK:
    return ocp.SaveArgs()
  stacked = any(part in name for part in tensors.STACKED)
  axes = (0,) if stacked else ()
  return ocp.SaveArgs(chunk_byte_size=CHUNK, shard_axes=axes)
