"""What a run costs, by a clock and devices of our own."""

import types

import pytest

from pg import chips
from pg.log import meter
from tests.support import screen


class Device:
  """Has the name and the memory of a device."""

  def __init__(self, kind="cpu", stats=None):
    self.device_kind, self.stats = kind, stats

  def memory_stats(self):
    return self.stats


class Devices(list):
  size = property(len)
  flat = property(list)


def run(kind="cpu", count=4, flops=1e12):
  devices = Devices(Device(kind) for _ in range(count))
  return types.SimpleNamespace(
    mesh=types.SimpleNamespace(devices=devices),
    flops=lambda num_text: flops * num_text,
  )


@pytest.fixture
def clock(monkeypatch):
  clock = screen.Clock(monkeypatch)
  monkeypatch.setattr(meter.time, "monotonic", lambda: clock.now)
  return clock


def test_speed_is_that_since_the_last_line_or_evaluation(clock):
  found = meter.Meter(run(), 8, 10, {})
  clock.now += 4.0
  found.add("data_wait", 1.0)
  assert found.speed(20) == {
    "speed/examples_per_s": 20.0,
    "speed/examples_per_s_per_chip": 5.0,
    "speed/data_wait": 0.25,
  }
  clock.now += 100.0
  found.begin(20)
  clock.now += 1.0
  found.add("data_wait", 0.5)
  line = found.speed(21)
  assert line["speed/examples_per_s"] == 8.0
  assert line["speed/data_wait"] == 0.5


def test_chips_that_are_known_tell_the_share_of_their_peak(clock):
  chip = chips.CHIPS["v5e"]
  found = meter.Meter(run(chip.kind, flops=0.01 * chip.flops), 8, 0, {})
  for num_text in 20, 80:  # steps of few and of many text positions
    found.step(num_text)
  clock.now += 4.0
  assert found.speed(2)["speed/mfu"] == pytest.approx(0.01 * 8 * 100 / 4 / 4)
  found.step(50)
  clock.now += 2.0
  assert found.speed(3)["speed/mfu"] == pytest.approx(0.01 * 8 * 50 / 2 / 4)


def test_what_a_run_has_cost_goes_on_after_a_restart(clock):
  first = meter.Meter(run(), 8, 0, {})
  clock.now += 1800.0
  with pytest.raises(KeyError), first.timed("evaluation"):
    clock.now += 600.0
    raise KeyError
  with first.timed("checkpoint"):
    clock.now += 2.0
  first.add("data_wait", 5.0)
  kept = first.spent()
  clock.now += 7200.0  # is lost
  second = meter.Meter(run(), 8, 10, kept)
  clock.now += 1198.0
  with second.timed("checkpoint"):
    pass
  assert second.spent() == pytest.approx(
    {
      "time/total": 3600.0,
      "time/data_wait": 5.0,
      "time/evaluation": 600.0,
      "time/checkpoint": 2.0,
      "time/chip_hours": 4.0,
    }
  )


def test_memory_is_that_of_the_fullest_device(monkeypatch):
  stats = [(1, 3), (2, 2)]
  devices = [
    Device(stats=dict(bytes_in_use=a * 2**30, peak_bytes_in_use=b * 2**30))
    for a, b in stats
  ]
  found = meter.memory(devices)
  assert found["memory/device"] == 2.0 and found["memory/device_peak"] == 3.0


def test_memory_of_the_process_is_told_where_devices_tell_nothing():
  before = meter.memory([Device()])
  kept = bytearray(b"1") * 2**27
  after = meter.memory([Device()])
  assert list(before) == list(after) == ["memory/host"]
  grown = after["memory/host"] - before["memory/host"]
  assert grown == pytest.approx(len(kept) / 2**30, rel=0.2)
