"""A second run on a workdir is refused, and a dead one is in nobody's way."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from unittest import mock

import pytest

from pg.log import lock
from tests.support import paths

HOLD = """
import sys, time
from pg.log import lock
lock.BEAT = 0.1
with lock.hold(sys.argv[1]):
  print("holds", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def first(tmp_path):
  """A process that holds the workdir."""
  child = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)],
    cwd=paths.ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert child.stdout.readline() == "holds\n"
  yield child
  child.kill()
  child.wait()


@pytest.fixture
def elsewhere(monkeypatch):
  """Makes this another machine, where a lock of the first is not seen."""
  monkeypatch.setattr(lock, "_here", lambda: "host elsewhere, ")
  monkeypatch.setattr(fcntl, "flock", lambda *_: None)
  monkeypatch.setattr(lock, "BEAT", 0.05)


def refused(workdir):
  with pytest.raises(ValueError) as error, lock.hold(workdir):
    pass
  return str(error.value)


def test_a_second_run_is_refused_until_the_first_is_killed(first, tmp_path):
  before = (tmp_path / lock.FILE).read_text()
  pattern = f"in use by another run .host .*, process {first.pid}, since 2.*--w"
  assert re.search(pattern, refused(tmp_path))
  assert (tmp_path / lock.FILE).read_text() == before
  first.send_signal(signal.SIGKILL)
  first.wait()
  start = time.monotonic()
  with lock.hold(tmp_path):
    assert f"process {os.getpid()}," in (tmp_path / lock.FILE).read_text()
    assert f"process {os.getpid()}," in refused(tmp_path)
  assert time.monotonic() - start < lock.BEAT
  assert (tmp_path / lock.FILE).read_text() == ""


def test_a_run_on_another_machine_is_seen_by_its_beat(
  tmp_path, elsewhere, monkeypatch, capsys
):
  with lock.hold(tmp_path):
    monkeypatch.setattr(lock, "_here", lambda: "host here, ")
    assert "host elsewhere, process" in refused(tmp_path)
  said = capsys.readouterr().err
  assert "watching for 60 s whether its run still lives: host els" in said


def test_a_run_that_was_killed_on_another_machine_is_waited_for_in_vain(
  tmp_path, elsewhere, monkeypatch
):
  monkeypatch.setattr(lock, "PATIENCE", 0.2)
  (tmp_path / lock.FILE).write_text("host gone, process 7, since 2026")
  with lock.hold(tmp_path):
    assert "host elsewhere, " in (tmp_path / lock.FILE).read_text()


def test_of_two_runs_that_began_at_once_the_first_ends(first, tmp_path):
  (tmp_path / lock.FILE).write_text("host elsewhere, process 7, since 2026")
  _, said = first.communicate(timeout=10)
  assert first.returncode == 1
  assert "is in use by another run (host elsewhere, process 7, since" in said


def test_where_there_are_no_locks_the_beat_is_looked_at(tmp_path, monkeypatch):
  def none(*_):
    raise OSError("No locks available")

  monkeypatch.setattr(fcntl, "flock", none)
  monkeypatch.setattr(lock, "BEAT", 0.05)
  monkeypatch.setattr(lock, "PATIENCE", 0.5)
  with lock.hold(tmp_path):
    assert f"process {os.getpid()}," in refused(tmp_path)
  (tmp_path / lock.FILE).write_text(f"{lock._here()}process 7, since 2026")
  with lock.hold(tmp_path):
    pass


def test_a_full_disk_names_the_lock_and_leaves_it_free(tmp_path, monkeypatch):
  with monkeypatch.context() as m:
    full = OSError(errno.ENOSPC, "No space left on device")
    m.setattr(os, "pwrite", mock.Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left on device: .*.lock"):
      with lock.hold(tmp_path):
        pass
  with lock.hold(tmp_path):
    pass
