"""Every config loads, and names only what exists."""

import pathlib
import re
import subprocess
import sys

import ml_collections
import pytest

from pg import config
from pg.evals import task as evals_task
from tests.support import paths
from transfers import base

ROOT = paths.ROOT
FILES = sorted(
  str(p.relative_to(ROOT))
  for folder in ("configs", "transfers")
  for p in (ROOT / folder).glob("*.py")
  if p.name not in ("base.py", "pretraining.py")
)


def keys(node, prefix=""):
  """Returns the dotted keys of a config, groups without their contents."""
  return {
    f"{prefix}{k}" for k, v in node.items() if k not in ("arg", "data", "evals")
  } | {
    name
    for k in ("model", "input", "bad")
    if isinstance(node.get(k), ml_collections.ConfigDict)
    for name in keys(node[k], f"{k}.")
  }


def test_there_are_configs():
  assert {"configs/nano.py", "transfers/forkme.py"} <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_a_config_loads_and_is_locked(file):
  c = config.load(str(ROOT / file))
  assert c.is_locked
  with pytest.raises(AttributeError, match="lr"):
    c.lrr = 1


@pytest.mark.parametrize("file", FILES)
def test_a_config_has_exactly_the_keys_of_the_base(file):
  assert keys(config.load(str(ROOT / file))) == keys(base.get())


def test_the_full_main_job_opens_every_evaluator():
  c = config.load(str(ROOT / "configs/nano.py:full"))
  names = {task.name for task in evals_task.tasks(c)}
  assert {"caption_zh", "compare", "refer", "digits", "nll"} <= names


def test_configs_do_not_import_jax():
  code = (
    "import sys; sys.path.insert(0, '.'); from pg import config;"
    f"[config.load(f) for f in {FILES!r}];"
    "sys.exit('jax' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_typo_in_a_config_file_names_the_key(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "from transfers import base\n"
    "def get_config(arg=None):\n"
    "  c = base.get(arg)\n"
    "  c.batchsize = 3\n"
    "  return c\n"
  )
  with pytest.raises(ValueError, match="mine.py:4: .*batch_size"):
    config.load(str(file))


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(metric="exakt"), 'unknown metric "exakt"; did you mean "exact"'),
    (dict(spllit="test"), "unexpected keyword argument 'spllit'"),
  ],
)
def test_a_wrong_evaluator_is_explained(change, message):
  c = config.load(str(ROOT / "configs/nano.py"))
  with c.unlocked():
    c.evals.caption.update(change)
  with pytest.raises(ValueError, match=message):
    evals_task.tasks(c)


def only_for_a_server(how):
  return how.get("metric") == "none" and how.get("submit")


SERVED = [
  file
  for file in FILES
  if any(map(only_for_a_server, config.load(str(ROOT / file)).evals.values()))
]


@pytest.mark.parametrize("file", SERVED)
@pytest.mark.filterwarnings("ignore:.*beyond the end")
def test_a_server_file_without_its_data_is_skipped(file, tmp_path):
  c = config.load(f"{ROOT / file}:data={tmp_path}")
  others = {k: v for k, v in c.evals.items() if not only_for_a_server(v)}
  for how in (c.data, *others.values()):
    spec = {**c.data, **how}
    for name in re.sub(r"\[.*?\]", "", spec["split"]).split("+"):
      path = pathlib.Path(spec["path"], f"{name.strip()}.jsonl")
      path.parent.mkdir(exist_ok=True)
      path.write_text('{"image": "0.png"}')
  with pytest.warns(UserWarning, match="is left out: .*unknown split"):
    assert {task.name for task in evals_task.tasks(c)} == set(others)
  with c.unlocked():
    for how in c.evals.values():
      how.update(metric="exact", optional=False)  # now it has a score
  with pytest.raises(ValueError, match="makes all splits"):
    evals_task.tasks(c)


def test_an_evaluator_inherits_data_and_states_the_difference():
  c = config.load(str(ROOT / "configs/nano.py"))
  with c.unlocked():
    c.data = dict(source="shapes", task="ocr", res=48, size=5)
    c.evals = dict(val=dict(metric="exact", split="test"))
  (task,) = evals_task.tasks(c)
  source = task.data.source
  assert (source.task, source.split, len(source)) == ("ocr", "test", 5)


def test_an_evaluator_of_another_source_inherits_nothing_of_the_data():
  c = config.load(str(ROOT / "configs/nano.py"))
  with c.unlocked():
    c.data = dict(source="shapes", task="ocr", res=48, size=5)
    c.evals = dict(val=dict(metric="exact", source="digits", split="test"))
  (task,) = evals_task.tasks(c)
  assert len(task.data.source) == 537
