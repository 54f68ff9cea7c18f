"""The wheel has all of pg; the constraints have all that is required."""

import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging import requirements, utils

from tests.support import paths

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = {"dev", "parity", "cloud", "fit", "serve", "docs", "wandb", "kaggle"}
# Runs where the wheel lies, far from the repository.
TRY = """
import importlib, pathlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import pg
assert pathlib.Path(pg.__file__).is_relative_to(sys.argv[1]), pg.__file__
for module in pkgutil.walk_packages(pg.__path__, "pg."):
  importlib.import_module(module.name)
from pg.codecs import masks, tokenizer
tokenizer.Tokenizer(tokenizer.NANO)
masks.load(masks.NANO)
from pg.models import int8
assert int8.SOURCE.exists()
"""


def lines(name):
  """Returns what a file of requirements lists, one Requirement a line."""
  text = re.sub("#.*", "", (paths.ROOT / name).read_text())
  return [requirements.Requirement(x) for x in text.splitlines() if x.strip()]


def constraints(python):
  """Returns the constraints that count on a Python: name -> version."""
  here = {"python_version": python, "python_full_version": f"{python}.0"}
  counted = {}
  for line in lines("constraints.txt"):
    if line.marker is None or line.marker.evaluate(here):
      name = utils.canonicalize_name(line.name)
      assert name not in counted, f"{name} has two versions on {python}"
      (version,) = line.specifier
      assert version.operator == "=="
      counted[name] = version.version
  return counted


def files_of_requirements():
  return sorted(path.name for path in paths.ROOT.glob("requirements*.txt"))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", files_of_requirements())
def test_each_requirement_has_a_tested_version(python, name):
  tested = constraints(python)
  for line in lines(name):
    exact = any(one.operator == "==" for one in line.specifier)
    version = tested.get(utils.canonicalize_name(line.name))
    assert version or exact, f"constraints.txt lacks {line.name}"
    assert not version or version in line.specifier, f"{line} is not {version}"


def test_what_requirements_bring_has_a_tested_version():
  """Follows each requirement to what its installed release requires."""
  here = ".".join(map(str, sys.version_info[:2]))
  tested = set(constraints(here)) | {"torch", "libtpu"}
  reached, left = set(), [r for f in files_of_requirements() for r in lines(f)]
  while left:
    line = left.pop()
    key = utils.canonicalize_name(line.name), frozenset(line.extras)
    if key in reached or key[0] == "torch":
      continue
    reached.add(key)
    try:
      required = importlib.metadata.requires(line.name) or ()
    except importlib.metadata.PackageNotFoundError:
      continue  # of an extra that is not installed here
    for one in map(requirements.Requirement, required):
      extras = line.extras or {""}
      if not one.marker or any(
        one.marker.evaluate({"extra": x}) for x in extras
      ):
        left.append(one)
  assert not {name for name, _ in reached} - tested


def test_extras_are_the_files_of_requirements():
  kinds = {name.removesuffix(".txt") for name in files_of_requirements()}
  kinds = {kind.removeprefix("requirements-") for kind in kinds}
  assert kinds == EXTRAS | {"requirements"}


def test_a_wheel_has_everything_that_runs(tmp_path):
  pytest.importorskip("setuptools", minversion="77")
  source = tmp_path / "source"
  ignored = shutil.ignore_patterns("__pycache__")
  shutil.copytree(paths.ROOT / "pg", source / "pg", ignore=ignored)
  for path in (*paths.ROOT.glob("*.txt"), *paths.ROOT.glob("*.toml")):
    shutil.copy(path, source)
  for name in ("README.md", "LICENSE"):
    shutil.copy(paths.ROOT / name, source)
  build = "import sys; from setuptools import build_meta as b"
  subprocess.run(
    [sys.executable, "-c", f"{build}; b.build_wheel(sys.argv[1])", tmp_path],
    cwd=source,
    check=True,
  )
  (wheel,) = tmp_path.glob("*.whl")
  target = tmp_path / "target"
  zipfile.ZipFile(wheel).extractall(target)
  of = lambda folder: {
    str(path.relative_to(folder))
    for path in pathlib.Path(folder, "pg").rglob("*")
    if path.is_file()
  }
  assert of(target) == of(source)
  (about,) = target.glob("*.dist-info")
  extras = re.findall(
    r"^Provides-Extra: (\w+)$", (about / "METADATA").read_text(), re.M
  )
  assert set(extras) == EXTRAS
  subprocess.run([sys.executable, "-c", TRY, target], cwd=tmp_path, check=True)
