"""The command that runs and its commit, as a report states them."""

import subprocess
import sys

from pg import origin
from tests.support import paths


def test_a_command_is_as_one_writes_it(tmp_path, monkeypatch):
  (tmp_path / "verb.py").write_text(
    "from pg import origin\nprint(origin.command())"
  )
  words = ["-m", "verb", "--workdir", "a b", "--init=https://me:secret@host/a"]
  said = subprocess.run(
    [sys.executable, *words],
    cwd=tmp_path,
    env={"PYTHONPATH": f"{paths.ROOT}:{tmp_path}"},
    capture_output=True,
    text=True,
    check=True,
  )
  wanted = "python -m verb --workdir 'a b' --init=https://***@host/a"
  assert said.stdout.strip() == wanted
  monkeypatch.delattr(sys.modules["__main__"], "__spec__")
  assert origin.command() == ""


def test_the_commit_is_that_of_a_clone_and_says_what_has_changed(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(origin, "__file__", str(tmp_path / "pg/origin.py"))
  assert origin.commit() == ""
  git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]

  def run(*words):
    done = subprocess.run([*git, *words], cwd=tmp_path, capture_output=True)
    done.check_returncode()
    return done.stdout.decode().strip()

  (tmp_path / "a").write_text("1")
  run("init")
  run("add", "a")
  run("commit", "-m", "a")
  assert origin.commit() == run("rev-parse", "--short=12", "HEAD")
  (tmp_path / "a").write_text("2")
  assert origin.commit().endswith("-dirty")
