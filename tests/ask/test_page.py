"""What docs/ask.md and docs/cookbook.md show works."""

import re

import numpy as np
import pytest

import pg
from pg.ask import model as model_lib
from pg.ask import rows as rows_lib
from tests.ask import test_model
from tests.support import paths

PAGE = (paths.ROOT / "docs/ask.md").read_text()


def run(page, num_blocks, monkeypatch, tmp_path):
  """Runs the Python of a page with a small model; returns its variables."""
  load = lambda name: test_model.model()
  monkeypatch.setattr(pg, "load", load, raising=False)
  blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
  assert len(blocks) == num_blocks
  scene = str(paths.ROOT / "docs/images/scene.png")
  names, out = {}, str(tmp_path / "out.png")
  for block in blocks:
    block = block.replace("docs/images/scene.png", scene)
    exec(block.replace("out.png", out), names)
  assert (tmp_path / "out.png").stat().st_size
  return names


@pytest.mark.usefixtures("one_device")
def test_the_blocks_of_the_page_run(monkeypatch, tmp_path, capsys):
  names = run(PAGE, 5, monkeypatch, tmp_path)
  assert names["captions"][0].text == names["caption"].text
  assert len(names["best"].others) == 3
  assert "cannot decode an image of 8 bytes" in capsys.readouterr().out


@pytest.mark.usefixtures("one_device")
def test_the_blocks_of_the_cookbook_run(monkeypatch, tmp_path, capsys):
  """All but the decoding loop, in whose place a box and its mask come back."""
  tok = test_model.model().form.tok
  place = "<loc0000><loc0256><loc0512><loc1023>"
  said = place + "<seg001>" * 16 + " red circle"

  def ask(self, rows, how, batch_size):
    for row in rows:
      assert isinstance(row, rows_lib.Row), row
      assert (row.form is None) == (how.constrain is None)
    ids = [*tok.encode(said), tok.eos]
    return np.array([[ids]] * len(rows)), np.full((len(rows), 1, 99), -1), how

  monkeypatch.setattr(model_lib.Model, "_ask", ask)
  page = (paths.ROOT / "docs/cookbook.md").read_text()
  names = run(page, 4, monkeypatch, tmp_path)
  assert names["where"] == place  # of the box that was found
  assert names["outlined"].masks[0].shape == names["outlined"].image.shape[:2]
  assert {names["best"], names["others"][0][0]} == {"yes", "no"}
  assert f"{place} {said}\n" in capsys.readouterr().out


def test_the_picture_of_the_commands_is_there():
  readme = (paths.ROOT / "README.md").read_text()
  for text in (readme, PAGE):
    names = re.findall(r"--image (docs/\S+)", text)
    assert names
    for name in names:
      assert (paths.ROOT / name).exists(), name
