"""Writes that a kill or a full disk leaves undone, never half done.

What is written has a temporary name beside its target until it is complete.
"""

import contextlib
import os
import re
import shutil
import tempfile
import time
import uuid

_URL = re.compile(r"[A-Za-z][\w+.-]+:/")


@contextlib.contextmanager
def replacing(path, *, sync=True):
  """Yields a temporary path; the file or folder written there becomes `path`.

  An exception in the block removes it and leaves what was at `path`.

  Args:
    path: str or path; its folder is made. A folder cannot replace another one.
    sync: bool, whether to wait for the disk, so that not even a power cut
      leaves a file without its content; not worth it for a cache.

  Raises:
    ValueError: it is the name of something on another machine.
    OSError: it cannot be written; the error names a file.
  """
  _check_here(path)
  folder, name = os.path.split(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  # Processes and threads may write the same file at the same time.
  partial = os.path.join(folder, f".{name[:200]}.{uuid.uuid4().hex}.partial")
  try:
    with named(path):
      yield partial
      if sync:
        _sync_all(partial)
      os.replace(partial, path)
      if sync:
        _sync(folder)
  finally:
    _remove(partial)


@contextlib.contextmanager
def named(path):
  """Names a file in an OSError that has no name, as that of a full disk."""
  try:
    yield
  except OSError as error:
    if error.errno and not error.filename:
      error.filename = os.fspath(path)
    raise


def is_url(path):
  """Says whether a name is no file's here, as gs://bucket and gs:/bucket."""
  return bool(_URL.match(str(path)))


def check(path):
  """Sees that a file can be written, before a long work; makes its folder.

  Raises:
    ValueError: it is not to be here.
    OSError: it cannot.
  """
  _check_here(path)
  if os.path.isdir(path):
    raise IsADirectoryError(f"{path} is a folder; name a file in it")
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  try:
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    error.filename = os.fspath(path)  # not the temporary file's
    raise


def check_folder(path):
  """Sees that results can go into a folder, which need not be there yet.

  Raises:
    ValueError: no name, or that of a file.
  """
  if not os.fspath(path).strip():
    raise ValueError(f"--workdir {path!r}: wanted the name of a folder")
  _check_here(path)
  if os.path.exists(path) and not os.path.isdir(path):
    raise ValueError(f"--workdir {path} is a file: wanted a folder")


def _check_here(path):
  """Raises ValueError before a folder is made that is called "gs:"."""
  if is_url(os.fspath(path)):
    raise ValueError(f"{path}: wanted a file or a folder on this machine")


def write(path, content, *, sync=True):
  """Writes a file of text (in UTF-8) or bytes; the rest is as `replacing`."""
  with replacing(path, sync=sync) as partial, open(partial, "wb") as f:
    f.write(content.encode() if isinstance(content, str) else content)


def append(path, lines):
  """Appends lines to a file: all of them or, on an error, none.

  Its folder is made. They begin a line of their own after a torn one.

  Args:
    path: str or path.
    lines: bytes.
  """
  _check_here(path)
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  with named(path), open(path, "ab+", buffering=0) as f:
    if end := f.seek(0, os.SEEK_END):
      f.seek(-1, os.SEEK_END)
      lines = lines if f.read(1) == b"\n" else b"\n" + lines
    try:
      # A nearly full disk takes a part of them before it refuses the rest.
      while lines:
        lines = lines[f.write(lines) :]
    except OSError:
      f.truncate(end)
      raise


def _sync_all(path):
  for folder, _, files in os.walk(path):
    for name in files:
      _sync(os.path.join(folder, name))
  _sync(path)


def _sync(path):
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _remove(path):
  if not os.path.isdir(path):
    return os.path.lexists(path) and os.remove(path)
  for attempt in range(50):
    try:
      return shutil.rmtree(path)
    except OSError:  # a thread of TensorStore still writes into it
      if attempt == 49:
        raise
      time.sleep(0.1)
