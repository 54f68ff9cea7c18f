"""The story goes on where it was stopped, and tells of all its runs."""

import json
import signal
import sys
import time

import pytest

from pg import config, stop
from scripts import story

# In place of `python -m pg.train`: writes scores, or waits to be told to stop.
TRAINER = """#!{python}
import json, pathlib, signal, sys, time
words = sys.argv[4:]
folder = pathlib.Path(words[words.index("--workdir") + 1])
folder.mkdir(parents=True, exist_ok=True)
with open(folder / "started", "a") as f:
  f.write(" ".join(words) + "\\n")
if "slow" in words and len(open(folder / "started").readlines()) == 1:
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  (folder / "waits").touch()
  time.sleep(20)
if "broken" in words:
  sys.exit(1)
scores = dict(val=dict(exact=dict(value=0.5, blind=0.1, n=8)))
(folder / "scores.json").write_text(json.dumps(scores))
"""


@pytest.fixture
def trainer(tmp_path, monkeypatch):
  path = tmp_path / "trainer"
  path.write_text(TRAINER.format(python=sys.executable))
  path.chmod(0o755)
  monkeypatch.setattr(sys, "executable", str(path))
  return tmp_path / "runs"


class _Until:
  """A time that is over as soon as something is so."""

  def __init__(self, is_so):
    self.is_so = is_so

  def __lt__(self, now):
    return self.is_so()


def started(folder):
  return (folder / "started").read_text().splitlines()


def test_a_run_is_stopped_at_the_time_and_goes_on_next_time(trainer, capsys):
  runs = {"a": ("x.py", []), "b": ("y.py", ["slow"]), "c": ("z.py", [])}
  deadline = _Until((trainer / "b/waits").exists)
  assert not story.train_all(runs, trainer, deadline)
  assert (trainer / "a/scores.json").exists()
  assert (trainer / "b/waits").exists() and not (trainer / "c").exists()
  assert story.train_all(runs, trainer, time.monotonic() + 60)
  assert [len(started(trainer / x)) for x in "abc"] == [1, 2, 1]
  assert started(trainer / "b")[0] == f"y.py slow --workdir {trainer / 'b'}"
  assert "1/3 a: complete\n2/3 b\n3/3 c\n" in capsys.readouterr().out


def test_a_signal_is_handed_on_and_a_failure_is_named(trainer, monkeypatch):
  with pytest.raises(ValueError, match="a: pg.train ended with status 1"):
    story.train_all({"a": ("x", ["broken"])}, trainer, time.monotonic() + 60)
  waits = trainer / "b/waits"
  monkeypatch.setattr(stop, "requested", waits.exists)
  monkeypatch.setattr(stop, "_signal", signal.SIGTERM)
  with pytest.raises(stop.Stopped):
    story.train_all({"b": ("x", ["slow"])}, trainer, float("inf"))
  assert not (trainer / "b/scores.json").exists()


def test_its_configs_are_valid_and_each_starts_from_the_one_before(tmp_path):
  files = story.plan(str(tmp_path), 0.05)
  made = {name: config.load(file) for name, file in files.items()}
  for c in made.values():
    config.validate(c)
  starts = {name: c.init.rpartition("/")[2] for name, c in made.items()}
  assert starts == dict(
    stage1="",
    stage2="stage1",
    digits="stage2",
    digits_scratch="",
    refer="stage2",
    refer_scratch="",
  )


def test_the_page_has_both_stages_as_one_line_and_every_score(tmp_path):
  names = ("stage1", "stage2", "digits")
  for number, name in enumerate(names):
    folder = tmp_path / name
    folder.mkdir()
    score = dict(value=0.125 + 0.25 * number, blind=0.1, n=8)
    made = json.dumps({f"task{number}": dict(exact=score)})
    (folder / "scores.json").write_text(made)
    rows = [
      {
        "step": step,
        "data/examples": 640 * number + 64 * step,
        "time/chip_hours": 0.5 * (number + step / 10),
        "train/loss": 3.0 - number,
        "train/lr" if number else "train/lr/llm": 1e-3,
      }
      for step in (1, 10)
    ]
    rows.append({"step": 10, "nll/nll": 2.0 - number})  # after the step's own
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
  lines, starts = story.one_line(tmp_path)
  assert lines["nll/nll"] == [(640, 2.0), (1280, 1.0)]
  assert [x for x, _ in lines["train/lr"]] == [64, 640, 704, 1280]
  assert lines["train/loss"] == [(64, 3.0), (640, 3.0), (704, 2.0), (1280, 2.0)]
  assert starts == [(640, "stage2")]
  text = story.write(tmp_path, names).read_text()
  for wanted in ("over examples", ">stage2<", "0.375", "0.625", "1,280"):
    assert wanted in text
  assert '<a href="digits/report.html">' in text and "1.50</td>" in text
