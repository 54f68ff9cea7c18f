"""One run per workdir in a bucket: lock.py has the same for folders here.

The object `.lock` says whose the workdir is. Who makes it while there is none
holds it, which the bucket itself decides (`ifGenerationMatch=0` of Google's
storage, `If-None-Match: *` of S3's). Its owner writes it anew every few
seconds, with the number of the beat, as long as it is what the owner wrote
last; who finds no new beat for a while takes it over in the same way, so that
one of two who try has it. An owner of this machine whose process is gone need
not be watched. At the end the object is removed.
"""

import contextlib
import os
import pathlib
import socket
import threading
import time
import uuid

import jax

from pg import progress
from pg.data.storage import bucket

FILE = ".lock"
BEAT, PATIENCE = 10.0, 60.0  # seconds


@contextlib.contextmanager
def hold(url):
  """Keeps other runs out of a workdir.

  Args:
    url: str, the folder in a bucket.

  Raises:
    ValueError: a run that lives holds it.
    OSError: the bucket refuses it.
  """
  if jax.process_index():  # the first process of a run holds it for all
    yield
    return
  lock = _Lock(f"{url}/{FILE}", url)
  lock.acquire()
  threading.Thread(target=lock.beat, daemon=True).start()
  try:
    yield
  finally:
    lock.release()


class _Lock:
  """The object, of which this process knows the version it wrote."""

  def __init__(self, url, workdir):
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    owner = f"host {socket.gethostname()}, process {os.getpid()}, since {since}"
    self._lines = [owner, f"{_machine()} {os.getpid()}", uuid.uuid4().hex]
    self._url, self._workdir, self._beats = url, workdir, 0
    self._version, self._ended = None, threading.Event()
    self._writing = threading.Lock()

  def acquire(self):
    if self._write(None):
      return
    content, version = self._read()
    owner = content.partition("\n")[0]
    if version is not None and not _is_gone(content):
      progress.say(
        f"watching for {PATIENCE:.0f} s whether the run in {self._workdir}"
        f" still lives: {owner}"
      )
      end = time.monotonic() + PATIENCE
      while time.monotonic() < end:
        time.sleep(BEAT / 5)
        if (now := self._read()[1]) != version:
          if now is None:  # it has ended meanwhile
            version = None
            break
          raise ValueError(self._refusal())
    if not self._write(version):
      raise ValueError(self._refusal())

  def beat(self):
    """Shows that this process lives; ends it if another took the workdir."""
    while not self._ended.wait(BEAT):
      with contextlib.suppress(OSError), self._writing:
        if not self._ended.is_set() and not self._write(self._version):
          progress.say(f"error: {self._refusal()}")
          os._exit(1)

  def release(self):
    with self._writing:
      self._ended.set()
      with contextlib.suppress(OSError):  # it is taken over later
        if self._is_mine(self._read()[0]):
          bucket.remove(self._url)

  def _write(self, version):
    """Writes the next beat where the object has a version; says if it had."""
    self._beats += 1
    content = "\n".join([*self._lines, str(self._beats)])
    written = bucket.write_if(self._url, content.encode(), version)
    if written is None:  # or an answer was lost, and the second try too late
      now, there = self._read()
      written = there if now == content else None
    self._version = written or self._version
    return written is not None

  def _read(self):
    """Returns the content and the version, "" and None where there is none."""
    try:
      version = bucket.version(self._url)
      return bucket.read(self._url).decode(), version
    except FileNotFoundError:
      return "", None

  def _is_mine(self, content):
    return content.split("\n")[2:3] == self._lines[2:]

  def _refusal(self):
    owner = self._read()[0].partition("\n")[0]
    return (
      f"{self._workdir} is in use by another run ({owner}); stop that one, or"
      " name another --workdir"
    )


def _machine():
  """Returns what tells this machine, since it started, from all others.

  That is "" where it is not known. A container has processes of its own.
  """
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""


def _is_gone(content):
  """Says whether the owner was a process of this machine, and has ended."""
  machine, _, process = content.split("\n")[1].partition(" ")
  if not machine or machine != _machine():
    return False
  try:
    os.kill(int(process), 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass
  return False
