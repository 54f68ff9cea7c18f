"""What a run writes is in its bucket: all of it, at the right time."""

import os
import pathlib

import pytest

from pg.log import mirror
from tests.support import google_storage

store = google_storage.store
URL = "gs://bucket/runs/a"


def names(store):
  return {name: data for name, (data, _) in store.objects.items()}


def test_a_folder_on_this_machine_is_itself(tmp_path):
  with mirror.open(str(tmp_path), hold=True) as workdir:
    assert workdir == str(tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_what_is_written_goes_to_the_bucket_and_comes_back(store, tmp_path):
  with mirror.open(URL, hold=True) as workdir:
    assert str(workdir) == URL and pathlib.Path(workdir).name == "a"
    pathlib.Path(workdir, "metrics.jsonl").write_text("1\n")
    pathlib.Path(workdir, "predictions").mkdir()
    pathlib.Path(workdir, "predictions/a.jsonl").write_text("x\n")
    pathlib.Path(workdir, ".half.partial").write_text("no")
    here = os.fspath(workdir)
  assert names(store) == {
    "runs/a/metrics.jsonl": b"1\n",
    "runs/a/predictions/a.jsonl": b"x\n",
  }
  assert not os.path.exists(here)
  store.put("runs/a/checkpoints/1/state/d/0", b"large")
  store.put("runs/a/metrics.jsonl", b"2\n")  # by another machine
  with mirror.open(URL) as workdir:
    folder = pathlib.Path(workdir)
    assert (folder / "metrics.jsonl").read_text() == "2\n"
    assert (folder / "predictions/a.jsonl").read_text() == "x\n"
    assert not (folder / "checkpoints").exists()
  assert ("GET", "runs/a/checkpoints/1/state/d/0") not in store.asked


def test_what_a_killed_run_left_on_this_machine_does_not_count(store, tmp_path):
  with mirror.open(URL) as workdir:
    here = pathlib.Path(workdir)
  here.mkdir(parents=True)
  (here / "metrics.jsonl").write_text("of a killed run")
  with mirror.open(URL) as workdir:
    assert pathlib.Path(workdir) == here
    assert list(here.iterdir()) == []
  assert names(store) == {}


def test_two_that_live_have_a_folder_each(store):
  with mirror.open(URL) as first, mirror.open(URL) as second:
    assert os.fspath(first) != os.fspath(second)


def test_only_what_has_changed_is_uploaded(store):
  with mirror.open(URL) as workdir:
    pathlib.Path(workdir, "a").write_text("1")
    pathlib.Path(workdir, "b").write_text("1")
    mirror.pusher(workdir)()
    pathlib.Path(workdir, "b").write_text("12")
    store.asked.clear()
    mirror.pusher(workdir)()
    assert [name for _, name in store.asked if "runs" in name] == ["runs/a/b"]


def test_it_is_uploaded_every_now_and_then(store, monkeypatch):
  monkeypatch.setattr(mirror, "PERIOD", 0.02)
  with mirror.open(URL) as workdir:
    pathlib.Path(workdir, "a").write_text("1")
    for _ in range(500):
      if "runs/a/a" in store.objects:
        break
      mirror.time.sleep(0.01)
    assert names(store) == {"runs/a/a": b"1"}


def test_an_error_of_the_run_comes_after_its_last_lines(store):
  with pytest.raises(FloatingPointError), mirror.open(URL) as workdir:
    pathlib.Path(workdir, "a").write_text("1")
    raise FloatingPointError
  assert names(store) == {"runs/a/a": b"1"}


def test_what_the_bucket_refuses_at_the_end_is_kept_and_named(store, tmp_path):
  with pytest.raises(OSError, match="403|Forbidden") as error:
    with mirror.open(URL) as workdir:
      pathlib.Path(workdir, "scores.json").write_text("{}")
      store.failures.append(["POST runs/a/scores.json", 403, 99])
  said = str(error.value)
  assert said.startswith(f"cannot write {URL}/scores.json: OSError Forbidden")
  assert "this login may not do that" in said
  kept = pathlib.Path(said.rpartition(" is in ")[2])
  assert (kept / "scores.json").read_text() == "{}"


@pytest.mark.parametrize("hold", [True, False])
def test_a_bucket_that_cannot_be_written_is_named_before_the_work(store, hold):
  store.failures.append(["POST", 403, 99])
  with pytest.raises(OSError, match="cannot write .*runs/a/.*it has to list"):
    with mirror.open(URL, hold=hold):
      raise AssertionError


def test_a_file_that_says_that_all_is_there_comes_last(store):
  with mirror.out("gs://bucket/x/new", is_new=True) as path:
    folder = pathlib.Path(path, "checkpoints/0/state")
    folder.mkdir(parents=True)
    for name in ("config.json", "checkpoints/0/commit_success.txt"):
      pathlib.Path(path, name).write_text("")
    for name in ("commit_success.txt", "z"):
      (folder / name).write_text("")
  written = [name for method, name in store.asked if method == "POST"]
  assert written[-3:] == [
    "x/new/checkpoints/0/state/commit_success.txt",
    "x/new/checkpoints/0/commit_success.txt",
    "x/new/config.json",
  ]


def test_a_file_in_a_bucket_is_continued_and_a_new_thing_is_new(store):
  store.put("x/answers.jsonl", b"1\n")
  with mirror.out("gs://bucket/x/answers.jsonl") as path:
    with open(path, "a") as f:
      f.write("2\n")
  assert names(store) == {"x/answers.jsonl": b"1\n2\n"}
  with pytest.raises(ValueError, match="answers.jsonl exists; remove it"):
    with mirror.out("gs://bucket/x/answers.jsonl", is_new=True):
      pass
