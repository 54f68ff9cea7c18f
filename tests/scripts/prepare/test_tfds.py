"""Datasets are prepared here, or in a second environment with TensorFlow."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile

import pytest

from pg.data.formats import tfds as source
from scripts.prepare import tfds
from tests.support import records, web

# What TensorFlow Datasets 4.9.10 uses of it for a dataset in a zip file.
TENSORFLOW = """
__version__ = "2.99.0"
class Tensor: ...
class RaggedTensor: ...
class compat:
  as_text = str
class io:
  class gfile:
    GFile = open
"""
NUM = 5


@pytest.fixture
def archive(tmp_path):
  """Yields the URL of an archive of images; there is also a `more.zip`."""
  (tmp_path / "web").mkdir()
  for name in ("images", "more"):
    with zipfile.ZipFile(tmp_path / f"web/{name}.zip", "w") as f:
      for i in range(NUM):
        f.writestr(f"{i}.png", records.png(i))
  with web.serve(tmp_path / "web") as (url, _):
    yield f"{url}/images.zip"


def builder(path, archive=None):
  """Writes a file with a builder, of images from an archive or made by it."""
  path.parent.mkdir(exist_ok=True)
  title = path.stem.title().replace("_", "")
  if archive:
    images = f"m.download_and_extract({archive!r})"
    image = 'images / f"{i}.png"'
  else:
    images, image = "None", f"io.BytesIO({records.png(7)!r})"
  path.write_text(
    textwrap.dedent(f"""
      import io
      import tensorflow_datasets as tfds

      class {title}(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
          kinds = dict(
            image=tfds.features.Image(encoding_format="png"),
            question=tfds.features.Text(),
          )
          features = tfds.features.FeaturesDict(kinds)
          return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, m):
          return dict(train=self._generate_examples({images}))

        def _generate_examples(self, images):
          for i in range({NUM}):
            yield i, dict(image={image}, question=f"what is {{i}}?")
    """)
  )
  return path


def rows(name, data_dir):
  """Returns the rows of a prepared dataset, by question."""
  made = source.Tfds(name, "train", data_dir=data_dir)
  assert all("array_record" in made.where(i) for i in range(len(made)))
  return {
    row["question"]: row["image"] for row in map(made.__getitem__, range(NUM))
  }


@pytest.fixture
def environment(tmp_path, monkeypatch):
  """Yields commands that were run, in an environment that is not installed.

  Its Python is this one, with the few lines of TENSORFLOW.
  """
  folder = tmp_path / ".venv-tfds"
  (tmp_path / "stub").mkdir()
  (tmp_path / "stub/tensorflow.py").write_text(TENSORFLOW)
  stubs = os.pathsep.join([str(tmp_path / "stub"), *sys.path])
  run, commands = subprocess.run, []

  def fake(command, **options):
    command = [str(word) for word in command]
    commands.append(command)
    if "venv" in command:
      shutil.rmtree(folder, ignore_errors=True)
      (folder / "bin").mkdir(parents=True)
      os.symlink(sys.executable, folder / "bin/python")
      command = ["true"]
    elif "pip" in command:
      command = ["true"]
    return run(command, env={**os.environ, "PYTHONPATH": stubs}, **options)

  monkeypatch.setattr(tfds, "ENVIRONMENT", folder)
  monkeypatch.setattr(subprocess, "run", fake)
  return commands


def main(monkeypatch, *args):
  """Runs the command and returns what it exits with, None without."""
  monkeypatch.setattr(sys, "argv", ["tfds", *map(str, args)])
  monkeypatch.setattr(sys, "path", [*sys.path])
  try:
    tfds.main()
  except SystemExit as e:
    return e.code


@pytest.mark.parametrize("package", [False, True])
def test_what_needs_no_tensorflow_is_prepared_here(
  tmp_path, environment, monkeypatch, capfd, package
):
  path = builder(tmp_path / f"mine_{package}/made_here_{package}.py".lower())
  if package:
    (path.parent / "__init__.py").write_text("X = 1")
    path.write_text(f"from . import X\n{path.read_text()}")
  assert main(monkeypatch, path, "--data-dir", tmp_path / "data") is None
  said = capfd.readouterr().out
  assert f'name="{path.stem}", data_dir="{tmp_path}/data"' in said
  want = {f"what is {i}?": records.png(7) for i in range(NUM)}
  assert rows(path.stem, tmp_path / "data") == want
  assert not environment


def test_an_archive_is_unpacked_in_a_second_environment(
  tmp_path, archive, environment, monkeypatch, capfd
):
  path = builder(tmp_path / "unpacked.py", archive)
  assert main(monkeypatch, path, "--data-dir", tmp_path / "data") == 0
  said = capfd.readouterr().out
  assert f"{path} needs TensorFlow; preparing it in {tfds.ENVIRONMENT}" in said
  want = {f"what is {i}?": records.png(i) for i in range(NUM)}
  assert rows("unpacked", tmp_path / "data") == want
  venv, pip, there = environment
  assert venv[1:3] == ["-m", "venv"] and "tensorflow-datasets==" in str(pip)
  assert any(word.startswith("tensorflow-cpu;") for word in pip)
  assert there[0] == f"{tfds.ENVIRONMENT}/bin/python"
  assert "tensorflow" not in sys.modules
  more = archive.replace("images", "more")
  again = builder(tmp_path / "once_more.py", more)
  assert main(monkeypatch, again, "--data-dir", tmp_path / "data") == 0
  assert len(environment) == 4  # nothing was installed again


def test_what_is_there_in_another_format_stays(
  tmp_path, environment, monkeypatch, capfd
):
  path = builder(tmp_path / "there_before.py")
  say = lambda: main(monkeypatch, path, "--data-dir", tmp_path / "data")
  assert say() is None
  info = tmp_path / "data/there_before/1.0.0/dataset_info.json"
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  before = info.read_bytes()
  capfd.readouterr()
  assert say() is None and info.read_bytes() == before
  assert 'name="there_before"' in capfd.readouterr().out


def test_an_environment_that_was_not_completed_is_made_again(
  tmp_path, archive, environment, monkeypatch
):
  path = builder(tmp_path / "interrupted.py", archive)
  fake = subprocess.run

  def interrupted(command, **options):
    done = fake(command, **options)
    if "pip" in command:
      raise subprocess.CalledProcessError(1, "pip")
    return done

  monkeypatch.setattr(subprocess, "run", interrupted)
  said = main(monkeypatch, path, "--data-dir", tmp_path / "data")
  assert said.startswith("error: TensorFlow could not be installed")
  assert "--python python3.12" in said
  monkeypatch.setattr(subprocess, "run", fake)
  assert main(monkeypatch, path, "--data-dir", tmp_path / "data") == 0
  assert len(rows("interrupted", tmp_path / "data")) == NUM
  assert ["-m", "venv", "--clear"] == environment[2][1:4]


def test_what_is_wrong_is_said_in_a_line(tmp_path, environment, monkeypatch):
  say = lambda *args: main(monkeypatch, *args, "--data-dir", tmp_path / "data")
  assert 'Did you mean "coco_captions"?' in say("coco_captionz")
  assert say(tmp_path / "no.py") == f"error: there is no file {tmp_path}/no.py"
  (tmp_path / "empty_file.py").write_text("")
  assert "has 0 builders, wanted one" in say(tmp_path / "empty_file.py")
  path = builder(tmp_path / "needs_more.py")
  path.write_text(f"import nowhere.at_all\n{path.read_text()}")
  wanted = f"needs nowhere; install it and try again\n  {sys.executable} -m pip"
  assert wanted in say(path)
  assert not environment


@pytest.mark.slow
def test_tensorflow_is_installed_and_unpacks_an_archive(
  tmp_path, archive, monkeypatch, capfd
):
  monkeypatch.setattr(tfds, "ENVIRONMENT", tmp_path / ".venv-tfds")
  path = builder(tmp_path / "really_unpacked.py", archive)
  code = main(monkeypatch, path, "--data-dir", tmp_path / "data")
  if "could not be installed" in str(code):
    pytest.skip(f"{code} {capfd.readouterr().err}")
  want = {f"what is {i}?": records.png(i) for i in range(NUM)}
  assert code == 0
  assert rows("really_unpacked", tmp_path / "data") == want
