"""A folder here in place of one in a bucket, for all of a run but checkpoints.

What a run writes (metrics, TensorBoard events, predictions, bad rows, reports)
are small files that grow line by line, which a bucket does not know. They are
written to a folder in `$PG_CACHE/workdirs`, and those that changed are uploaded
whole: every half a minute, before each checkpoint is complete, and at the end.
So a checkpoint is never ahead of what was logged. At the start they come from
the bucket; what an earlier run left in the folder here does not count.
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import posixpath
import shutil
import threading
import time

import jax

from pg import atomic, progress
from pg.data.storage import bucket, index
from pg.log import bucket_lock

PERIOD = 30.0  # seconds between two uploads, or more if they take long
_SHARE = 0.1  # of the time, at most, that uploads take
_ELSEWHERE = "checkpoints"  # pg/weights/saver.py has them in the bucket
# What says that all the rest is there comes last, that of the whole folder very
# last.
_MARKS = ("commit_success.txt", "config.json")


class Mirror(os.PathLike):
  """A path of the folder here; as a str the name that it has in the bucket."""

  def __init__(self, url, folder):
    self._url, self._folder = url, folder
    self._known = {}  # name -> size and time of change when it was uploaded
    self._uploading = threading.Lock()

  def __fspath__(self):
    return self._folder

  def __str__(self):
    return self._url

  def fetch(self):
    """Downloads all files but checkpoints: what the bucket has counts."""
    first = jax.process_index() == 0
    for name, is_folder in bucket.children(self._url).items():
      if name.startswith(".") or name == _ELSEWHERE:
        continue
      names = [name]
      if is_folder:  # predictions and such, which the first process writes
        inside = bucket.files(f"{self._url}/{name}") if first else ()
        names = [f"{name}/{x}" for x in inside]
      bucket.each(self._fetch, names)
    self._known = self._found()

  def _fetch(self, name):
    path = os.path.join(self._folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    bucket.download(f"{self._url}/{name}", path)

  def _found(self):
    """Returns {name: (size, time of change)} of the files here."""
    found = {}
    for folder, inside, names in os.walk(self._folder):
      # Locks, and what is half written.
      inside[:] = [name for name in inside if not name.startswith(".")]
      for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
          status = os.stat(path)
          if not name.startswith("."):
            name = posixpath.relpath(path, self._folder)
            found[name] = status.st_size, status.st_mtime_ns
    return found

  def push(self):
    """Uploads what has changed since the last time.

    Raises:
      OSError: the bucket did not take it; the next time it is tried again.
    """
    with self._uploading:
      found = self._found()
      changed = [k for k, v in found.items() if self._known.get(k) != v]
      marks = [name for name in changed if name.endswith(_MARKS)]
      bucket.each(self._push, [name for name in changed if name not in marks])
      for name in sorted(marks, key=lambda name: -name.count("/")):
        self._push(name)
      self._known = found

  def _push(self, name):
    bucket.upload(os.path.join(self._folder, name), f"{self._url}/{name}")

  def keep_pushing(self, ended):
    """Uploads now and then, until an event; a failure is said, once."""
    pause, failed = PERIOD, False
    while not ended.wait(pause):
      start = time.monotonic()
      try:
        self.push()
        failed = False
      except OSError as error:
        if not failed:
          progress.say(f"warning: {error}; the run goes on, and tries it again")
        failed = True
      pause = max(PERIOD, (time.monotonic() - start) / _SHARE)


def pusher(workdir):
  """Returns the function that uploads what has changed in a workdir."""
  return workdir.push if isinstance(workdir, Mirror) else lambda: None


@contextlib.contextmanager
def open(workdir, *, hold=False):  # noqa: A001, it is mirror.open
  """Yields where a run's files are to be written: a Mirror for a bucket.

  Args:
    workdir: str, a folder here, which is yielded, or one in a bucket.
    hold: bool, whether other runs are kept out of a bucket's meanwhile.

  Raises:
    ValueError: a name that means nothing, or another run holds the folder.
    OSError: the bucket refuses to be read, or what was written last.
  """
  if not atomic.is_url(workdir):
    yield workdir
    return
  url = bucket.check(workdir)
  if not hold:
    bucket.check_writable(url)
  with bucket_lock.hold(url) if hold else contextlib.nullcontext():
    with _mirror(url) as mirror:
      mirror.fetch()
      with _pushing(mirror):
        yield mirror


@contextlib.contextmanager
def out(path, *, is_new=False):
  """Yields where a file or a folder is to be written that may be in a bucket.

  It goes there as a run's files do. A file that is there is downloaded first.

  Args:
    path: str, or None, which is yielded.
    is_new: bool, whether nothing may be there yet.

  Raises:
    ValueError: a name that means nothing, or something is there.
    OSError: the bucket refuses it.
  """
  if not path or not atomic.is_url(path):
    yield path
    return
  folder, name = posixpath.split(bucket.check(path))
  found = bucket.children(folder)
  if name in found and is_new:
    raise ValueError(f"{path} exists; remove it or choose another name")
  bucket.check_writable(folder)
  with _mirror(folder) as mirror:
    target = os.path.join(mirror, name)
    if found.get(name) is False:
      bucket.download(path, target)
    with _pushing(mirror):
      yield target


@contextlib.contextmanager
def _pushing(mirror):
  ended = threading.Event()
  thread = threading.Thread(
    target=mirror.keep_pushing, args=(ended,), daemon=True
  )
  thread.start()
  try:
    yield
  except BaseException:
    ended.set()
    try:
      _end(mirror)
    except OSError as error:
      progress.say(f"warning: {error}")
    raise
  ended.set()
  _end(mirror)


def _end(mirror):
  """Uploads the last changes; keeps them here where that fails."""
  try:
    mirror.push()
  except OSError as error:
    folder = os.fspath(mirror)
    kept = f"{os.path.dirname(folder)}-{time.strftime('%Y%m%d-%H%M%S')}"
    shutil.move(folder, kept)
    raise OSError(f"{error}. What was not uploaded is in {kept}") from error


@contextlib.contextmanager
def _mirror(url):
  """Yields a Mirror with an empty folder, which is removed at the end.

  The folder has the name of the one in the bucket. One that a killed process
  left is emptied.
  """
  key = hashlib.sha256(url.encode()).hexdigest()[:16]
  for i in itertools.count():
    root = index.folder() / "workdirs" / f"{key}{f'-{i}' * bool(i)}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        continue
      folder = root / posixpath.basename(url)
      shutil.rmtree(folder, ignore_errors=True)
      folder.mkdir()
      progress.call(str(folder), url)
      try:
        yield Mirror(url, str(folder))
      finally:
        shutil.rmtree(folder, ignore_errors=True)
      return
