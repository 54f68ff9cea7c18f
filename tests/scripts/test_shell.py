"""The two commands, with a python3 and a pip that only write down what they are
asked: what is installed when, and what an interrupted start leaves behind.
"""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.support import paths

ROOT = paths.ROOT

# How pip is told the versions.
BY = "-c constraints.txt"
# libtpu has a folder of its own.
LIBTPU = f"{BY} -r requirements-fit.txt --no-deps --upgrade --target .venv/fit"
# How scripts/test.sh has pytest use several cores.
SPREAD = (
  "-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder"
  " --max-worker-restart 0"
)
# Stands for python3 and, copied there, for .venv/bin/python. $PIP says what pip
# does and $PYTEST what pytest does.
FAKE_PYTHON = f"""#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
  "-m venv --clear"*)
    [[ -z ${{NO_VENV:-}} ]] || exit 1
    pip="$4/lib/python3.11/site-packages/pip-23.dist-info"
    mkdir -p "$4/bin" "$pip"
    touch "$pip/RECORD"
    echo "$0" >"$4/made-by"
    cp "$0" "$4/bin/python" ;;
  "-m pip"*) eval "${{PIP:-}}" ;;
  "-m pytest"*) eval "${{PYTEST:-}}" ;;
  *"version_info < "*) [[ -z ${{OLD:-}} ]] ;;
  *"version_info >= "*) [[ -z ${{UNKNOWN:-}} ]] ;;
  --version) echo "Python 3.9.2" ;;
  -*) [[ $1 == -m ]] || exec {sys.executable} "$@" ;;
esac
"""

# Has the question whether there is a TPU answered by the file $PCI.
FAKE_GREP = f"""#!/usr/bin/env bash
[[ $2 != *PCI_ID* ]] || set -- "$1" "$2" "$PCI"
exec {shutil.which("grep")} "$@"
"""


class Place:
  """A copy of the scripts in a folder of their own, on a fake machine."""

  def __init__(self, folder):
    self.root = folder / "a repository"
    self.tools = folder / "tools"
    self.calls = folder / "calls"
    self.calls.touch()
    self.pci = folder / "pci"
    self.pci.write_text("PCI_ID=1AE0:0042\n")  # a network card of Google's
    self.tools.mkdir()
    self.tool("python3", FAKE_PYTHON)
    self.tool("grep", FAKE_GREP)
    self.tool("nvidia-smi", "#!/bin/sh\nexit 9\n")
    shutil.copytree(ROOT / "scripts", self.root / "scripts")
    shutil.copytree(ROOT / ".ci", self.root / ".ci")
    for path in (*ROOT.glob("requirements*.txt"), ROOT / "constraints.txt"):
      shutil.copy(path, self.root)
    (self.root / "pg").mkdir()
    for verb in ("train", "predict"):
      code = f'r"""The {verb} verb.\n\nMore.\n"""\n__name__ == "__main__"\n'
      (self.root / "pg" / f"{verb}.py").write_text(code)
    (self.root / "pg" / "config.py").touch()
    self.env = {
      "PATH": f"{self.tools}:/usr/bin:/bin",
      "CALLS": str(self.calls),
      "PCI": str(self.pci),
    }

  def tool(self, name, code):
    (self.tools / name).write_text(code)
    (self.tools / name).chmod(0o755)

  def start(self, script, *args, cwd=None, **env):
    return subprocess.Popen(
      ["bash", self.root / "scripts" / script, *args],
      cwd=cwd or self.root,
      env=self.env | env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  def run(self, script, *args, **kw):
    process = self.start(script, *args, **kw)
    output, _ = process.communicate()
    return process.returncode, output

  def pip_calls(self):
    """Returns the arguments of every `pip install` since the last look."""
    lines = self.calls.read_text().splitlines()
    self.calls.write_text("")
    options = "-m pip install --quiet --disable-pip-version-check "
    return [x.removeprefix(options) for x in lines if x.startswith("-m pip")]

  def last_call(self):
    return self.calls.read_text().splitlines()[-1]


@pytest.fixture
def place(tmp_path):
  return Place(tmp_path)


def test_a_second_start_does_not_call_pip(place):
  assert place.run("run.sh", "train")[0] == 0
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]
  assert place.run("run.sh", "train") == (0, "")
  assert place.pip_calls() == []


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt"])
def test_what_changed_is_installed(place, name):
  place.run("run.sh", "train")
  place.pip_calls()
  with open(place.root / name, "a") as f:
    f.write("einops==0.8.2\n")
  place.run("run.sh", "train")
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]


def test_a_failed_pip_ends_the_start_and_is_tried_again(place):
  assert place.run("run.sh", "train", PIP="exit 3")[0] == 3
  assert "pg.train" not in place.calls.read_text()
  place.pip_calls()
  assert place.run("run.sh", "train")[0] == 0
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]


@pytest.mark.parametrize("victim", ["$PPID", "$$"])
def test_an_interrupted_install_is_not_taken_for_a_finished_one(place, victim):
  half = ".venv/lib/python3.11/site-packages/jax-1.dist-info"
  pip = f"mkdir -p {half}; kill -9 {victim}; sleep 0.2; exit 1"
  assert place.run("run.sh", "train", PIP=pip)[0] != 0
  assert (place.root / half).exists()
  place.pip_calls()
  assert place.run("run.sh", "train")[0] == 0
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]
  assert not (place.root / half).exists()


def test_a_half_made_environment_is_made_again(place):
  (place.root / ".venv" / "bin").mkdir(parents=True)
  shutil.copy(place.tools / "python3", place.root / ".venv/bin/python")
  (place.root / ".venv" / "left").touch()
  assert place.run("run.sh", "train")[0] == 0
  assert "-m venv --clear .venv" in place.calls.read_text().splitlines()


def test_of_two_starts_at_once_one_installs_and_one_waits(place):
  pip = "touch started; until [[ -e go ]]; do sleep 0.01; done"
  first = place.start("run.sh", "train", PIP=pip)
  while first.poll() is None and not (place.root / "started").exists():
    time.sleep(0.01)
  second = place.start("run.sh", "train")
  second_says = second.stdout.readline()
  (place.root / "go").touch()
  assert "Another run is setting up" in second_says
  assert (first.communicate(), first.returncode)[1] == 0
  assert (second.communicate(), second.returncode)[1] == 0
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]


def test_an_old_python_is_named_with_the_way_out(place):
  code, output = place.run("run.sh", "train", OLD="1")
  assert code != 0
  assert "needs Python 3.11 or newer; python3 is Python 3.9.2" in output
  assert "PG_PYTHON=python3.12 bash scripts/run.sh" in output


def test_a_python_that_nobody_has_tried_is_said_to_be_one(place):
  code, output = place.run("run.sh", "train", UNKNOWN="1")
  assert code == 0 and "tested on Python 3.11 to 3.14; python3 is" in output
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]


def test_the_environment_names_the_python_the_folder_and_the_versions(place):
  place.tool("python3.13", FAKE_PYTHON)
  names = dict(PG_PYTHON="python3.13", PG_VENV=".venv-b")
  code, _ = place.run("run.sh", "train", PG_CONSTRAINTS="/dev/null", **names)
  assert code == 0 and not (place.root / ".venv").exists()
  made_by = (place.root / ".venv-b" / "made-by").read_text()
  assert made_by == f"{place.tools}/python3.13\n"
  assert place.pip_calls() == ["-c /dev/null -r requirements.txt jax"]
  place.run("run.sh", "train", **names)
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax"]


def test_a_python_without_venv_is_named_with_the_way_out(place):
  code, output = place.run("run.sh", "train", NO_VENV="1")
  assert code != 0 and "apt install python3-venv" in output
  assert place.pip_calls() == []


def test_a_missing_python_is_named(place, tmp_path):
  os.remove(place.tools / "python3")
  for name in ("bash", "cat", "cmp", "dirname", "paste", "sed"):
    os.symlink(shutil.which(name), place.tools / name)
  code, output = place.run("run.sh", "train", PATH=str(place.tools))
  assert code != 0 and "no python3" in output


def test_a_gpu_gets_its_jax_and_keeps_it(place):
  place.tool("nvidia-smi", "#!/bin/sh\nexit 0\n")
  place.run("run.sh", "train")
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax[cuda12]"]
  place.tool("nvidia-smi", "#!/bin/sh\nexit 9\n")
  (place.root / "requirements.txt").write_text("jax\n")
  place.run("run.sh", "train")
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax[cuda12]"]


def test_a_tpu_gets_its_jax(place):
  place.pci.write_text("DRIVER=vfio-pci\nPCI_ID=1AE0:0063\n")
  place.run("run.sh", "train")
  assert place.pip_calls() == [f"{BY} -r requirements.txt jax[tpu]"]


@pytest.mark.parametrize(
  "own", ({}, {"GLIBC_TUNABLES": "glibc.malloc.check=1"})
)
def test_python_gets_large_pages_unless_the_environment_says_otherwise(own):
  command = f"source {ROOT}/scripts/setup.sh; echo $GLIBC_TUNABLES"
  env = {k: x for k, x in os.environ.items() if k != "GLIBC_TUNABLES"} | own
  said = subprocess.run(
    ["bash", "-c", command], env=env, capture_output=True, text=True
  )
  wanted = own.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
  assert said.stdout.strip() == wanted


def test_run_without_arguments_is_the_main_job(place):
  code, _ = place.run("run.sh")
  wanted = "-m scripts.quickstart --workdir runs/quickstart"
  assert code == 0 and place.last_call() == wanted


def test_a_verb_gets_its_arguments_from_any_directory(place, tmp_path):
  args = ["predict", "--prompt", "detect  cat ; dog"]
  place.run("run.sh", *args, cwd=tmp_path)
  assert place.last_call() == "-m pg.predict --prompt detect  cat ; dog"
  assert (place.root / ".venv").exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_says_what_there_is_and_installs_nothing(place, flag):
  code, output = place.run("run.sh", flag)
  assert code == 0 and place.calls.read_text() == ""
  assert "bash scripts/run.sh VERB ARGS..." in output
  assert output.endswith(
    "  predict   The predict verb.\n  train     The train verb.\n"
  )


@pytest.mark.parametrize("verb", ["trian", "config", "t.*"])
def test_an_unknown_verb_is_answered_with_the_known_ones(place, verb):
  code, output = place.run("run.sh", verb)
  assert code != 0
  assert output == f"There is no verb '{verb}'; there are: predict train\n"


def test_tests_run_without_torch_unless_all_are_wanted(place):
  place.run("test.sh", "tests/test_a.py", "-x")
  assert place.last_call() == f"-m pytest {SPREAD} tests/test_a.py -x"
  wanted = [f"{BY} -r requirements.txt jax", f"{BY} -r requirements-dev.txt"]
  assert place.pip_calls() == wanted
  place.run("test.sh", "--all", "-x")
  assert place.last_call() == f"-m pytest {SPREAD} -m  -x"
  more = [f"{BY} -r requirements-{kind}.txt" for kind in ("parity", "wandb")]
  assert place.pip_calls() == [more[0], LIBTPU, more[1]]
  assert place.run("test.sh", "--all") == (0, "")
  assert place.pip_calls() == []


def ci(place, **env):
  """Runs .ci/run where Python 3.11 is on the PATH and 3.14 only in pyenv."""
  place.tool("python3.11", FAKE_PYTHON)
  place.tool("python3.14", "#!/bin/sh\nexit 127\n")  # as pyenv's, unselected
  folder = place.root.parent / "pyenv" / "versions" / "3.14.10" / "bin"
  folder.mkdir(parents=True)
  shutil.copy(place.tools / "python3.11", folder / "python3")
  pyenv = str(place.root.parent / "pyenv")
  return folder, subprocess.run(
    [place.root / ".ci" / "run"],
    env=place.env | dict(PYENV_ROOT=pyenv) | env,
    capture_output=True,
    text=True,
  )


def test_ci_runs_all_tests_on_the_oldest_python_and_some_on_the_newest(place):
  folder, done = ci(place)
  assert done.returncode == 0, done.stderr
  made_by = lambda venv: (place.root / venv / "made-by").read_text()
  assert made_by(".venv") == f"{place.tools}/python3.11\n"
  assert made_by(".venv-newest") == f"{folder}/python3\n"
  lines = place.calls.read_text().splitlines()
  everything, some = [line for line in lines if line.startswith("-m pytest")]
  assert everything == f"-m pytest {SPREAD} -m "
  files = some.removeprefix(f"-m pytest {SPREAD} -q ").split()
  assert len(files) > 5 and all((ROOT / file).exists() for file in files)
  wanted = [
    f"{BY} -r requirements{kind}.txt" for kind in ("", "-dev", "-parity")
  ]
  wanted[0] += " jax"
  newest = ["-c /dev/null -r requirements.txt jax"]
  newest += ["-c /dev/null -r requirements-dev.txt"]
  wanted += [LIBTPU, f"{BY} -r requirements-wandb.txt"]
  assert place.pip_calls() == wanted + newest


def test_ci_fails_where_only_the_newest_libraries_do(place):
  _, done = ci(place, PYTEST="[[ $0 != *-newest* ]]")
  assert done.returncode != 0
  assert "with the newest libraries, though not" in done.stderr


def test_ci_fails_where_the_tests_do(place):
  _, done = ci(place, PYTEST="exit 3")
  assert done.returncode == 3
  assert not (place.root / ".venv-newest").exists()
