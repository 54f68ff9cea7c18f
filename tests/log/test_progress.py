"""The progress line and the table of parameters."""

import io
import math

import jax
import ml_dtypes
import numpy as np
import pytest

from pg.log import progress
from tests.support import screen


@pytest.fixture
def clock(monkeypatch):
  return screen.Clock(monkeypatch)


def train(clock, stream, seconds, **options):
  """Takes ten steps of `seconds` each, half of it spent waiting for data."""
  bar = progress.Steps(10, 8, file=stream, **options)
  for step in range(1, 11):
    clock.now += seconds
    bar.step(step, 1.0, waited=seconds / 2)
  return bar


def test_progress_tells_speed_waiting_and_time_left_from_the_clock(clock):
  pipe = io.StringIO()
  train(clock, pipe, 4.0).close()
  assert pipe.getvalue().splitlines() == [
    "step 1/10 10% | loss 1.000",
    "step 4/10 40% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 00:24",
    "step 7/10 70% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 00:12",
    "step 10/10 100% | loss 1.000 | 2.0 examples/s | data wait 50% | ETA 00:00",
    "step 10/10 100% | loss 1.000 | 2.0 examples/s | ETA 00:00",
  ]


def test_a_loss_that_is_not_a_number_is_shown_and_100_percent_is_the_end(clock):
  pipe = io.StringIO()
  bar = progress.Steps(3000, 1, file=pipe)
  bar.step(2999, math.nan, 0.0)
  assert pipe.getvalue() == "step 2999/3000 99% | loss nan\n"


def test_speed_is_of_late(clock):
  pipe = io.StringIO()
  bar = progress.Steps(200, 1, file=pipe)
  for step in range(1, 201):
    clock.now += 1.0 if step > 50 else 10.0
    bar.step(step, 1.0, 0.0)
  lines = pipe.getvalue().splitlines()
  assert "| 0.1 examples/s |" in lines[10]
  assert "| 1.0 examples/s |" in lines[-1]


def test_an_evaluation_does_not_count_as_slow_training(clock):
  pipe = io.StringIO()
  bar = progress.Steps(40, 8, file=pipe)
  for step in range(1, 41):
    clock.now += 1.0
    if step % 7 == 0:
      clock.now += 100.0
      bar.unpause()
      clock.now += 1.0
    bar.step(step, 1.0, 0.0)
  bar.close()
  lines = pipe.getvalue().splitlines()
  assert len(lines) > 3
  assert all("| 8.0 examples/s" in line for line in lines[1:])


def test_what_is_said_stays_above_the_line(clock):
  terminal, pipe = screen.Terminal(), io.StringIO()
  for stream in (terminal, pipe):
    bar = progress.Steps(10, 8, file=stream)
    bar.say("before")
    bar.step(1, 1.0, 0.0)
    bar.say("digits/exact 0.9")
    bar.close()
  line = "step 1/10 10% | loss 1.000"
  assert terminal.lines() == ["before", "digits/exact 0.9", line]
  assert pipe.getvalue().split("\n") == [
    "before",
    line,
    "digits/exact 0.9",
    line,
    "",
  ]


def test_the_loss_is_fetched_only_for_a_line(clock):
  class Loss:
    fetched = 0

    def __float__(self):
      Loss.fetched += 1
      return 1.0

  bar = progress.Steps(1000, 1, file=io.StringIO())
  for step in range(1, 100):
    clock.now += 0.25
    bar.step(step, Loss(), 0.0)
  assert Loss.fetched == 3


def test_other_processes_print_nothing(clock):
  pipe = io.StringIO()
  bar = train(clock, pipe, 30.0, disable=True)
  bar.unpause()
  bar.say("hello")
  bar.close()
  assert pipe.getvalue() == ""


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
