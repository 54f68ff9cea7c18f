"""Progress bars: in place on a terminal, now and then elsewhere."""

import io

import pytest

from pg import progress
from tests.support import screen


@pytest.fixture
def clock(monkeypatch):
  return screen.Clock(monkeypatch)


def work(clock, stream, seconds, **options):
  bar = progress.Bar(range(30), file=stream, unit=" rows", **options)
  for _ in bar:
    clock.now += seconds


def test_a_pipe_gets_a_line_every_ten_seconds(clock):
  pipe = io.StringIO()
  work(clock, pipe, 1.0, leave=False)
  lines = pipe.getvalue().splitlines()
  assert [line.split("| ")[-1] for line in lines] == [
    "10/30 [00:10<00:20,  1.00 rows/s]",
    "20/30 [00:20<00:10,  1.00 rows/s]",
    "30/30 [00:30<00:00,  1.00 rows/s]",
  ]
  assert "\r" not in pipe.getvalue()


def test_a_terminal_has_one_line_of_its_width(clock, monkeypatch):
  terminal = screen.Terminal()
  work(clock, terminal, 1.0)
  (line,) = terminal.lines()
  assert line.startswith("100%") and "30/30" in line
  assert terminal.getvalue().count("\r") > 20


def test_work_of_no_time_shows_nothing(clock):
  for stream in (io.StringIO(), screen.Terminal()):
    work(clock, stream, 0.001)
    assert stream.getvalue() == ""


def test_a_bar_that_is_not_left_goes_away(clock):
  terminal = screen.Terminal()
  work(clock, terminal, 1.0, leave=False)
  assert terminal.lines() == [""]
