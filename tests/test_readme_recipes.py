"""What the README says under "To make it yours" is done here as it stands.

A copy of the code, a user's own few rows, and two runs of a few steps.
"""

import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pg import tree
from pg.weights import checkpoint, load
from tests.support import paths

SECTION = (paths.ROOT / "README.md").read_text()
SECTION = SECTION.split("## To make it yours\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.S)
(COMMANDS,) = (text for kind, text in BLOCKS if kind == "bash")
EDITS = [text.split("\n", 1) for kind, text in BLOCKS if kind != "bash"]
NUM = 8  # rows of the user
# Steps, rows and tokens of a run.
FEW = " --config.total=2 --config.batch_size=8 --config.evals.val.max_len=4"


def edit(folder, place, code):
  """Changes a file as the first line of a block of the README says."""
  where, name = re.fullmatch(r"# (at the end of|in) (\S+)", place).groups()
  path = folder / name
  text = path.read_text()
  if where == "at the end of":
    text += "\n\n" + code
  elif any(line.startswith("+") for line in code.splitlines()):
    lines = code.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(old) == 1, f"{name} has no {old}"
    text = text.replace(old, "".join(line[1:] for line in lines))
  else:
    for target, lines in statements(f"def f():\n{code}").items():
      text = text.replace(statements(text)[target], lines)
  path.write_text(text)


def statements(text):
  """Returns {"c.data": the lines that assign it} of the function in a text."""
  (function,) = (
    node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)
  )
  lines = text.splitlines(keepends=True)
  found = {}
  for node in ast.walk(function):
    if isinstance(node, ast.Assign):
      written = lines[node.lineno - 1 : node.end_lineno]
      found[ast.unparse(node.targets[0])] = "".join(written)
  return found


def bash(folder, commands):
  """Runs commands as a user does who has activated .venv."""
  path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
  done = subprocess.run(
    ["bash", "-ec", commands],
    cwd=folder,
    env=os.environ | {"PATH": path, "XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def house(tmp_path_factory, one_device):
  """A copy of the code, with rows of a user."""
  folder = tmp_path_factory.mktemp("house")
  for name in ("pg", "transfers"):
    shutil.copytree(paths.ROOT / name, folder / name)
  for split in ("train", "val"):
    rows = []
    for i in range(NUM):
      pixels = np.full((40, 60, 3), 30 * i, np.uint8)
      Image.fromarray(pixels).save(folder / f"{i}.png")
      row = dict(image=f"{i}.png", prefix="caption en", suffix=f"grey {i}")
      rows.append(json.dumps(row))
    (folder / f"{split}.jsonl").write_text("\n".join(rows))
  return folder


@pytest.fixture(scope="module")
def task(house):
  """A run of the copied config with nothing changed, two steps of it."""
  once = "".join(f" --config.evals.{x}.every=0" for x in ("val", "nll"))
  bash(house, COMMANDS.rstrip() + FEW + once)
  return house / "runs" / "mine"


@pytest.fixture(scope="module")
def changed(house, task):
  """A run after all changes to the code."""
  shutil.copyfile(house / "pg" / "train.py", house / "pg" / "mine.py")
  for place, code in EDITS:
    edit(house, place, code)
  command = COMMANDS.splitlines()[1]
  assert "-m pg.train" in command and "runs/mine" in command
  command = command.replace("-m pg.train", "-m pg.mine")
  command = command.replace("runs/mine", "runs/changed")
  bash(house, command + FEW)
  return house / "runs" / "changed"


def scores(workdir):
  return json.loads((workdir / "scores.json").read_text())["val"]


def predictions(workdir):
  *_, path = sorted((workdir / "predictions").iterdir())
  return [json.loads(line) for line in path.read_text().splitlines()]


def last_line(workdir, key):
  """Returns the last value of a metric of training."""
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [row[key] for row in map(json.loads, lines) if key in row][-1]


def test_a_task_on_json_lines_needs_no_code(house, task):
  assert scores(task)["cider"]["n"] == NUM
  truths = [row["truth"] for row in predictions(task)]
  assert truths == [f"grey {i}" for i in range(NUM)]
  before = load.open("nano").reader.read("img/head/kernel")
  after = checkpoint.restore_params(task)["img"]["head"]["kernel"]
  assert np.abs(before - after).max() > 0


def test_a_function_in_metrics_is_a_metric(changed):
  ((name, found),) = scores(changed).items()
  short = [
    len(r["prediction"]) <= len(r["truth"]) for r in predictions(changed)
  ]
  assert (name, found["value"]) == ("brevity", np.mean(short))
  assert "blind" in found
  # It has neither intervals nor a score of each example.
  assert not {"low", "high"} & found.keys()
  assert not any("score" in row for row in predictions(changed))


def test_a_decorated_function_is_an_op(changed):
  truths = [row["truth"] for row in predictions(changed)]
  assert truths == [f"GREY {i}" for i in range(NUM)]


def test_a_class_with_a_length_and_rows_is_a_source(changed):
  assert last_line(changed, "data/greys/epoch") > 0


def test_a_fork_of_update_trains(changed):
  """The norm of signs is the root of how many parameters there are."""
  params = tree.flatten(checkpoint.restore_params(changed))
  num = sum(x.size for x in params.values())
  norm = last_line(changed, "train/grad_norm")
  assert norm**2 == pytest.approx(num, rel=0.01)
