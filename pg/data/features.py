"""What a frozen image tower makes of images: computed once, then kept.

A batch comes with pixels and goes on with features in their place, which
models/paligemma.py takes as well. They are kept by what an image is when the
model sees it: rows that share one share them, and a change is never missed.
Each process keeps those of its own rows; several can have one folder.
"""

import contextlib
import hashlib
import os
import zlib
from concurrent import futures

import numpy as np

from pg import atomic
from pg.pp import parse

# The projector may be trained: features are what it takes.
PROJECTOR = "img/head/"


def check(where, data, trained):
  """Sees that features stay what they are, and can be kept.

  Args:
    where: str, "memory" or a folder, which is made.
    data: tuple of pipeline.Dataset, of training.
    trained: names of parameters that are trained, or adapted.

  Raises:
    ValueError: the tower is trained, an op makes other images each time, or the
      folder is on another machine.
    OSError: it cannot be written.
  """
  for name in trained:
    if name.startswith("img/") and PROJECTOR not in name:
      raise ValueError(
        "input.cache_images keeps what the image tower makes of an image, but"
        f" {name} is trained; freeze the tower, config.schedule ="
        ' (("img/.*", None), ...), or take cache_images = ""'
      )
  for dataset in data:
    (steps,) = dataset.pp.args
    if random := parse.random_images(steps):
      raise ValueError(
        "input.cache_images keeps what the image tower makes of an image, but"
        f" {random[0]} of {dataset.name} makes another one each time; leave it"
        ' out, or take cache_images = ""'
      )
  if where != "memory":
    atomic.check(os.path.join(where, "features"))


class Memory:
  """Features by key in memory, as many as a budget lets."""

  def __init__(self, budget):
    """Starts empty; `budget` is a cache.Budget."""
    self._budget, self._kept = budget, {}

  def get(self, key):
    return self._kept.get(key)

  def put(self, key, value):
    with self._budget.lock:
      if value.nbytes <= self._budget.left:
        self._budget.left -= value.nbytes
        self._kept[key] = value.copy()  # not all that were made with it


class Folder:
  """Features by key in files; one that is not whole is not there."""

  def __init__(self, path, probe):
    """Opens what a tower has made before.

    Args:
      path: str, a folder; each tower has its own in it.
      probe: [I, D], what it makes of an image that is always the same.
    """
    self._shape, self._dtype, self._size = (
      probe.shape,
      probe.dtype,
      probe.nbytes,
    )
    text = f"{probe.dtype} {probe.shape} ".encode()
    self._path = os.path.join(path, _key(text + probe.tobytes()))

  def get(self, key):
    try:
      with open(self._name(key), "rb") as f:
        data = f.read()
    except FileNotFoundError:
      return None
    content = data[: self._size]
    # Nothing waits for the disk: after a power cut a file may be hollow.
    if data != content + _checksum(content) or len(content) < self._size:
      return None
    return np.frombuffer(content, self._dtype).reshape(self._shape)

  def put(self, key, value):
    content = value.tobytes()
    data = content + _checksum(content)
    atomic.write(self._name(key), data, sync=False)

  def _name(self, key):
    return os.path.join(self._path, key[:2], key)


def _checksum(content):
  return zlib.crc32(content).to_bytes(4, "little")


def _key(content):
  return hashlib.blake2b(content, digest_size=16).hexdigest()


def embedded(batches, kept, compute, num_threads):
  """Yields batches whose images are features [b, M, I, D].

  Args:
    batches: a generator of (rows, ...), this process' share.
    kept: Memory or Folder.
    compute: function from u8[n, R, R, 3] to [n, I, D], for what is not kept.
    num_threads: int, that read and write.

  Raises:
    OSError: what is new cannot be kept, as on a full disk.
  """
  with (
    contextlib.closing(batches),
    futures.ThreadPoolExecutor(num_threads) as p,
  ):
    for rows, *rest in batches:
      pixels = rows["image"]
      images = pixels.reshape(-1, *pixels.shape[2:])
      keys = list(p.map(_key, images))
      by_key = dict(zip(keys, images))
      found = dict(zip(by_key, p.map(kept.get, by_key)))
      new = {k: by_key[k] for k, value in found.items() if value is None}
      if new:
        made = compute(np.stack([*new.values()]))
        list(p.map(kept.put, new, made))
        found |= zip(new, made)
      features = np.stack([found[k] for k in keys])
      shape = *pixels.shape[:2], *features.shape[1:]
      yield rows | {"image": features.reshape(shape)}, *rest
