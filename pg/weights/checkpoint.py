"""Checkpoints of a training run: which one is meant, and its parameters.

Orbax writes them in the background, see saver.py.

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

import functools
import os
import warnings

import jax
import numpy as np
from jax.experimental import multihost_utils

from pg import tree
from pg.data.storage import bucket
from pg.weights import checksums, content, folders, resize

# What may be wanted of a run: its best checkpoint, or averaged parameters.
CHOICES = ("best", "ema")


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
      _verify_for_all(folders.readable(folder))
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
  path = folders.absolute(path)
  is_step = path.match("checkpoints/[0-9]*")
  if folders.is_complete(path) or is_step and folders.exists(path):
    return [path]
  for folder in (path / "checkpoints", path):
    if saved := folders.steps(folder):
      if bucket.is_bucket(folder):  # the others may be being written
        return [folder / str(step) for step in reversed(saved)]
      return folders.newest_first(folder)
  raise ValueError(
    f"no checkpoint in {path}; wanted the workdir of a run that has saved one,"
    " its checkpoints/ or one folder in there"
  )


def _best_of(path):
  """Returns the folder of a run's best checkpoint by its own `best`."""
  whole = [f for f in _candidates(path) if folders.is_complete(f)]
  metas = {f: content.meta(folders.readable(f)) for f in whole}
  best = metas[whole[0]].get("run", {}).get("best", "") if whole else ""
  values = {int(f.name): score(best, meta) for f, meta in metas.items()}
  if not best or (step := best_step(values)) is None:
    raise ValueError(
      f"{path} has no best checkpoint: its run kept none by a score"
      f" (config.best is {best!r}), or none of them was scored"
    )
  return next(f for f in whole if f.name == str(step))


def workdir_of(path):
  """Returns the run's folder that a checkpoint path is in, or is."""
  return str(_candidates(path)[0].parent.parent)


def meta(path):
  """Returns the dict that was saved with a checkpoint; see `find`."""
  return content.meta(folders.readable(find(path)))


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
  folder = folders.readable(find(path))
  stored = content.arrays(folder)
  names = parameters(path, stored)
  stored = {f"params/{k}": stored[name] for k, name in names.items()}
  wanted = stored
  if abstract is not None:
    wanted = content.flat({"params": abstract})
    content.check(wanted, stored, folder, dtypes=False)
  names = {k: names[k.removeprefix("params/")] for k in wanted}
  found = tree.flatten(
    content.restore(folder, {name: wanted[k] for k, name in names.items()})
  )
  return tree.unflatten({k: found[name] for k, name in names.items()})["params"]


def restore_opt(path, abstract):
  """Reads the optimizer's state alone.

  Args:
    path: as in `find`.
    abstract: pytree of `jax.ShapeDtypeStruct` with shardings; counts of steps
      may be missing in it. What is kept for position embeddings is resized as
      these are.

  Raises:
    ValueError: no checkpoint, or one of another optimizer or model; every
      difference is listed.
  """
  folder = folders.readable(find(path))
  stored = {
    k: v for k, v in content.arrays(folder).items() if k.startswith("opt/")
  }
  wanted = content.flat({"opt": abstract})
  known = lambda name: name in wanted or not name.endswith("/count")
  stored = {k: v for k, v in stored.items() if known(k)}
  grids = {
    k: stored[k] for k in wanted if _is_grid(wanted[k], stored.get(k), k)
  }
  content.check(wanted | grids, stored, folder, dtypes=True)
  found = tree.flatten(content.restore(folder, wanted | grids))
  for name in grids:
    leaf = wanted[name]
    array = resize.position_embedding(found[name], leaf.shape[1])
    found[name] = jax.make_array_from_callback(
      leaf.shape, leaf.sharding, array.astype(leaf.dtype).__getitem__
    )
  leaves = [found[name] for name in wanted]
  return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _is_grid(wanted, stored, name):
  """Returns whether an array is one of position embeddings of another size."""
  if stored is None or not name.endswith(f"/{resize.POSITIONS}"):
    return False
  old, new = tuple(stored.shape), wanted.shape
  return len(old) == len(new) == 3 and old[::2] == new[::2] and old != new


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


@functools.cache  # a verb asks for the same checkpoint a few times
def verify(folder):
  """Raises ValueError naming the damaged files of a checkpoint, if any.

  Of one without checksums only what describes its arrays is read.
  """
  found = checksums.damage(folder)
  if not folders.is_complete(folder):
    found = [f"{folders.COMMIT}: missing"]
  elif checksums.FILE not in folders.listed(folder):
    content.arrays(folder), content.meta(folder)
  if found:
    raise ValueError(content.damaged(folder, "; ".join(tree.some(found))))


def _verify_for_all(folder):
  """Verifies a checkpoint in the first process of a job; tells the others."""
  if jax.process_count() == 1:
    return verify(folder)
  said = ""
  if jax.process_index() == 0:
    try:
      verify(folder)
    except ValueError as error:
      said = str(error)
  said = np.frombuffer(said.encode()[:4096].ljust(4096), np.uint8)
  said = multihost_utils.broadcast_one_to_all(said).tobytes()
  if said.strip():
    raise ValueError(said.decode(errors="replace").strip())


def score(best, meta):
  """Returns a score, the larger the better; -inf where there is none."""
  value = meta.get("scores", {}).get(best.removeprefix("-"), np.nan)
  value = -value if best.startswith("-") else value
  return -np.inf if np.isnan(value) else value


def best_step(values):
  """Returns the newest step with the largest value; None where none has one."""
  step = max(values, key=lambda step: (values[step], step), default=None)
  return step if step is not None and values[step] > -np.inf else None
