"""Checkpoints of a training run, written by Orbax in the background.

A workdir's `checkpoints/` has one folder per saved step, named by the step:

    checkpoints/500/state/    every array of the train state
    checkpoints/500/meta/     a JSON object that goes with it
    checkpoints/500/checksums.json

The arrays are stored under flat names (`params/llm/final_norm/scale`), so a
checkpoint knows neither the Python types nor the devices of the state it came
from. A folder gets its final name when it is complete and loses it before it is
deleted: a process killed at any moment leaves no half a checkpoint. One whose
checksums say that it is damaged is never used; whoever reads a run takes the
newest good one, and training sets the bad one aside as `damaged-500`.

All files are compared before any is read: those of the optimizer, too, where
only parameters are wanted, as Orbax writes both into the same files.
"""

import contextlib
import functools
import itertools
import logging
import sys
import warnings

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from pg import tree
from pg.weights import checksums, tensors

# Orbax logs a dozen lines per save; its failures arrive as exceptions.
logging.getLogger("absl").addFilter(lambda r: "/orbax/" not in r.pathname)
# What it leaves under way when one file cannot be written complains by itself.
logging.getLogger("asyncio").addFilter(lambda r: "never retrieved" not in r.msg)

CHUNK = 1 << 26  # bytes
_PARTIAL = ".orbax-checkpoint-tmp"  # in a name, Orbax's mark of a partial one
_COMMIT = "commit_success.txt"  # Orbax writes it last
_DAMAGED = "damaged-"  # before the step


def _report(unraisable, *, report=sys.unraisablehook):
  """Reports an exception that nobody can catch, but for one of no interest.

  When an array cannot be written or read, Orbax closes its event loop, and the
  others, still under way in TensorStore, each complain that it is closed.
  """
  if str(unraisable.exc_value) != "Event loop is closed":
    report(unraisable)


sys.unraisablehook = _report


class Manager:
  """Saves and restores the train state of one run; one per workdir at a time.

  Every process of the run makes the same calls.

    with checkpoint.Manager(workdir, max_checkpoints=1) as manager:
      manager.save(500, state, dict(step=500))
  """

  def __init__(self, workdir, *, max_checkpoints=None):
    """Opens `workdir/checkpoints`, makes it if needed, removes partial ones.

    Those that are damaged and newer than the newest good one are renamed.

    Args:
      workdir: str or path.
      max_checkpoints: int, how many of the newest to keep, None is all of them.
        One more is there until the next save.

    Raises:
      ValueError: there are checkpoints, but not a good one, or max_checkpoints
        is below 1.
      OSError: the folder cannot be made.
    """
    if max_checkpoints is not None and max_checkpoints < 1:
      raise ValueError(
        f"max_checkpoints is {max_checkpoints}; wanted how many to keep, 1 or"
        " more, or None for all"
      )
    self._folder = epath.Path(workdir).resolve() / "checkpoints"
    self._max_checkpoints = max_checkpoints
    # Not Orbax's CheckpointManager: it lists steps that are still being written
    # and deletes old ones in place, where a kill leaves half of one.
    self._saver = ocp.AsyncCheckpointer(
      ocp.CompositeCheckpointHandler(),
      async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
    )
    self._saving = None  # the folder's final name
    interrupted = False
    if jax.process_index() == 0:
      self._folder.mkdir(parents=True, exist_ok=True)
      partial = list(self._folder.glob(f"*{_PARTIAL}*"))
      interrupted = bool(partial)
      for folder in partial:
        folder.rmtree()
      self._set_aside()
    # bool, whether the run before ended while it saved; the other processes
    # wait here until all is in order.
    self.interrupted = bool(
      multihost_utils.broadcast_one_to_all(np.int32(interrupted))
    )
    bad = sorted(p.name for p in self._folder.glob(f"{_DAMAGED}*"))
    if bad and self.latest() is None:
      raise ValueError(
        f"{self._folder} has no good checkpoint left, only {', '.join(bad)}."
        " Copy one there, named by its step; to start anew, remove them or use"
        " another workdir"
      )

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
    self._saving = self._folder / str(step)
    with self._explained():
      self._saver.save(
        self._saving,
        ocp.args.Composite(
          state=ocp.args.PyTreeSave(tree.unflatten(flat), tree.unflatten(args)),
          meta=ocp.args.JsonSave(meta),
        ),
      )

  def latest(self):
    """Returns the newest step with a complete checkpoint, None without one."""
    return max(steps(self._folder), default=None)

  def meta(self, step):
    """Returns the dict that was saved with the state of a step."""
    return _meta(self._folder / str(step))

  def restore(self, step, abstract):
    """Reads a train state, on whatever devices it is wanted.

    Args:
      step: int, one that was saved.
      abstract: pytree of `jax.ShapeDtypeStruct`, with a sharding each or all on
        the first device: the state's structure.

    Returns:
      The state, a pytree like `abstract`.

    Raises:
      ValueError: no such checkpoint, a damaged one, or one of another tree,
        shape or dtype; the message lists every difference.
    """
    self.wait()
    folder = self._folder / str(step)
    if step not in steps(self._folder):
      raise ValueError(
        f"no checkpoint of step {step} in {self._folder}; there are"
        f" {steps(self._folder)}"
      )
    if jax.process_index() == 0:
      _verify(folder)
    wanted, stored = _flat(abstract), _stored(folder)
    _check(wanted, stored, folder, dtypes=True)
    restored = tree.flatten(_restore(folder, wanted))
    leaves = [restored[name] for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

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

  def _seal(self):
    """Writes checksums; Orbax calls it when all but the commit is done."""
    partial = epath.Path(f"{self._saving}{_PARTIAL}")
    # A bucket cannot rename: there the folder has its final name.
    checksums.write(partial if partial.exists() else self._saving)

  def _set_aside(self):
    """Renames what is damaged and newer than the newest good checkpoint."""
    _verify.cache_clear()
    for folder in _folders(self._folder):
      try:
        return _verify(folder)
      except ValueError as error:
        first = f"{_DAMAGED}{folder.name}"
        others = (f"{first}-{i}" for i in itertools.count(2))
        names = itertools.chain([first], others)
        name = next(x for x in names if not (self._folder / x).exists())
        folder.rename(self._folder / name)
        latest = self.latest()
        left = "none is left"
        if latest is not None:
          left = f"the newest one left is of step {latest}"
        warnings.warn(
          f"{error}; it is called {name} now, and {left}", stacklevel=1
        )

  @contextlib.contextmanager
  def _explained(self):
    try:
      yield
    except (OSError, ValueError) as error:  # ValueError is TensorStore's
      latest = self.latest()
      raise OSError(
        f"could not write a checkpoint to {self._folder}: {error}\nIs the disk"
        " full? Make room and start again:"
        f" {f'step {latest} is intact' if latest else 'no step was saved yet'}"
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
  """Returns the newest good step's folder, whose name is the step.

  Damaged ones that are newer are named in a warning.

  Args:
    path: a workdir, its `checkpoints/`, or one step's folder.

  Raises:
    ValueError: there is no complete checkpoint, or none that is not damaged.
  """
  damaged = []
  for folder in _candidates(path):
    try:
      _verify_for_all(folder)
    except ValueError as error:
      damaged.append(str(error))
      continue
    for said in damaged:
      warnings.warn(f"{said}; step {folder.name} is used", stacklevel=1)
    return folder
  raise ValueError("\n".join(damaged))


def _candidates(path):
  """Returns the folders that a path may mean, the newest first.

  Raises:
    ValueError: there is no complete checkpoint.
  """
  path = epath.Path(path).resolve()
  if _complete(path) or path.match("checkpoints/[0-9]*") and path.exists():
    return [path]
  for folder in (path / "checkpoints", path):
    if steps(folder):
      return _folders(folder)
  raise ValueError(
    f"no checkpoint in {path}; wanted the workdir of a run that has saved one,"
    " its checkpoints/ or one folder in there"
  )


def workdir_of(path):
  """Returns the run's folder that a checkpoint path is in, or is."""
  return str(_candidates(path)[0].parent.parent)


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


def _folders(folder):
  """Returns the folders of all steps, complete or not, the newest first."""
  found = (p for p in folder.iterdir() if p.name.isdigit() and p.is_dir())
  return sorted(found, key=lambda p: int(p.name), reverse=True)


def _complete(folder):
  return (folder / _COMMIT).exists()


@functools.cache  # a verb asks for the same checkpoint a few times
def _verify(folder):
  """Raises ValueError naming the damaged files of a checkpoint, if any.

  Of one without checksums only what describes its arrays is read.
  """
  found = checksums.damage(folder)
  if not _complete(folder):
    found = [f"{_COMMIT}: missing"]
  elif not (folder / checksums.FILE).exists():
    _stored(folder), _meta(folder)
  if found:
    raise ValueError(_damaged(folder, "; ".join(tree.some(found))))


def _verify_for_all(folder):
  """Verifies a checkpoint in the first process of a job; tells the others."""
  if jax.process_count() == 1:
    return _verify(folder)
  said = ""
  if jax.process_index() == 0:
    try:
      _verify(folder)
    except ValueError as error:
      said = str(error)
  said = np.frombuffer(said.encode()[:4096].ljust(4096), np.uint8)
  said = multihost_utils.broadcast_one_to_all(said).tobytes()
  if said.strip():
    raise ValueError(said.decode(errors="replace").strip())


@contextlib.contextmanager
def _reading(folder):
  """Names the checkpoint in whatever Orbax makes of a damaged one."""
  try:
    yield
  except jax.errors.JaxRuntimeError:  # such as too little memory
    raise
  except Exception as error:
    said = str(error).strip().partition("\n")[0]
    said = _damaged(folder, f"{type(error).__name__}: {said}")
    raise ValueError(said) from error


def _damaged(folder, found):
  if folder.exists():
    return f"{folder} is damaged ({found})"
  return (
    f"{folder} was removed while it was read: its run saved a newer one; try"
    " again"
  )


def _flat(state):
  leaves, _ = jax.tree_util.tree_flatten_with_path(state)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def _stored(folder):
  with _reading(folder):
    stored = ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
    return tree.flatten(stored)


def _meta(folder):
  with _reading(folder):
    return ocp.JsonCheckpointHandler().restore(folder / "meta")


def _check(wanted, stored, folder, *, dtypes):
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


def _restore(folder, flat):
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
