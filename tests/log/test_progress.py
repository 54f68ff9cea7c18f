"""The progress line and the table of parameters."""

import io
import math

import jax
import ml_dtypes
import numpy as np
import pytest

from pg.log import progress


def test_the_progress_line_is_as_documented():
  line = progress.format_line(1200, 3000, 0.5321, 183.2, 0.018, 190)
  assert line == (
    "step 1200/3000 40% | loss 0.532 | 183 examples/s | data wait 2% | ETA"
    " 3m10s"
  )
  line = progress.format_line(2999, 3000, math.nan, 0.52, math.nan, math.nan)
  assert line == "step 2999/3000 99% | loss nan | 0.5 examples/s"


@pytest.mark.parametrize(
  "seconds, text",
  [
    (0, "0s"),
    (59.4, "59s"),
    (59.6, "1m00s"),
    (190, "3m10s"),
    (7500, "2h05m"),
    (86400 * 3 + 3600 * 4, "3d04h"),
  ],
)
def test_durations_have_two_units(seconds, text):
  assert progress.duration(seconds) == text


class Terminal(io.StringIO):
  def isatty(self):
    return True


def run_progress(stream, seconds, **kw):
  """Runs ten steps of `seconds` each, half of it spent waiting for data."""
  now = [1000.0]
  shown = progress.Progress(10, 8, stream=stream, clock=lambda: now[0], **kw)
  for step in range(1, 11):
    now[0] += seconds
    shown.update(step, 1.0, waited=seconds / 2)
  return shown


def test_progress_tells_speed_waiting_and_time_left_from_the_clock():
  stream = io.StringIO()
  run_progress(stream, 4.0, every=16.0)
  assert stream.getvalue().splitlines() == [
    "step 1/10 10% | loss 1.000",
    "step 5/10 50% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 20s",
    "step 9/10 90% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 4s",
    "step 10/10 100% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 0s",
  ]


def test_progress_forgets_what_is_longer_ago_than_its_window():
  stream, now = io.StringIO(), [0.0]
  shown = progress.Progress(100, 1, stream=stream, clock=lambda: now[0])
  for step in range(1, 101):
    now[0] += 1.0 if step > 50 else 10.0
    shown.update(step, 1.0)
  lines = stream.getvalue().splitlines()
  assert "| 0.1 examples/s |" in lines[10]
  assert "| 1.0 examples/s |" in lines[-1]


def test_an_evaluation_does_not_count_as_slow_training():
  stream, now = io.StringIO(), [0.0]
  shown = progress.Progress(4, 8, stream=stream, clock=lambda: now[0])
  for step, second in enumerate([1, 2, 20, 21], start=1):
    now[0] = second
    if second == 20:
      shown.restart()
    shown.update(step, 1.0)
  assert "| 8.0 examples/s |" in stream.getvalue().splitlines()[-1]


def test_progress_rewrites_one_line_on_a_terminal():
  stream = Terminal()
  shown = run_progress(stream, 1.0)
  assert "\n" not in stream.getvalue()
  assert stream.getvalue().count("\r\x1b[2K") == 10
  shown.say("digits/exact 0.9")
  assert stream.getvalue().endswith("\r\x1b[2Kdigits/exact 0.9\n")
  shown.close()
  assert stream.getvalue().endswith("0.9\n")


def test_a_line_wider_than_the_terminal_is_cut(monkeypatch):
  monkeypatch.setenv("COLUMNS", "20")
  stream = Terminal()
  run_progress(stream, 1.0).close()
  lines = stream.getvalue().split("\r\x1b[2K")[1:]
  assert max(len(line.rstrip("\n")) for line in lines) == 19


def test_the_loss_is_fetched_only_for_a_line():
  class Loss:
    fetched = 0

    def __float__(self):
      Loss.fetched += 1
      return 1.0

  now = [0.0]
  shown = progress.Progress(1000, 1, stream=io.StringIO(), clock=lambda: now[0])
  for step in range(1, 100):
    now[0] += 0.25
    shown.update(step, Loss())
  assert Loss.fetched == 3


def test_other_processes_print_nothing():
  stream = io.StringIO()
  run_progress(stream, 30.0, enabled=False).say("hello")
  assert stream.getvalue() == ""


def test_the_parameter_overview_is_an_aligned_table_with_a_total():
  params = {
    "llm": {"embedder": {"input_embedding": np.zeros((1500, 8), np.float32)}},
    "img": {"bias": np.zeros((8,), ml_dtypes.bfloat16), "scale": np.float32(1)},
  }
  assert progress.parameter_overview(params).splitlines() == [
    "name                           shape  dtype      count",
    "------------------------------------------------------",
    "img/bias                           8  bfloat16       8",
    "img/scale                     scalar  float32        1",
    "llm/embedder/input_embedding  1500x8  float32   12,000",
    "------------------------------------------------------",
    "total                                           12,009",
  ]


def test_the_parameter_overview_works_without_arrays():
  def init():
    return {"a": {"w": jax.numpy.ones((3, 4))}}

  table = progress.parameter_overview(jax.eval_shape(init))
  assert table == progress.parameter_overview(init())


def test_the_parameter_overview_can_tell_mean_and_deviation():
  # In bfloat16 this sum would stop growing at 256.
  ones = np.ones((4000,), ml_dtypes.bfloat16)
  ones[::2] = 3
  table = progress.parameter_overview({"w": ones}, stats=True)
  assert table.splitlines()[0].split()[-2:] == ["mean", "std"]
  assert table.splitlines()[2].split()[-2:] == ["2", "1"]
