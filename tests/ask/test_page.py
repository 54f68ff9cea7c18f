"""What docs/ask.md shows works."""

import re

import pytest

import pg
from tests.ask import test_model
from tests.support import paths

PAGE = (paths.ROOT / "docs/ask.md").read_text()


@pytest.mark.usefixtures("one_device")
def test_the_blocks_of_the_page_run(monkeypatch, tmp_path, capsys):
  load = lambda name: test_model.model()
  monkeypatch.setattr(pg, "load", load, raising=False)
  blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
  assert len(blocks) == 5
  scene = str(paths.ROOT / "docs/images/scene.png")
  names, out = {}, str(tmp_path / "out.png")
  for block in blocks:
    block = block.replace("docs/images/scene.png", scene)
    exec(block.replace("out.png", out), names)
  assert (tmp_path / "out.png").stat().st_size
  assert names["captions"][0].text == names["caption"].text
  assert len(names["best"].others) == 3
  assert "cannot decode an image of 8 bytes" in capsys.readouterr().out


def test_the_picture_of_the_commands_is_there():
  readme = (paths.ROOT / "README.md").read_text()
  for text in (readme, PAGE):
    assert "--image docs/images/scene.png" in text
  assert (paths.ROOT / "docs/images/scene.png").exists()
