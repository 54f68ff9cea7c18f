"""The runs that make the model that comes with pg, and its mixture."""

import json

import pytest

from configs import mix
from pg import config
from scripts import train_nano
from tests.support import paths


def test_its_configs_are_valid_and_each_starts_from_the_one_before(tmp_path):
  files = train_nano.plan(str(tmp_path), 0.05)
  made = {k: config.load(f"{paths.ROOT}/{f}") for k, f in files.items()}
  for c in made.values():
    config.validate(c)
    assert (c.model.variant, c.res, c.text_len) == ("nano_2m", 96, 36)
    assert {d.free for d in c.data.values()} == {0.25}
  starts = {k: (c.init, c.init_optimizer) for k, c in made.items()}
  assert starts == dict(
    stage1=("", False),
    stage2=(f"{tmp_path}/stage1", True),
    mix=(f"{tmp_path}/stage2", False),
  )
  assert [c.total for c in made.values()] == ["16000 ex", "3200 ex", "16000 ex"]


def test_the_mixture_has_all_tasks_and_its_own_weights():
  c = config.load(f"{paths.ROOT}/configs/mix.py")
  assert {k: d.weight for k, d in c.data.items()} == mix.WEIGHTS
  assert sum(mix.WEIGHTS.values()) == pytest.approx(1)
  held_out = c.evals.caption_combo, c.evals.answer_template
  assert [e.split for e in held_out] == ["combo", "template"]
  assert dict(c.schedule) == {".*": "linear"}


def test_the_mixture_of_released_sizes_is_another_file():
  with pytest.raises(ValueError, match="size=pg2_3b: .* is transfers/mix.py"):
    config.load(f"{paths.ROOT}/configs/mix.py:size=pg2_3b")


def test_the_card_says_what_it_took_and_what_it_scores(tmp_path):
  for name, examples, hours in (
    ("stage2", 384_000, 1.0),
    ("mix", 128_000, 0.5),
  ):
    folder = tmp_path / name
    (folder / "checkpoints" / "5" / "state").mkdir(parents=True)
    (folder / "checkpoints" / "5" / "commit_success.txt").touch()
    row = {"step": 5, "data/examples": examples, "time/chip_hours": hours}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    made = dict(init=str(tmp_path / "stage2") if name == "mix" else "")
    (folder / "config.json").write_text(json.dumps(dict(made, res=96)))
    score = dict(value=0.5, low=0.25, high=0.75, blind=0.125, n=256)
    made = dict(hand_caption=dict(exact=score))
    (folder / "scores.json").write_text(json.dumps(made))
  (tmp_path / "nano").mkdir()
  train_nano.write_card(tmp_path / "nano", tmp_path)
  text = (tmp_path / "nano/README.md").read_text()
  for wanted in (
    "1.7 M parameters",
    "512,000 examples",
    "in 1.50 hours",
    "| hand_caption | exact | 0.5 | 0.25 to 0.75 | 0.125 | 256 |",
    "from its very start",
  ):
    assert wanted in text
  assert str(tmp_path) not in text and "from_pretrained" not in text
