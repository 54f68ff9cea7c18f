"""docs/finetune.ipynb runs from first to last cell, with a small model."""

import json
import os
import shutil

import pytest

from pg import config
from tests.support import paths

NOTEBOOK = paths.ROOT / "docs/finetune.ipynb"


def cells(kind):
  """Returns the texts of the cells of a kind."""
  found = json.loads(NOTEBOOK.read_text())["cells"]
  return ["".join(x["source"]) for x in found if x["cell_type"] == kind]


def test_no_outputs_are_kept():
  for cell in json.loads(NOTEBOOK.read_text())["cells"]:
    assert not cell.get("outputs") and cell.get("execution_count") is None


def offered():
  """Yields the settings that the notebook has, and those in its comments."""
  (text,) = (x for x in cells("code") if "RECIPE, ARGS, TOTAL =" in x)
  found, commented = {}, {}
  for line in text.splitlines():
    names = commented if line.startswith("#") else found
    if " = " in line and line.lstrip("# ")[:4] in ("RECI", "ARGS"):
      exec(line.lstrip("# "), names)
      if names.keys() >= {"RECIPE", "ARGS", "TOTAL"}:
        yield tuple(names.pop(x) for x in ("RECIPE", "ARGS", "TOTAL"))


SETTINGS = list(offered())


@pytest.mark.parametrize("recipe, args, total", SETTINGS)
@pytest.mark.parametrize("overfit", (0, 8))
def test_its_settings_are_those_of_a_config(recipe, args, total, overfit):
  spec = f"{paths.ROOT}/transfers/{recipe}.py:train=a,val=b,{args}"
  c = config.load(f"{spec},overfit={overfit}", [("total", total)])
  names = {"seen_val", "seen_nll"} if overfit else {"val", "nll"}
  assert set(c.evals) == names


def test_settings_are_of_nothing_a_t4_and_an_l4():
  assert [x[0] for x in SETTINGS] == ["forkme", "small_gpu", "lora"]


def test_its_code_is_python():
  for text in cells("code"):
    compile(text, "cell", "exec")


@pytest.mark.slow
def test_it_trains_and_scores_before_and_after(tmp_path, monkeypatch):
  import nbformat
  from nbclient import NotebookClient

  for name in ("pg", "transfers"):
    shutil.copytree(paths.ROOT / name, tmp_path / name)
  monkeypatch.setenv("XLA_FLAGS", "")
  text = NOTEBOOK.read_text()
  for whole, few in (
    ('\\"300\\"', '\\"60\\"'),
    ("(TRAIN, 2048)", "(TRAIN, 64)"),
  ):
    assert text.count(whole) == 1
    text = text.replace(whole, few)
  notebook = nbformat.reads(text, as_version=4)
  where = dict(metadata=dict(path=str(tmp_path)))
  NotebookClient(notebook, timeout=900, resources=where).execute()
  out = tmp_path / "runs/finetune"
  scores = lambda run: json.loads((out / run / "scores.json").read_text())
  heart = scores("overfit")["seen_nll"]["nll"]
  assert heart["value"] < 0.1 < 1 < heart["before"]
  found = scores("run")
  assert set(found) == {"val", "nll"}
  for score in (found["nll"]["nll"], found["val"]["iou"]):
    assert {"value", "before"} <= set(score)
  assert found["nll"]["nll"]["value"] < found["nll"]["nll"]["before"]
  for name in ("check.html", "run/report.html", "out.png"):
    assert os.path.getsize(out / name)
  shown = [x for c in notebook.cells for x in c.get("outputs", ())]
  pictures = [x for x in shown if "image/png" in x.get("data", ())]
  assert len(pictures) == 4  # three rows, and the answer
