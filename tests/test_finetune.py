"""The commands of docs/finetune.md run in their order, with a small model.

Numbers of the page are those of the configs.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pg import config
from tests.support import paths

PAGE = (paths.ROOT / "docs/finetune.md").read_text()
COMMANDS = [
  line
  for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S)
  for line in block.splitlines()
]
VERBS = ["check", "fit", "train", "train", "evaluate", "evaluate", "predict"]
NUM = 32  # rows of the user, as many as are learned by heart
PUBLISHED = re.findall(
  r"^\| (\w+) \| ([\d,]+) \| (\d+) \| (\d+) \| (\S+) \|$", PAGE, re.M
)
RECIPES = sorted(
  set(re.findall(r"`((?:lora|small_gpu|forkme|detect_own)\.py[^`]*)`", PAGE))
)


@pytest.mark.parametrize("name, num, epochs, batch, lr", PUBLISHED)
def test_settings_are_those_of_the_recipe(name, num, epochs, batch, lr):
  c = config.load(f"{paths.ROOT}/transfers/{name}.py:res=224")
  assert (c.total, c.batch_size) == (f"{epochs}ep", int(batch))
  assert c.lr == float(lr)
  table = (paths.ROOT / "docs/transfers.md").read_text()
  assert re.search(rf"^\| {name} \| [^|]* \| {num} \|", table, re.M)


def test_there_are_settings_and_recipes():
  assert len(PUBLISHED) == 11 and len(RECIPES) > 5


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_of_the_tables_loads(recipe):
  assert config.load(f"{paths.ROOT}/transfers/{recipe}").lr


@pytest.fixture(scope="module")
def house(tmp_path_factory):
  """A copy of the code with a user's rows."""
  folder = tmp_path_factory.mktemp("house")
  for name in ("pg", "transfers"):
    shutil.copytree(paths.ROOT / name, folder / name)
  (folder / "data").mkdir()
  for split, first in (("train", 0), ("val", NUM)):
    rows = []
    for i in range(first, first + NUM):
      pixels = np.full((40, 60, 3), 3 * i, np.uint8)
      Image.fromarray(pixels).save(folder / f"data/{i}.jpg")
      row = dict(image=f"{i}.jpg", prefix="caption en", suffix=f"grey {i}")
      rows.append(json.dumps(row))
    (folder / f"data/{split}.jsonl").write_text("\n".join(rows))
  return folder


def small(line):
  """Returns the words of a command, of a model of nothing and a few steps."""
  words = shlex.split(line)[2:]
  for i, word in enumerate(words):
    if word.startswith("transfers/"):
      words[i] = f"{word},model=nano,res=48,init=runs/base"
  if words[0] == "pg.train":
    val = "seen_val" if "overfit" in line else "val"
    words += ["--config.total=4", f"--config.evals.{val}.max_len=4"]
  return words


def run(folder, words):
  done = subprocess.run(
    [sys.executable, "-m", *words],
    cwd=folder,
    env=os.environ | {"XLA_FLAGS": ""},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(house):
  given = [shlex.split(x)[2].removeprefix("pg.") for x in COMMANDS]
  assert given == [*VERBS, "convert"]
  data = "train=data/train.jsonl,val=data/val.jsonl"
  forkme = f"transfers/forkme.py:{data},model=nano,res=48,init="
  few = ["--config.total=1", "--config.evals.val.max_len=4"]
  run(house, ["pg.train", "--config", forkme, "--workdir", "runs/base", *few])
  said = [run(house, small(line)) for line in COMMANDS]
  assert "0 errors" in said[0] and "it fits" in said[1]
  out = pathlib.Path(house)
  scores = lambda run: json.loads((out / run / "scores.json").read_text())
  assert set(scores("runs/overfit")) == {"seen_val", "seen_nll"}
  assert "before" in scores("runs/mine")["nll"]["nll"]
  assert set(scores("runs/best")) == {"val", "nll"}
  for name in ("check.html", "runs/mine/report.html", "out.png"):
    assert os.path.getsize(out / name)
  assert (out / "mine_hf/config.json").exists()
