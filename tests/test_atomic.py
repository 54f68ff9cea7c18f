"""A file or folder is there whole, or what was there before it is."""

import errno
import os
import re
import stat
import threading

import pytest

from pg import atomic


def test_text_and_bytes_are_written_as_they_are(tmp_path):
  path = tmp_path / "made" / "here" / "a.txt"  # folders are made
  atomic.write(path, "größer\n")
  assert path.read_bytes() == "größer\n".encode()
  atomic.write(path, b"\r\n\xff", sync=False)
  assert path.read_bytes() == b"\r\n\xff"
  assert os.listdir(path.parent) == ["a.txt"]


def test_a_path_that_cannot_be_written_is_found_before_the_work(tmp_path):
  atomic.check(tmp_path / "made/here/a.txt")
  assert os.listdir(tmp_path / "made/here") == []
  (tmp_path / "file").touch()
  for wrong in (tmp_path, tmp_path / "file/a.txt"):
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
      atomic.check(wrong)
  with pytest.raises(OSError, match="'/proc/a.txt'"):  # its own name
    atomic.check("/proc/a.txt")


def test_a_full_disk_names_what_could_not_be_written(tmp_path):
  path = tmp_path / "a.txt"
  with pytest.raises(OSError, match=re.escape(f"No space left: '{path}'")):
    with atomic.replacing(path) as part, open(part, "w"):
      raise OSError(errno.ENOSPC, "No space left")


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
  path = tmp_path / "a.txt"
  path.write_text("old")
  with pytest.raises(type(error)), atomic.replacing(path) as part:
    with open(part, "w") as f:
      f.write("new")
    assert os.path.dirname(part) == str(tmp_path)  # a rename needs one disk
    assert path.read_text() == "old"
    raise error
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_gets_its_name_when_all_of_it_is_there(tmp_path):
  path = tmp_path / "folder"
  with pytest.raises(OSError), atomic.replacing(path) as part:
    os.makedirs(f"{part}/inside")
    raise OSError
  assert not os.listdir(tmp_path)
  with atomic.replacing(path) as part:
    os.makedirs(f"{part}/inside")
    with open(f"{part}/inside/a", "w"):
      pass
    assert not path.exists()
  assert [str(p.relative_to(path)) for p in sorted(path.rglob("*"))] == [
    "inside",
    "inside/a",
  ]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
  done, fsync, replace = [], os.fsync, os.replace
  inode = lambda descriptor: os.fstat(descriptor).st_ino
  monkeypatch.setattr(os, "fsync", lambda d: (done.append(inode(d)), fsync(d)))
  monkeypatch.setattr(
    os, "replace", lambda a, b: (done.append("named"), replace(a, b))
  )
  atomic.write(tmp_path / "a", "text")
  where = [os.stat(p).st_ino for p in (tmp_path / "a", tmp_path)]
  assert done == [where[0], "named", where[1]]
  done.clear()
  atomic.write(tmp_path / "a", "text", sync=False)
  assert done == ["named"]


def test_a_file_has_the_permissions_that_others_have(tmp_path):
  atomic.write(tmp_path / "a", "text")
  with open(tmp_path / "b", "w"):
    pass
  modes = [stat.S_IMODE(os.stat(tmp_path / n).st_mode) for n in "ab"]
  assert modes[0] == modes[1]


def test_two_who_write_the_same_file_do_not_mix(tmp_path):
  path, barrier = tmp_path / "a", threading.Barrier(2)

  def write(letter):
    with atomic.replacing(path) as part, open(part, "x") as f:
      barrier.wait(10)
      f.write(letter * 1000)
      f.flush()
      barrier.wait(10)

  threads = [threading.Thread(target=write, args=(x,)) for x in "ab"]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert path.read_text() in ("a" * 1000, "b" * 1000)
  assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ("", " ", "file"))
def test_a_folder_without_a_name_or_that_is_a_file_is_refused(
  name, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="^--workdir .*: wanted"):
    atomic.check_folder(name)
  atomic.check_folder("new")
  atomic.check_folder(".")


@pytest.mark.parametrize("name", ["gs://bucket/a", "gs:/bucket/a", "foo://a/b"])
def test_no_folder_is_made_that_is_called_as_a_bucket(
  tmp_path, monkeypatch, name
):
  monkeypatch.chdir(tmp_path)
  writes = [
    atomic.check,
    atomic.check_folder,
    lambda path: atomic.write(path, "x"),
    lambda path: atomic.append(path, b"x"),
  ]
  for write in writes:
    with pytest.raises(ValueError, match="a file or a folder on this machine"):
      write(name)
  assert list(tmp_path.iterdir()) == []
