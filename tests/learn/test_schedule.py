"""Schedules at their corners, each alone and what rules add to them."""

import functools

import jax.numpy as jnp
import pytest

from pg import config
from pg.learn import schedule


def make(rule, total, warmup=0):
  """Makes a schedule of a run with batches of 100 examples."""
  steps = functools.partial(config.steps, batch_size=100, total=total)
  return schedule.make(rule, total, steps, warmup)


def values(rule, total, at, warmup=0):
  return [float(make(rule, total, warmup)(jnp.int32(t))) for t in at]


@pytest.mark.parametrize(
  "kind, want",
  (
    ("constant", {0: 0, 2: 0.5, 4: 1, 12: 1, 20: 1, 99: 1}),
    ("linear", {0: 0, 2: 0.5, 4: 1, 12: 0.5, 20: 0, 99: 0}),
    ("cosine", {0: 0, 2: 0.5, 4: 1, 8: 0.853553, 12: 0.5, 20: 0, 99: 0}),
    # big_vision's: 1 / sqrt(1 + (t - warmup) / 10,000).
    ("rsqrt", {0: 0, 2: 0.5, 4: 1, 54: 0.997509, 10_004: 0.5**0.5}),
    ("rsqrt", {30_004: 0.5, 150_004: 0.25}),
  ),
)
def test_a_schedule_warms_up_and_then_has_its_shape(kind, want):
  factor = make(kind, 20, 4)
  have = {t: float(factor(jnp.int32(t))) for t in want}
  assert have == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("kind", ("constant", "linear", "cosine", "rsqrt"))
def test_without_a_warmup_the_first_step_is_a_whole_one(kind):
  assert float(make(kind, 20, 0)(0)) == 1


@pytest.mark.parametrize("warmup", (0, 1, 100))
def test_the_pretraining_schedule_falls_alike_after_any_warmup(warmup):
  factor = make("rsqrt", 150, warmup)
  assert float(factor(warmup + 50)) == pytest.approx(1.005**-0.5)


@pytest.mark.parametrize("kind", ("constant", "linear", "cosine", "rsqrt"))
def test_a_warmup_of_the_whole_run_only_rises(kind):
  factor = make(kind, 4, 4)
  assert [float(factor(t)) for t in range(4)] == [0, 0.25, 0.5, 0.75]


def test_the_tower_of_stage_1_warms_up_on_its_own():
  """A line to the whole rate while the decoder follows its curve already."""
  tower = dict(kind="rsqrt", delay="1k ex", warmup="4k ex")
  have = values(tower, 1000, (0, 10, 20, 30, 50, 10_050), warmup=7)
  assert have == pytest.approx([0, 0, 0.25, 0.5, 1, 0.5**0.5])
  # Without a warm-up of its own it has the config's.
  have = values(dict(kind="constant"), 1000, (0, 1, 2, 3), warmup=2)
  assert have == pytest.approx([0, 0.5, 1, 1])


@pytest.mark.parametrize("kind", ("constant", "rsqrt", "cosine"))
def test_a_cooldown_ends_at_zero(kind):
  plain = values(kind, 40, (30, 35, 38, 40))
  cooled = values(dict(kind=kind, cooldown=10), 40, (30, 35, 38, 40))
  line = (1, 0.5, 0.2, 0)
  assert cooled == pytest.approx([x * y for x, y in zip(plain, line)])


def test_a_curve_goes_on_from_one_stage_to_the_next():
  """Whatever the batches of the two: the curve is one of examples."""
  first = dict(kind="rsqrt", timescale="1M ex")
  whole = values(first, 40_000, (20_000, 25_000), warmup=10_000)
  steps = functools.partial(config.steps, batch_size=50, total=10_000)
  second = dict(first, start="1M ex")  # 10,000 of 100 after the warm-up
  curve = schedule.make(second, 10_000, steps, 0)
  assert [float(curve(0)), float(curve(10_000))] == pytest.approx(whole)


def test_a_tower_that_warms_up_longer_meets_the_curve_of_the_rest():
  rest = dict(kind="rsqrt", timescale=40)
  tower = dict(rest, warmup=100, start=100 - 20)
  at = (100, 150, 500)
  assert values(tower, 500, at) == pytest.approx(values(rest, 500, at, 20))
  (before, half) = values(tower, 500, (99, 50))
  assert half == pytest.approx(3**-0.5 / 2) and before < 3**-0.5


def test_poly_and_stair():
  have = values(dict(kind="poly", power=3), 20, (0, 5, 10, 20))
  assert have == pytest.approx([1, 0.75**3, 0.125, 0])
  steps = dict(kind="stair", at=("50%", "80%"), mults=(0.1, 0.01), warmup=2)
  have = values(steps, 20, (0, 1, 2, 9, 10, 15, 16, 20))
  assert have == pytest.approx([0, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
  "rule, said",
  (
    (dict(kind="cosin"), 'unknown schedule "cosin"; did you mean "cosine"'),
    (
      dict(kind="rsqrt", warm=3),
      'unknown key of schedule \'rsqrt\' "warm"; did you mean "warmup"',
    ),
    (dict(kind="cosine", power=2), "unknown key of schedule 'cosine'"),
    (dict(warmup=3), "unknown schedule"),
    (
      dict(kind="cosine", delay="30%", warmup="60%", cooldown="20%"),
      "'cosine' are 6, 12 and 4 steps: wanted at most total, 20",
    ),
    (dict(kind="stair", at=(3, 5), mults=(0.1,)), "has 2 times .* and 1 fac"),
    (dict(kind="stair", at=(5, 3), mults=(0.1, 1)), "in their order"),
  ),
)
def test_a_rule_that_cannot_be_is_an_error(rule, said):
  with pytest.raises(ValueError, match=said):
    make(rule, 20)
