"""The main job: its data, its runs, its table."""

import json

import pytest
from PIL import Image

from pg import config
from pg.data.formats import jsonl
from pg.data.synthetic import digits
from scripts import quickstart
from tests.support import paths


def test_the_digits_are_lines_and_images_once(tmp_path):
  path = quickstart.write_rows(tmp_path, "test", "val")
  rows, wanted = jsonl.Jsonl(str(path)), digits.Digits("test")
  assert len(rows) == len(wanted) == 537
  line = json.loads(path.read_text().splitlines()[7])
  assert line["suffix"] == wanted[7]["suffix"]
  with Image.open(tmp_path / line["image"]) as image:
    assert (image.size, image.mode) == ((48, 48), "RGB")
  made = path.stat().st_mtime_ns
  assert quickstart.write_rows(tmp_path, "test", "val") == path
  assert path.stat().st_mtime_ns == made


def test_both_runs_differ_in_what_they_start_from_alone(tmp_path):
  tuned, scratch = (
    _config(file, words) for file, words in quickstart.plan(tmp_path).values()
  )
  config.validate(tuned)
  assert (tuned.init, scratch.init) == ("nano", "")
  assert tuned.data.path == f"{tmp_path}/data/train.jsonl"
  assert tuned.evals.val.path == f"{tmp_path}/data/val.jsonl"
  with scratch.unlocked():
    scratch.update(init="nano", score_init=True)
  assert scratch == tuned


def _config(file, words):
  pairs = [x.removeprefix("--config.").split("=", 1) for x in words]
  return config.load(f"{paths.ROOT}/{file}", pairs)


def test_the_table_has_before_after_blind_and_from_scratch(tmp_path):
  for name, value in (("tuned", 0.95), ("scratch", 0.5)):
    (tmp_path / name).mkdir()
    score = dict(value=value, blind=0.1, low=value - 0.02, high=value + 0.02)
    score |= dict(before=0.125) if name == "tuned" else {}
    made = json.dumps(dict(val=dict(exact=score | dict(n=537))))
    (tmp_path / name / "scores.json").write_text(made)
  assert [line.split("  ") for line in _lines(tmp_path)] == [
    ["right answers", "of 537 scans"],
    ["without a look at the image", "10.0 %"],
    ["before", "12.5 %"],
    ["after", "95.0 %", "93.0 % to 97.0 %"],
    ["from scratch, as long", "50.0 %", "48.0 % to 52.0 %"],
  ]


def _lines(folder):
  for line in quickstart.summary(folder).splitlines():
    yield "  ".join(x.strip() for x in line.split("  ") if x.strip())


@pytest.mark.slow
def test_the_main_job_runs_and_learns(tmp_path, monkeypatch):
  words = quickstart.WORDS | dict(total=60)
  monkeypatch.setattr(quickstart, "WORDS", words)
  monkeypatch.chdir(paths.ROOT)
  folder = tmp_path / "quickstart"
  args = quickstart.command.argparse.Namespace(workdir=str(folder))
  quickstart.main(args)
  scores = json.loads((folder / "tuned/scores.json").read_text())
  score = scores["val"]["exact"]
  assert score["n"] == 537 and score["low"] > 0.3 > score["blind"]
