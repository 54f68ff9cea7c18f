"""Random access to the members of tar files."""

import functools
import hashlib
import os
import posixpath
import tarfile

import numpy as np

from pg import limits
from pg.data.storage import index

_BROKEN = (tarfile.TarError, ValueError, EOFError)


def read(path, member):
  """Returns the bytes of a member.

  Args:
    path: str, a local tar file that is not compressed.
    member: str, its name.

  Raises:
    ValueError: no tar file, broken off, without such a member, or one that is
      too large.
    OSError: it cannot be read.
  """
  start, size = find(path, member)
  limits.check_bytes(size, f"{member} in {path}")
  with open(path, "rb") as f:
    f.seek(start)
    data = f.read(size)
  if len(data) != size:
    raise ValueError(f"{path} is broken off in {member}; copy it again")
  return data


def find(path, member):
  """Returns where a member starts in its file and its size; raises as `read`.

  The file is looked through once; what is found is kept (index.Index).
  """
  status = os.stat(path)
  table = _table(path, status.st_size, status.st_mtime_ns)
  name = _hash(member)
  i = int(np.searchsorted(table[0], name))
  if i == table.shape[1] or table[0, i] != name:
    raise ValueError(f"there is no {member} in {path}")
  start, size = int(table[1, i]), int(table[2, i])
  if size < 0:
    raise ValueError(f"{member} in {path} is sparse: pack it without --sparse")
  return start, size


@functools.lru_cache(maxsize=1 << 12)
def _table(path, size, mtime):
  """Returns hash, start and size, i64[3, members], sorted by hash."""
  return index.Index(write, path).data.view(np.int64).reshape(3, -1)


def write(path, sink):
  """Writes where the members are: i64[3, members], see `_table`.

  The size of one that is stored sparse is -1.
  """
  found = {}
  try:
    with tarfile.open(path, "r:") as tar:
      while member := tar.next():
        tar.members.clear()  # or it keeps them all
        if member.isreg():
          size = -1 if member.issparse() else member.size
          found[_hash(member.name)] = member.offset_data, size
      end = tar.offset
  # A header may claim that a name of exabytes follows.
  except (*_BROKEN, MemoryError, OverflowError) as e:
    raise ValueError(
      f"{path} is no whole tar file ({e}); copy it again. A compressed one"
      " cannot be read at any place: decompress it"
    ) from e
  # tarfile takes what it cannot read for the end.
  with open(path, "rb") as f:
    f.seek(end)
    block = f.read(tarfile.BLOCKSIZE)
  if block != bytes(tarfile.BLOCKSIZE):
    raise ValueError(
      f"{path} is broken off or damaged: at byte {end} is neither a member"
      " nor the end of a tar file; copy it again"
    )
  table = sorted((name, *place) for name, place in found.items())
  table = np.array(table, np.int64).reshape(-1, 3)
  sink.write(np.ascontiguousarray(table.T).tobytes())


def _hash(name):
  """Returns 64 bits of a member's name, however it is written."""
  name = posixpath.normpath(name).encode(errors="surrogateescape")
  digest = hashlib.blake2b(name, digest_size=8).digest()
  return int.from_bytes(digest, "little", signed=True)
