"""Saves and restores the checkpoints of a run, in the background."""

import contextlib
import itertools
import shutil
import warnings
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from pg import tree
from pg.data.storage import bucket
from pg.weights import checkpoint, checksums, content, folders

SMALL = 1 << 28  # bytes of a state that may be on the devices twice
_DAMAGED = "damaged-"  # before the step


class Manager:
  """Saves and restores the train state of one run; one per workdir at a time.

  Every process of the run makes the same calls.

    with saver.Manager(workdir, max_checkpoints=1) as manager:
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
    self._folder = folders.absolute(workdir) / "checkpoints"
    self._max_checkpoints, self._before = max_checkpoints, before
    self._transit = folders.transit(self._folder)
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
      partial = folders.partial(self._folder)
      interrupted = bool(partial)
      for folder in partial:
        folders.delete(folder)
      self._set_aside()
    # bool, whether the run before ended while it saved; the other processes
    # wait here until all is in order.
    self.interrupted = bool(
      multihost_utils.broadcast_one_to_all(np.int32(interrupted))
    )
    bad = sorted(
      x for x in folders.listed(self._folder) if x.startswith(_DAMAGED)
    )
    if bad and self.latest() is None:
      raise ValueError(
        f"{self._folder} has no good checkpoint left, only {', '.join(bad)}."
        " Copy one there, named by its step; to start anew, remove them or use"
        " another workdir"
      )
    self._best, self._values = best, {}  # step -> the score
    if best:
      for step in folders.steps(self._folder):
        self._values[step] = checkpoint.score(best, self.meta(step))

  def is_best(self, meta):
    """Returns whether a checkpoint with a meta would be the best of all."""
    value = checkpoint.score(self._best, meta)
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
    if step in folders.steps(self._folder):
      raise ValueError(
        f"{self._folder} has a checkpoint of step {step}; remove it or use"
        " another workdir"
      )
    self._values[step] = checkpoint.score(self._best, meta)
    flat = content.flat(state)
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
    args = {name: content.save_args(name, leaf) for name, leaf in flat.items()}
    self._saver.save(
      self._saving,
      ocp.args.Composite(
        state=ocp.args.PyTreeSave(tree.unflatten(flat), tree.unflatten(args)),
        meta=ocp.args.JsonSave(meta),
      ),
    )

  def latest(self):
    """Returns the newest step with a complete checkpoint, None without one."""
    return max(folders.steps(self._folder), default=None)

  def meta(self, step):
    """Returns the dict that was saved with the state of a step."""
    return content.meta(self._near(step))

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
    if step not in folders.steps(self._folder):
      raise ValueError(
        f"no checkpoint of step {step} in {self._folder}; there are"
        f" {folders.steps(self._folder)}"
      )
    near = self._near(step)
    if jax.process_index() == 0:
      checkpoint.verify(near)
    wanted, stored = content.flat(abstract), content.arrays(near)
    content.check(wanted, stored, folder, dtypes=True)
    restored = tree.flatten(content.restore(near, wanted))
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
      saved = folders.steps(self._folder)
      best = checkpoint.best_step(
        {k: v for k, v in self._values.items() if k in saved}
      )
      for step in saved[: -self._max_checkpoints]:
        if step == best:
          continue
        old = self._folder / str(step)
        if not bucket.is_bucket(old):
          old = old.rename(f"{old}{folders.PARTIAL}-old")
        folders.delete(old)

  def _near(self, step):
    """Returns a step's folder where Orbax can read it."""
    folder = self._folder / str(step)
    return folders.readable(folder, self._transit) if self._transit else folder

  def _empty_transit(self):
    if self._transit:
      shutil.rmtree(self._transit, ignore_errors=True)

  def _seal(self):
    """Writes checksums; Orbax calls it when all but the commit is done."""
    folder = self._saving
    # In a bucket it has its final name already.
    if not bucket.is_bucket(folder):
      folder = epath.Path(f"{folder}{folders.PARTIAL}")
    checksums.write(folder)
    self._before()
    if self._transit:
      (folder / folders.COMMIT).write_text("")
      there = f"{self._folder}/{self._saving.name}"
      bucket.upload(folder, there, last=[folders.COMMIT])

  def _set_aside(self):
    """Renames what is damaged and newer than the newest good checkpoint."""
    checkpoint.verify.cache_clear()
    for folder in folders.newest_first(self._folder):
      try:
        return checkpoint.verify(self._near(folder.name))
      except ValueError as error:
        first = f"{_DAMAGED}{folder.name}"
        others = (f"{first}-{i}" for i in itertools.count(2))
        names = itertools.chain([first], others)
        there = folders.listed(self._folder)
        name = next(x for x in names if x not in there)
        folders.move(folder, self._folder / name)
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
