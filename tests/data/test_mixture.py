"""The place of a row in a mixture follows from its weights and a seed."""

import numpy as np
import pytest

from pg.data import mixture


@pytest.mark.parametrize("n", (1, 2, 3, 5, 16, 17, 100, 1000))
def test_an_order_has_every_row_once(n):
  order = [mixture.shuffled(place, n, 7) for place in range(n)]
  assert sorted(order) == list(range(n))
  assert n < 5 or order != sorted(order)


@pytest.mark.parametrize("n", (2, 5, 30))
def test_every_row_is_equally_often_at_every_place_and_behind_every_other(n):
  at, behind = np.zeros((n, n)), np.zeros((n, n))
  num = 1000
  for key in range(num):
    order = [mixture.shuffled(place, n, 0, key) for place in range(n)]
    at[np.arange(n), order] += 1
    behind[order[:-1], order[1:]] += 1
  # Chi-squared has n * n degrees of freedom, about.
  want = num / n
  assert ((at - want) ** 2 / want).sum() < n * n + 5 * np.sqrt(2) * n
  off = ~np.eye(n, dtype=bool)
  assert ((behind - want)[off] ** 2 / want).sum() < n * n + 5 * np.sqrt(2) * n


@pytest.mark.parametrize(
  "weights", [(3, 1), (0.35, 0.13, 0.05, 0.47), (1, 1.005), (1e-3, 1), (2,)]
)
def test_each_dataset_has_its_share_of_every_beginning_of_the_stream(weights):
  mixed = mixture.Mixture(weights)
  counts = [0] * len(weights)
  for k in range(2500):
    number, before = mixed[k]
    assert before == counts[number]
    counts[number] += 1
    assert mixed.counts(k + 1) == counts
    for count, weight in zip(counts, weights):
      assert abs(count - (k + 1) * weight / sum(weights)) < len(weights)


def test_shares_are_exact_where_they_are_whole_numbers():
  mixed = mixture.Mixture([0.35, 0.13, 0.05, 0.47])
  assert mixed.counts(10**12 * 100) == [n * 10**12 for n in (35, 13, 5, 47)]
  assert mixture.Mixture([1, 1.005]).counts(401) == [200, 201]


def test_no_place_is_next_to_its_replacement_and_all_are_met():
  for n in range(1, 300):
    step = mixture.stride(n)
    assert len({step * r % n for r in range(n)}) == n
    assert n < 50 or n // 4 < step < n - n // 4
