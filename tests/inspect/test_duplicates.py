"""Rows that share something are found, whatever their number and order."""

import collections
import tracemalloc

import numpy as np
import pytest

from pg.inspect import duplicates

TRAIN = {0, 2}


def compared(rows, training=TRAIN):
  """Compares rows (dataset, index, images, prompt, answer); by kind."""
  result = duplicates.RowIndex()
  for dataset, index, images, prompt, answer in rows:
    digests = [duplicates.digest(str(image)) for image in images]
    result.add(dataset, index, digests, prompt, answer)
  found = collections.defaultdict(list)
  for kind, *rest in result.compare(training):
    found[kind].append(tuple(rest))
  return found


@pytest.mark.parametrize("seed", range(20))
def test_what_is_shared_is_found_as_by_comparing_all_pairs(seed):
  rng = np.random.default_rng(seed)
  rows = [
    (
      int(rng.integers(4)),
      index,
      [int(x) for x in rng.integers(12, size=rng.integers(3))],
      f"prompt {rng.integers(2)}",
      f"answer {rng.integers(3)}",
    )
    for index in range(40)
  ]
  train = [row for row in rows if row[0] in TRAIN]
  test = [row for row in rows if row[0] not in TRAIN]
  asked = {(tuple(row[2]), row[3]) for row in train}
  pictured = {image for row in train for image in row[2]}
  expected = collections.defaultdict(set)
  for row in test:
    if (tuple(row[2]), row[3]) in asked:
      expected["shared_question"].add(row[:2])
    elif pictured & set(row[2]):
      expected["shared_image"].add(row[:2])
  first, told = {}, set()
  for row in train:
    question = tuple(row[2]), row[3]
    if first.setdefault(question, row[4]) != row[4]:
      expected["contradiction"].add(row[:2])
    if (question, row[4]) in told:
      expected["duplicate"].add(row[:2])
    told.add((question, row[4]))
  found = compared(rows)
  for kind in ("shared_question", "shared_image", "contradiction", "duplicate"):
    places = [place[:2] for place in found[kind]]
    assert len(places) == len(set(places))
    assert set(places) == expected[kind], kind
  counts = collections.Counter((row[0], row[4]) for row in train)
  common = sorted(n for n in counts.values() if n > 1)
  assert sorted(n for *_, n in found["repeated_suffix"]) == common


def test_a_match_is_a_row_that_is_the_same():
  rows = [
    (0, 5, ["a"], "p", "yes"),
    (2, 6, ["b"], "p", "yes"),
    (0, 7, ["a"], "p", "no"),
    (0, 8, ["a"], "p", "no"),
    (1, 9, ["b"], "q", "no"),
    (1, 3, ["a"], "p", "no"),
  ]
  found = compared(rows)
  assert found["contradiction"] == [(0, 7, (0, 5), 1), (0, 8, (0, 5), 1)]
  assert found["duplicate"] == [(0, 8, (0, 7), 1)]
  assert found["shared_image"] == [(1, 9, (2, 6), 1)]
  assert [row[:2] for row in found["shared_question"]] == [(1, 3)]


def test_nothing_is_shared_without_training_data_or_rows():
  assert not compared([])
  assert not compared([(1, 0, ["a"], "p", "x"), (1, 1, ["a"], "p", "x")])


def test_a_digest_tells_things_apart():
  pixels = np.zeros((2, 3, 3), np.uint8)
  things = [(b"a",), ("b",), (b"a", 1), (1,), (pixels,), (pixels[:1],)]
  things += [(pixels.transpose(1, 0, 2),), (pixels + 1,)]
  digests = [duplicates.digest(*thing) for thing in things]
  assert len(set(digests)) == len(things)
  assert duplicates.digest(pixels) == duplicates.digest(pixels[:, ::-1])
  assert all(0 <= digest < 2**64 for digest in digests)


def test_a_row_takes_40_bytes():
  result = duplicates.RowIndex()
  tracemalloc.start()
  for i in range(20_000):
    result.add(0, i, [i], "a long prompt" * 10, "a long answer" * 10)
  used, _ = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert used < 50 * 20_000
