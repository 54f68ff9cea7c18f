"""Checkpoints of a training run, written by Orbax in the background.

A workdir's `checkpoints/` has one folder per saved step, named by the step:

    checkpoints/500/state/    every array of the train state
    checkpoints/500/meta/     a JSON object that goes with it

The arrays are stored under flat names (`params/llm/final_norm/scale`), so a
checkpoint knows neither the Python types nor the devices of the state it came
from. A folder gets its final name when it is complete and loses it before it is
deleted: a process killed at any moment leaves no half a checkpoint.
"""

import contextlib
import logging

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from pg import tree
from pg.weights import tensors

# Orbax logs a dozen lines per save; its failures arrive as exceptions.
logging.getLogger("absl").addFilter(lambda r: "/orbax/" not in r.pathname)

CHUNK = 1 << 26  # bytes
_PARTIAL = ".orbax-checkpoint-tmp"  # in a name, Orbax's mark of a partial one


class Manager:
  """Saves and restores the train state of one run; one per workdir at a time.

  Every process of the run makes the same calls.

    with checkpoint.Manager(workdir, max_checkpoints=1) as manager:
      manager.save(500, state, dict(step=500, next_example=64_000))
  """

  def __init__(self, workdir, *, max_checkpoints=None):
    """Opens `workdir/checkpoints`, makes it if needed, removes partial ones.

    Args:
      workdir: str or path.
      max_checkpoints: int, how many of the newest to keep, by default all of
        them. One more is there until the next save.

    Raises:
      OSError: the folder cannot be made.
    """
    self._folder = epath.Path(workdir).resolve() / "checkpoints"
    self._max_checkpoints = max_checkpoints
    # Not Orbax's CheckpointManager: it lists steps that are still being written
    # and deletes old ones in place, where a kill leaves half of one.
    self._saver = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
    if jax.process_index() == 0:
      self._folder.mkdir(parents=True, exist_ok=True)
      for partial in self._folder.glob(f"*{_PARTIAL}*"):
        partial.rmtree()

  def save(self, step, state, meta):
    """Copies the state to the host, then writes it in the background.

    The arrays may be donated as soon as this returns. It waits for the save
    before; errors of that one surface here.

    Args:
      step: int, not saved before.
      state: pytree of arrays; `state["params"]` is what `restore_params` reads.
      meta: dict, anything JSON can say.

    Raises:
      ValueError: there is a checkpoint of this step.
      OSError: it cannot be written, for example because the disk is full.
    """
    self.wait()
    if step in steps(self._folder):
      raise ValueError(
        f"{self._folder} has a checkpoint of step {step}; remove it or use"
        " another workdir"
      )
    self._forget_old()
    flat = _flat(state)
    args = {name: save_args(name, leaf) for name, leaf in flat.items()}
    with self._explained():
      self._saver.save(
        self._folder / str(step),
        ocp.args.Composite(
          state=ocp.args.PyTreeSave(tree.unflatten(flat), tree.unflatten(args)),
          meta=ocp.args.JsonSave(meta),
        ),
      )

  def latest(self):
    """Returns the newest step with a complete checkpoint, None without one."""
    return max(steps(self._folder), default=None)

  def restore(self, step, abstract):
    """Reads a train state, on whatever devices it is wanted.

    Args:
      step: int, one that was saved.
      abstract: pytree of `jax.ShapeDtypeStruct`, with a sharding each or all on
        the first device: the state's structure.

    Returns:
      The state, a pytree like `abstract`, and the meta dict saved with it.

    Raises:
      ValueError: no such checkpoint, or one of another tree, shape or dtype;
        the message lists every difference.
    """
    self.wait()
    folder = self._folder / str(step)
    if step not in steps(self._folder):
      raise ValueError(
        f"no checkpoint of step {step} in {self._folder}; there are"
        f" {steps(self._folder)}"
      )
    wanted, stored = _flat(abstract), _stored(folder)
    _check(wanted, stored, folder, dtypes=True)
    restored = tree.flatten(_restore(folder, wanted))
    leaves = [restored[name] for name in wanted]
    meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves), meta

  def wait(self):
    """Waits for the save in flight.

    Raises:
      OSError: it failed.
    """
    with self._explained():
      self._saver.wait_until_finished()

  def close(self):
    """Waits for the save in flight, then deletes what is not to be kept."""
    self.wait()
    self._forget_old()
    self._saver.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def _forget_old(self):
    if jax.process_index() == 0 and self._max_checkpoints:
      for step in steps(self._folder)[: -self._max_checkpoints]:
        old = self._folder / str(step)
        old.rename(f"{old}{_PARTIAL}-old").rmtree()

  @contextlib.contextmanager
  def _explained(self):
    try:
      yield
    except (OSError, ValueError) as error:  # ValueError is TensorStore's
      raise OSError(
        f"could not write a checkpoint to {self._folder}: {error}\nThe last"
        f" complete one there is of step {self.latest()}; is the disk full?"
      ) from error


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


def steps(folder):
  """Returns the sorted steps with a complete checkpoint in `checkpoints/`."""
  folder = epath.Path(folder)
  found = folder.iterdir() if folder.exists() else ()
  return sorted(int(p.name) for p in found if p.name.isdigit() and _complete(p))


def find(path):
  """Returns the newest step's folder, whose name is the step.

  Args:
    path: a workdir, its `checkpoints/`, or one step's folder.

  Raises:
    ValueError: there is no complete checkpoint.
  """
  path = epath.Path(path).resolve()
  if _complete(path):
    return path
  for folder in (path / "checkpoints", path):
    if found := steps(folder):
      return folder / str(found[-1])
  raise ValueError(
    f"no checkpoint in {path}; wanted the workdir of a run that has saved one,"
    " its checkpoints/ or one folder in there"
  )


def workdir_of(path):
  """Returns the run's folder that a checkpoint path is in, or is."""
  return str(find(path).parent.parent)


def restore_params(path, abstract=None):
  """Reads the parameters alone, whatever optimizer they were trained with.

  Args:
    path: as in `find`.
    abstract: nested dict of `jax.ShapeDtypeStruct` with shardings, the wanted
      parameters; values are cast to their dtypes.

  Returns:
    Nested dict of jax arrays like `abstract`, or, without it, of numpy arrays
    as they were saved.

  Raises:
    ValueError: no checkpoint, or one of other parameters; every difference is
      listed.
  """
  folder = find(path)
  stored = {k: v for k, v in _stored(folder).items() if k.startswith("params/")}
  if abstract is None:
    return _restore(folder, stored)["params"]
  wanted = _flat({"params": abstract})
  _check(wanted, stored, folder, dtypes=False)
  return _restore(folder, wanted)["params"]


def _complete(folder):
  return (folder / "commit_success.txt").exists()  # Orbax writes it last


def _flat(state):
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def _stored(folder):
  handler = ocp.PyTreeCheckpointHandler()
  return tree.flatten(handler.metadata(folder / "state").tree)


def _check(wanted, stored, folder, *, dtypes):
  report = tree.diff(tree.unflatten(wanted), tree.unflatten(stored))
  if dtypes and not report:
    report = "\n".join(
      f"! {name}: wanted {leaf.dtype}, found {stored[name].dtype}"
      for name, leaf in wanted.items()
      if leaf.dtype != stored[name].dtype
    )
  if report:
    raise ValueError(f"{folder} holds another tree:\n{report}")


def _restore(folder, flat):
  item = tree.unflatten(flat)
  return ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
    folder / "state",
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=jax.tree.map(_as_wanted, item),
      partial_restore=True,
    ),
  )


def _as_wanted(leaf):
  if not isinstance(leaf, jax.ShapeDtypeStruct):
    return ocp.RestoreArgs(restore_type=np.ndarray)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return ocp.ArrayRestoreArgs(sharding=leaf.sharding or one, dtype=leaf.dtype)
