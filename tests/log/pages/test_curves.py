"""Ticks, labels and lines of the curves in a report."""

import math
import re

import numpy as np
import pytest

from pg.log.pages import curves


@pytest.mark.parametrize(
  "low, high, expected",
  [
    (0, 1, [0, 0.5, 1]),
    (0.3, 2.1, [0, 1, 2, 3]),
    (0, 3000, [0, 1000, 2000, 3000]),
    (0, 0.1 * 3, [0, 0.1, 0.2, 0.3]),  # a little above 0.3
    (0, 4, [0, 1, 2, 3, 4]),
    (-1.2, 1.9, [-2, -1, 0, 1, 2]),
    (0, 0.0015, [0, 0.0005, 0.001, 0.0015]),
    (97, 99, [97, 97.5, 98, 98.5, 99]),
  ],
)
def test_ticks_are_few_round_numbers_around_the_data(low, high, expected):
  assert curves.ticks(low, high, 4) == expected


def test_ticks_hold_for_any_range():
  rng = np.random.default_rng(0)
  for _ in range(300):
    low = rng.normal() * 10 ** rng.uniform(-8, 8)
    high = low + abs(low) * 10 ** rng.uniform(-4, 4)
    found = curves.ticks(low, high, 4)
    assert 2 <= len(found) <= 5
    assert found[0] <= low + 1e-6 * abs(low)
    assert found[-1] >= high - 1e-6 * abs(high)


@pytest.mark.parametrize(
  "values, expected",
  [
    ([0, 0.5, 1], ["0.0", "0.5", "1.0"]),
    ([-1, 0, 1], ["−1", "0", "1"]),
    ([0, 5000], ["0", "5,000"]),
    ([0, 20000, 40000], ["0", "20k", "40k"]),
    ([0, 0.0005], ["0", "5·10⁻⁴"]),
    ([0, 2.5e7], ["0", "2.5·10⁷"]),
  ],
)
def test_tick_labels_are_short_and_alike(values, expected):
  assert curves.labels(values) == expected


@pytest.mark.parametrize(
  "value, text",
  [
    (0.36649, "0.366"),
    (1500, "1,500"),
    (6.6e-9, "6.6·10⁻⁹"),
    (-0.5, "−0.500"),
    (math.nan, "nan"),
  ],
)
def test_one_value_is_written_with_the_digits_it_deserves(value, text):
  assert curves.label(value) == text


def test_a_curve_runs_from_axis_to_axis():
  svg = curves.chart("loss", [(100, 1.0), (0, 0.0), (50, 0.5)])
  left, right = curves.LEFT, curves.WIDTH - curves.RIGHT
  top, bottom = curves.TOP, curves.HEIGHT - curves.BOTTOM
  middle = ((left + right) / 2, (top + bottom) / 2)
  points = re.search('<polyline class="line" points="(.*?)"', svg)[1]
  assert [tuple(map(float, p.split(","))) for p in points.split()] == [
    (left, bottom),
    middle,
    (right, top),
  ]


def test_curves_of_a_run_share_the_axis_of_its_last_step():
  svg = curves.chart("loss", [(0, 0.0), (50, 1.0)], last_step=100)
  points = re.search('<polyline class="line" points="(.*?)"', svg)[1]
  middle = (curves.LEFT + curves.WIDTH - curves.RIGHT) / 2
  assert float(points.split()[-1].split(",")[0]) == middle


def test_long_curves_are_means_in_a_band():
  rng = np.random.default_rng(0)
  points = [(i, float(v)) for i, v in enumerate(rng.uniform(size=100_000))]
  svg = curves.chart("noise", points)
  assert len(svg) < 10_000
  assert svg.count("<polygon") == 1
  line = re.search('<polyline class="line" points="(.*?)"', svg)[1]
  assert len(line.split()) == curves.BINS


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0, 1e-9])
def test_constant_and_single_points_can_be_drawn(value):
  for points in ([(0, value)], [(7, value), (8, value)]):
    svg = curves.chart("constant", points)
    assert "nan" not in svg and "inf" not in svg


def test_a_curve_without_a_finite_point_is_refused():
  with pytest.raises(ValueError, match="'loss' has no finite"):
    curves.chart("loss", [(1, math.nan)])
