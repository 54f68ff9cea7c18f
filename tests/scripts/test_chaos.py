"""The script that damages runs: it finds what it is to find."""

import json
import random
import subprocess
import sys

import pytest

from scripts import chaos
from scripts.chaos import __main__ as entry
from scripts.chaos import nonsense
from tests.support import paths


def test_damage_is_damage_and_the_same_again():
  data = bytes(range(256)) * 40
  for i in range(200):
    rng = chaos.rng_of(0, "x", i)
    found = chaos.mutate(rng, data)
    assert found[0] != data or "zeros" in found[1]
    assert found == chaos.mutate(chaos.rng_of(0, "x", i), data)


def test_values_are_replaced_anywhere():
  def changed(i):
    tree = {"a": [1, {"b": 2}], "c": "x"}
    what = chaos.replace_value(random.Random(i), tree)
    return what.split(" ")[0], json.dumps(tree)

  found = dict(map(changed, range(100)))
  assert set(found) == {"/a", "/a/0", "/a/1", "/a/1/b", "/c"}
  assert len(set(found.values())) == 5


def test_what_a_person_is_told_is_judged():
  assert chaos.complaint(ValueError("lr is -1; it is at least 0")) == ""
  assert "raw KeyError" in chaos.complaint(KeyError("x"))
  assert "a message of 0" in chaos.complaint(OSError(""))


def test_a_try_is_bounded_in_time_and_memory():
  def spin():
    while True:
      pass

  assert chaos.bounded(lambda: 3) == (3, None)
  _, error = chaos.bounded(spin, seconds=0.05)
  assert isinstance(error, chaos.TooLong)
  _, error = chaos.bounded(bytearray, chaos.BYTES + (1 << 30))
  assert isinstance(error, MemoryError)


@pytest.mark.parametrize(
  "key, value, meant",
  (
    ("lr", -1.0, False),
    ("lr", float("inf"), False),
    ("batch_size", 0, False),
    ("total", 0, True),
    ("label_smoothing", 1.0, False),
    ("mesh.fsdp", -1, True),
    ("lr", None, False),
    ("model.window", None, True),
    ("optimizer", "nonsense", False),
  ),
)
def test_nonsense_is_known(key, value, meant):
  assert nonsense.nonsense(key, value) is not meant


def test_the_table_counts_each_row(capsys):
  row = chaos.Row("kill -9")
  row.settle("1", None)
  row.settle("2", ValueError("too small"))
  row.settle("3", KeyError("x"))
  row.notes["saving"] += 2
  head, line = entry.table([row])
  assert line.split() == "kill -9 1 raw KeyError, 2 saving 1 1 1 0".split()


@pytest.mark.slow
def test_the_short_form_finds_nothing():
  command = [sys.executable, "-m", "scripts.chaos", "--short"]
  done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout
  names = [line.split("  ")[0] for line in done.stdout.splitlines()]
  assert "kill -9" in names and "config values" in names
