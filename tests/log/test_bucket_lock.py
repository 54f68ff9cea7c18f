"""Of two runs on one workdir in a bucket the second is refused."""

import json
import os
import re
import subprocess
import threading

import pytest

from pg.log import bucket_lock
from tests.support import google_storage

store = google_storage.store
URL = "gs://bucket/runs/a"
NAME = "runs/a/.lock"


def refused():
  with pytest.raises(ValueError) as error, bucket_lock.hold(URL):
    pass
  return str(error.value)


@pytest.fixture
def elsewhere(monkeypatch):
  """Leaves the lock of a run on another machine, which may live or not."""
  monkeypatch.setattr(bucket_lock, "BEAT", 0.05)
  monkeypatch.setattr(bucket_lock, "PATIENCE", 0.4)
  lines = ["host there, process 7, since 2026", "boot/pid:[1] 7", "f00", "3"]
  return lambda store: store.put(NAME, "\n".join(lines).encode())


def test_a_second_run_is_refused_until_the_first_has_ended(store, elsewhere):
  with bucket_lock.hold(URL):
    said = refused()
    pattern = f"{URL} is in use by another run .host .*, process {os.getpid()},"
    assert re.match(pattern, said)
  assert NAME not in store.objects
  with bucket_lock.hold(URL):
    assert NAME in store.objects


def test_the_bucket_decides_who_of_many_that_begin_at_once_is_first(store):
  results, barrier, done = [], threading.Barrier(8), threading.Event()

  def begin():
    lock = bucket_lock._Lock(f"{URL}/.lock", URL)
    barrier.wait()
    results.append(lock._write(None))

  threads = [threading.Thread(target=begin) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  done.set()
  assert sorted(results) == [False] * 7 + [True]


def test_a_run_on_another_machine_is_seen_by_its_beat(store, elsewhere, capsys):
  elsewhere(store)
  ended = threading.Event()

  def beat():
    while not ended.wait(0.05):
      elsewhere(store)

  thread = threading.Thread(target=beat)
  thread.start()
  try:
    assert "(host there, process 7, since 2026); stop that one" in refused()
  finally:
    ended.set()
    thread.join()
  said = capsys.readouterr().err
  assert f"whether the run in {URL} still lives: host there, process 7" in said


def test_a_dead_run_is_taken_over_and_its_lock_too(store, elsewhere):
  elsewhere(store)
  with bucket_lock.hold(URL):
    assert f"process {os.getpid()}" in store.objects[NAME][0].decode()
  assert NAME not in store.objects


def test_of_two_who_take_over_a_dead_run_one_does(store, elsewhere):
  elsewhere(store)
  first, second = (bucket_lock._Lock(f"{URL}/.lock", URL) for _ in range(2))
  version = first._read()[1]
  assert first._write(version)
  assert not second._write(version)


def test_a_killed_process_of_this_machine_is_in_nobodys_way(store, capsys):
  child = subprocess.Popen(["true"])
  child.wait()
  gone = child.pid
  machine = f"{bucket_lock._machine()} {gone}"
  content = "\n".join([f"host here, process {gone}", machine, "f00", "1"])
  store.put(NAME, content.encode())
  with bucket_lock.hold(URL):
    assert f"process {os.getpid()}" in store.objects[NAME][0].decode()
  assert "watching" not in capsys.readouterr().err


def test_a_run_whose_workdir_was_taken_ends(store, elsewhere, monkeypatch):
  ended = threading.Event()
  status = []

  def end(code):
    status.append(code)
    ended.set()
    threading.Event().wait(0.5)  # it does not return

  monkeypatch.setattr(os, "_exit", end)
  with bucket_lock.hold(URL):
    store.put(NAME, b"host there\nx 1\nf00\n1")
    assert ended.wait(10)
  assert status == [1]
  assert NAME in store.objects  # that of the other one stays


def test_a_beat_whose_answer_was_lost_is_a_beat(store):
  lock = bucket_lock._Lock(f"{URL}/.lock", URL)
  lock.acquire()
  before = lock._version
  lock._beats += 1  # what the lost one wrote
  store.put(NAME, "\n".join([*lock._lines, str(lock._beats)]).encode())
  lock._beats -= 1
  assert lock._write(before) and lock._version != before


def test_beats_are_new_content_of_the_same_owner(store, elsewhere):
  lock = bucket_lock._Lock(f"{URL}/.lock", URL)
  lock.acquire()
  first = store.objects[NAME][0]
  assert lock._write(lock._version)
  assert store.objects[NAME][0] != first
  assert json.dumps(store.objects[NAME][0].decode()).count("host ") == 1
