"""The runs that make the model that comes with pg, and its mixture."""

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
  assert [c.total for c in made.values()] == ["16000 ex", "3200 ex", "6400 ex"]


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
