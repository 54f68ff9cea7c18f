"""Checkpoints of a training run, written by Orbax in the background.

A workdir's `checkpoints/` has one folder per saved step, named by the step:

    checkpoints/500/state/    every array of the train state
    checkpoints/500/meta/     a JSON object that goes with it
    checkpoints/500/checksums.json

The arrays are stored under flat names (`params/llm/final_norm/scale`), so a
checkpoint knows neither the Python types nor the devices of the state it came
from. A folder gets its final name when it is complete and loses it before it is
deleted: a process killed at any moment leaves no half a checkpoint. A bucket
has no folders that could be renamed: there one is complete when it has the file
`commit_success.txt`, which is written last and deleted first. One whose
checksums say that it is damaged is never used; whoever reads a run takes the
newest good one, and training sets the bad one aside as `damaged-500`.

Orbax writes to gs:// by itself, and reads from there, on all hosts at once.
What goes to another bucket (s3://) is written here first and uploaded, and
downloaded to be read: that can be done by one process.

All files are compared before any is read: those of the optimizer, too, where
only parameters are wanted, as Orbax writes both into the same files.
"""

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import shutil
import sys
import warnings
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from pg import tree
from pg.data.storage import bucket, index, remote
from pg.weights import checksums, tensors

# Orbax logs a dozen lines per save; its failures arrive as exceptions.
logging.getLogger("absl").addFilter(lambda r: "/orbax/" not in r.pathname)
# What it leaves under way when one file cannot be written complains by itself.
logging.getLogger("asyncio").addFilter(lambda r: "never retrieved" not in r.msg)

CHUNK = 1 << 26  # bytes
SMALL = 1 << 28  # bytes of a state that may be on the devices twice
# What may be wanted of a run: its best checkpoint, or averaged parameters.
CHOICES = ("best", "ema")
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

  def __init__(
    self, workdir, *, max_checkpoints=None, before=lambda: None, best=""
  ):
    """Opens `workdir/checkpoints`, makes it if needed, removes partial ones.

    Those that are damaged and newer than the newest good one are renamed.

    Args:
      workdir: str or path, also of a folder in a bucket.
      max_checkpoints: int, how many of the newest to keep, None is all of them.
        One more is there until the next save.
      before: function that each process calls before a save is complete.
      best: str, a score in `meta["scores"]`, with "-" before it where less is
        better; the best checkpoint by it is kept, too.

    Raises:
      ValueError: there are checkpoints, but not a good one, max_checkpoints is
        below 1, or several processes cannot write there.
      OSError: the folder cannot be made.
    """
    if max_checkpoints is not None and max_checkpoints < 1:
      raise ValueError(
        f"max_checkpoints is {max_checkpoints}; wanted how many to keep, 1 or"
        " more, or None for all"
      )
    self._folder = _absolute(workdir) / "checkpoints"
    self._max_checkpoints, self._before = max_checkpoints, before
    self._transit = _transit(self._folder)
    # Not Orbax's CheckpointManager: it lists steps that are still being written
    # and deletes old ones in place, where a kill leaves half of one.
    # Told who takes part, Orbax waits for the others in JAX's coordination
    # service, which any thread may do, and not in a program on the devices.
    processes = ocp.options.MultiprocessingOptions(
      active_processes={*range(jax.process_count())}
    )
    options = ocp.CompositeOptions(multiprocessing_options=processes)
    self._saver = ocp.AsyncCheckpointer(
      ocp.CompositeCheckpointHandler(composite_options=options),
      async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
      multiprocessing_options=processes,
    )
    self._saving = None  # the folder's final name
    self._thread = futures.ThreadPoolExecutor(1)
    self._copying = None  # the future of a save that is about to begin
    interrupted = False
    if jax.process_index() == 0:
      if not bucket.is_bucket(self._folder):
        self._folder.mkdir(parents=True, exist_ok=True)
      partial = _partial(self._folder)
      interrupted = bool(partial)
      for folder in partial:
        _delete(folder)
      self._set_aside()
    # bool, whether the run before ended while it saved; the other processes
    # wait here until all is in order.
    self.interrupted = bool(
      multihost_utils.broadcast_one_to_all(np.int32(interrupted))
    )
    bad = sorted(x for x in _listed(self._folder) if x.startswith(_DAMAGED))
    if bad and self.latest() is None:
      raise ValueError(
        f"{self._folder} has no good checkpoint left, only {', '.join(bad)}."
        " Copy one there, named by its step; to start anew, remove them or use"
        " another workdir"
      )
    self._best, self._values = best, {}  # step -> the score
    if best:
      for step in steps(self._folder):
        self._values[step] = _value(best, self.meta(step))

  def is_best(self, meta):
    """Returns whether a checkpoint with a meta would be the best of all."""
    value = _value(self._best, meta)
    return value > max(self._values.values(), default=-np.inf)

  def save(self, step, state, meta):
    """Copies the state, then writes it in the background.

    The arrays may be donated as soon as this returns. It waits for the save
    before; errors of that one surface here. A small state is copied on its
    devices, a larger one to the host.

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
    self._values[step] = _value(self._best, meta)
    flat = _flat(state)
    self._saving = (self._transit or self._folder) / str(step)
    if _is_small(flat):
      self._copying = self._thread.submit(self._write, _copied(flat), meta)
    else:
      with self._explained():
        self._write(flat, meta)

  def _write(self, flat, meta):
    """Begins to write; this takes Orbax a while, however little there is."""
    self._forget_old()
    if jax.process_index():  # the first process does it in _seal
      self._before()
    args = {name: save_args(name, leaf) for name, leaf in flat.items()}
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
    return _meta(self._near(step))

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
    near = self._near(step)
    if jax.process_index() == 0:
      _verify(near)
    wanted, stored = _flat(abstract), _stored(near)
    _check(wanted, stored, folder, dtypes=True)
    restored = tree.flatten(_restore(near, wanted))
    leaves = [restored[name] for name in wanted]
    self._empty_transit()
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

  def wait(self):
    """Waits for the save in flight.

    Raises:
      OSError: it failed.
    """
    with self._explained():
      copying, self._copying = self._copying, None
      if copying:
        copying.result()
      self._saver.wait_until_finished()

  def close(self):
    """Waits for the save in flight, then deletes what is not to be kept."""
    self.wait()
    self._forget_old()
    self._saver.close()
    self._thread.shutdown()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def _forget_old(self):
    self._empty_transit()
    if jax.process_index() == 0 and self._max_checkpoints:
      saved = steps(self._folder)
      best = _best({k: v for k, v in self._values.items() if k in saved})
      for step in saved[: -self._max_checkpoints]:
        if step == best:
          continue
        old = self._folder / str(step)
        if not bucket.is_bucket(old):
          old = old.rename(f"{old}{_PARTIAL}-old")
        _delete(old)

  def _near(self, step):
    """Returns a step's folder where Orbax can read it."""
    folder = self._folder / str(step)
    return readable(folder, self._transit) if self._transit else folder

  def _empty_transit(self):
    if self._transit:
      shutil.rmtree(self._transit, ignore_errors=True)

  def _seal(self):
    """Writes checksums; Orbax calls it when all but the commit is done."""
    folder = self._saving
    # In a bucket it has its final name already.
    if not bucket.is_bucket(folder):
      folder = epath.Path(f"{folder}{_PARTIAL}")
    checksums.write(folder)
    self._before()
    if self._transit:
      (folder / _COMMIT).write_text("")
      there = f"{self._folder}/{self._saving.name}"
      bucket.upload(folder, there, last=[_COMMIT])

  def _set_aside(self):
    """Renames what is damaged and newer than the newest good checkpoint."""
    _verify.cache_clear()
    for folder in _folders(self._folder):
      try:
        return _verify(self._near(folder.name))
      except ValueError as error:
        first = f"{_DAMAGED}{folder.name}"
        others = (f"{first}-{i}" for i in itertools.count(2))
        names = itertools.chain([first], others)
        there = _listed(self._folder)
        name = next(x for x in names if x not in there)
        _move(folder, self._folder / name)
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
    except Exception as error:  # ValueError is TensorStore's
      in_bucket = bucket.is_bucket(self._folder) and bucket.is_refusal(error)
      if not isinstance(error, OSError | ValueError) and not in_bucket:
        raise
      said = f"{error}\nIs the disk full? Make room and start again:"
      if bucket.is_bucket(self._folder):
        said = f"{bucket.reason(error)}\nThe same command continues:"
      left = "from the last step that was saved"
      with contextlib.suppress(OSError):  # a bucket may not answer
        latest = self.latest()
        left = f"step {latest} is intact" if latest else "no step was saved yet"
      raise OSError(
        f"could not write a checkpoint to {self._folder}: {said} {left}"
      ) from error


def _is_small(flat):
  leaves = flat.values()
  is_there = all(isinstance(leaf, jax.Array) for leaf in leaves)
  return is_there and sum(leaf.nbytes for leaf in leaves) <= SMALL


@jax.jit
def _copied(flat):
  return jax.tree.map(jnp.copy, flat)


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
  found = _folders(epath.Path(folder))
  return sorted(int(p.name) for p in found if _complete(p))


def _value(best, meta):
  """Returns a score, the larger the better; -inf where there is none."""
  value = meta.get("scores", {}).get(best.removeprefix("-"), np.nan)
  value = -value if best.startswith("-") else value
  return -np.inf if np.isnan(value) else value


def _best(values):
  """Returns the newest step with the largest value; None where none has one."""
  step = max(values, key=lambda step: (values[step], step), default=None)
  return step if step is not None and values[step] > -np.inf else None


def find(path):
  """Returns the newest good step's folder, whose name is the step.

  Damaged ones that are newer are named in a warning.

  Args:
    path: a workdir, its `checkpoints/`, or one step's folder, each as it is or
      with a choice, see `split`.

  Raises:
    ValueError: there is no complete checkpoint, or none that is not damaged.
  """
  damaged = []
  for folder in _candidates(path):
    try:
      _verify_for_all(readable(folder))
    except ValueError as error:
      damaged.append(str(error))
      continue
    for said in damaged:
      warnings.warn(f"{said}; step {folder.name} is used", stacklevel=1)
    return folder
  raise ValueError("\n".join(damaged))


def split(path):
  """Splits "runs/a:best" into the path and what is wanted of it.

  Returns:
    `(path, "best")` or so, strings; the second is None where there is none.
  """
  base, colon, choice = os.fspath(path).rpartition(":")
  if colon and choice in CHOICES:
    return base, choice
  return os.fspath(path), None


def _candidates(path):
  """Returns the folders that a path may mean, the newest first.

  Raises:
    ValueError: there is no complete checkpoint.
  """
  path, choice = split(path)
  if choice == "best":
    return [_best_of(path)]
  path = _absolute(path)
  if _complete(path) or path.match("checkpoints/[0-9]*") and _exists(path):
    return [path]
  for folder in (path / "checkpoints", path):
    if saved := steps(folder):
      if bucket.is_bucket(folder):  # the others may be being written
        return [folder / str(step) for step in reversed(saved)]
      return _folders(folder)
  raise ValueError(
    f"no checkpoint in {path}; wanted the workdir of a run that has saved one,"
    " its checkpoints/ or one folder in there"
  )


def _best_of(path):
  """Returns the folder of a run's best checkpoint by its own `best`."""
  folders = [f for f in _candidates(path) if _complete(f)]
  metas = {f: _meta(readable(f)) for f in folders}
  best = metas[folders[0]].get("run", {}).get("best", "") if folders else ""
  values = {int(f.name): _value(best, meta) for f, meta in metas.items()}
  if not best or (step := _best(values)) is None:
    raise ValueError(
      f"{path} has no best checkpoint: its run kept none by a score"
      f" (config.best is {best!r}), or none of them was scored"
    )
  return next(f for f in folders if f.name == str(step))


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
  folder = readable(find(path))
  stored = _stored(folder)
  names = parameters(path, stored)
  stored = {f"params/{k}": stored[name] for k, name in names.items()}
  wanted = stored
  if abstract is not None:
    wanted = _flat({"params": abstract})
    _check(wanted, stored, folder, dtypes=False)
  names = {k: names[k.removeprefix("params/")] for k in wanted}
  found = tree.flatten(
    _restore(folder, {name: wanted[k] for k, name in names.items()})
  )
  return tree.unflatten({k: found[name] for k, name in names.items()})["params"]


def restore_opt(path, abstract):
  """Reads the optimizer's state alone.

  Args:
    path: as in `find`.
    abstract: pytree of `jax.ShapeDtypeStruct` with shardings.

  Raises:
    ValueError: no checkpoint, or one of another optimizer or model; every
      difference is listed.
  """
  folder = readable(find(path))
  stored = {k: v for k, v in _stored(folder).items() if k.startswith("opt/")}
  wanted = _flat({"opt": abstract})
  _check(wanted, stored, folder, dtypes=True)
  found = tree.flatten(_restore(folder, wanted))
  leaves = [found[name] for name in wanted]
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def parameters(path, stored):
  """Returns {parameter: its flat name in a checkpoint}; averaged for ":ema".

  Args:
    path: as in `find`.
    stored: flat names in the checkpoint.

  Raises:
    ValueError: averages are wanted, and there are none.
  """
  start = "params/"
  found = {k.removeprefix(start): k for k in stored if k.startswith(start)}
  if split(path)[1] == "ema":
    ema = {k.partition("/ema/")[2]: k for k in stored if "/ema/" in k}
    if not ema:
      raise ValueError(f"{path}: the run kept no averages (config.ema is 0)")
    found |= ema
  return found


def _absolute(path):
  """Returns an epath.Path that does not depend on where this process is."""
  path = os.fspath(path)
  return (
    epath.Path(path) if bucket.is_bucket(path) else epath.Path(path).resolve()
  )


def _listed(folder):
  """Returns {name: whether it is a folder}; {} where there is no folder."""
  if bucket.is_bucket(folder):
    return bucket.children(str(folder))
  if not folder.is_dir():
    return {}
  return {path.name: path.is_dir() for path in folder.iterdir()}


def _exists(folder):
  is_there = bucket.children if bucket.is_bucket(folder) else os.path.exists
  return bool(is_there(str(folder)))


def _folders(folder):
  """Returns the folders of all steps, complete or not, the newest first."""
  found = _listed(folder).items()
  names = [name for name, is_folder in found if is_folder and name.isdigit()]
  return [folder / name for name in sorted(names, key=int, reverse=True)]


def _complete(folder):
  return _COMMIT in _listed(folder)


def _partial(folder):
  """Returns what was being written or deleted in `checkpoints/` at a kill."""
  found = [folder / name for name in _listed(folder) if _PARTIAL in name]
  if bucket.is_bucket(folder):
    found += [p for p in _folders(folder) if not _complete(p)]
  return found


def _delete(folder):
  """Deletes a folder that has no step's name, or is in a bucket."""
  if not bucket.is_bucket(folder):
    return folder.rmtree()
  bucket.remove(f"{folder}/{_COMMIT}")
  bucket.remove(str(folder))


def _move(folder, target):
  if bucket.is_bucket(folder):
    bucket.move(str(folder), str(target))
  else:
    folder.rename(target)


def _transit(folder):
  """Returns an empty folder for what goes to a bucket that Orbax cannot use.

  Elsewhere it is None.

  Raises:
    ValueError: several processes would write parts of it on several disks.
  """
  if _is_direct(folder):
    return None
  if jax.process_count() > 1:
    raise ValueError(
      f"{folder}: {jax.process_count()} processes can save to gs:// or to a"
      " folder that all of them see; to other buckets only one can"
    )
  key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
  path = index.folder() / "transit" / key
  shutil.rmtree(path, ignore_errors=True)
  return epath.Path(path)


def _is_direct(folder):
  """Says whether Orbax can read and write a folder where it is."""
  return not bucket.is_bucket(folder) or str(folder).startswith("gs://")


def readable(folder, cache=None):
  """Returns where Orbax can read a checkpoint: downloaded if need be.

  Args:
    folder: epath.Path.
    cache: folder of downloads; None is that of weights.
  """
  if _is_direct(folder):
    return folder
  return epath.Path(remote.fetch(str(folder), cache))


@functools.cache  # a verb asks for the same checkpoint a few times
def _verify(folder):
  """Raises ValueError naming the damaged files of a checkpoint, if any.

  Of one without checksums only what describes its arrays is read.
  """
  found = checksums.damage(folder)
  if not _complete(folder):
    found = [f"{_COMMIT}: missing"]
  elif checksums.FILE not in _listed(folder):
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
    if bucket.is_bucket(folder) and bucket.is_refusal(error):
      raise OSError(f"cannot read {folder}: {bucket.reason(error)}") from error
    said = str(error).strip().partition("\n")[0]
    said = _damaged(folder, f"{type(error).__name__}: {said}")
    raise ValueError(said) from error


def _damaged(folder, found):
  if _exists(folder):
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
