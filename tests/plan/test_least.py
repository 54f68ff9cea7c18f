"""What cannot fit is refused before anything is read, with ways out."""

import re

import pytest

from pg import experiment, train
from pg.plan import least, needs
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def opened():
  c = tiny.nano(evals={})
  run = experiment.open(c)
  state = train.abstract_state(c, run)
  return c, run, state


def test_a_state_that_fits_is_let_through(opened, monkeypatch):
  num = needs.on_device(opened[2]["params"])
  monkeypatch.setattr(needs, "memory", lambda on: 4.01 * num)  # Adam's
  least.check(*opened)
  monkeypatch.setattr(needs, "memory", lambda on: 3.9 * num)
  with pytest.raises(ValueError, match="a step takes at least"):
    least.check(*opened)


def test_three_ways_out_are_told_and_each_would_fit(opened, monkeypatch):
  c, run, state = opened
  num = needs.on_device(state["params"])
  monkeypatch.setattr(needs, "memory", lambda on: 3.2 * num)
  with pytest.raises(ValueError) as found:
    least.check(c, run, state)
  first, *ways = str(found.value).splitlines()
  assert first.endswith(":") and len(ways) == 3
  assert ways[0].startswith("  --config.moment_dtype=bfloat16: ")
  monkeypatch.setattr(needs, "memory", lambda on: 2.2 * num)
  with pytest.raises(ValueError) as found:
    least.check(c, run, state)
  assert "moment_dtype=bfloat16: " not in str(found.value)
  sizes = re.findall(r": ([\d.]+) MiB$", str(found.value), re.MULTILINE)
  assert len(sizes) == 2
  assert all(float(x) <= 2.2 * num / 2**20 for x in sizes)
  monkeypatch.setattr(needs, "memory", lambda on: 0.1 * num)
  with pytest.raises(ValueError, match=r":\n  \d+ of these devices or more$"):
    least.check(c, run, state)


def test_training_is_refused_before_its_folder_is_made(monkeypatch, tmp_path):
  monkeypatch.setattr(needs, "memory", lambda on: 1000)
  with pytest.raises(ValueError, match="a step takes at least"):
    train.fit(tiny.nano(), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()
