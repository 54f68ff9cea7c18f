"""Folders of checkpoints, here and in buckets: which of them are whole."""

import hashlib
import os
import shutil

import jax
from etils import epath

from pg.data.storage import bucket, index, remote

PARTIAL = ".orbax-checkpoint-tmp"  # in a name, Orbax's mark of a partial one
COMMIT = "commit_success.txt"  # Orbax writes it last


def absolute(path):
  """Returns an epath.Path that does not depend on where this process is."""
  path = os.fspath(path)
  return (
    epath.Path(path) if bucket.is_bucket(path) else epath.Path(path).resolve()
  )


def listed(folder):
  """Returns {name: whether it is a folder}; {} where there is no folder."""
  if bucket.is_bucket(folder):
    return bucket.children(str(folder))
  if not folder.is_dir():
    return {}
  return {path.name: path.is_dir() for path in folder.iterdir()}


def exists(folder):
  """Says whether there is anything of a folder."""
  is_there = bucket.children if bucket.is_bucket(folder) else os.path.exists
  return bool(is_there(str(folder)))


def newest_first(folder):
  """Returns the folders of all steps, complete or not, the newest first."""
  found = listed(folder).items()
  names = [name for name, is_folder in found if is_folder and name.isdigit()]
  return [folder / name for name in sorted(names, key=int, reverse=True)]


def steps(folder):
  """Returns the sorted steps with a complete checkpoint in `checkpoints/`."""
  found = newest_first(epath.Path(folder))
  return sorted(int(p.name) for p in found if is_complete(p))


def is_complete(folder):
  """Says whether a checkpoint was written to its end."""
  return COMMIT in listed(folder)


def partial(folder):
  """Returns what was being written or deleted in `checkpoints/` at a kill."""
  found = [folder / name for name in listed(folder) if PARTIAL in name]
  if bucket.is_bucket(folder):
    found += [p for p in newest_first(folder) if not is_complete(p)]
  return found


def delete(folder):
  """Deletes a folder that has no step's name, or is in a bucket."""
  if not bucket.is_bucket(folder):
    return folder.rmtree()
  bucket.remove(f"{folder}/{COMMIT}")
  bucket.remove(str(folder))


def move(folder, target):
  """Renames a folder, or what is in one of a bucket."""
  if bucket.is_bucket(folder):
    bucket.move(str(folder), str(target))
  else:
    folder.rename(target)


def transit(folder):
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
