"""What stands at a position of the stream depends on seed and position alone:
not on threads, workers, caches or hosts, and not on rows that are left out.
"""

import collections
import itertools

import grain
import jax
import numpy as np
import pytest

from pg import pp, sharding
from pg.data import bad as bad_lib
from pg.data import cache, evaluation, options, prefix_lm, stream
from pg.log import run
from tests.support import numbers

form, registered = numbers.form, numbers.registered

SKIP = options.Options(bad=bad_lib.Policy(True, 0.5))
MIX = dict(
  a=dict(source="numbers", size=10, weight=3),
  b=dict(source="numbers", size=100, start=100, weight=1, pp="draw"),
)
# Half of a is skipped by its own ops, two rows of b are bad.
HOLES = dict(
  a=dict(source="numbers", size=10, weight=3, pp="keep_even"),
  b=dict(
    source="numbers",
    size=40,
    start=100,
    weight=1,
    bad=[5],
    gone=[17],
    pp="draw",
  ),
)


# Order and randomness.


def test_a_seed_fixes_order_and_draws():
  data = numbers.datasets(MIX)
  once = numbers.items(data)
  assert once == numbers.items(data)
  assert once != numbers.items(data, seed=1)


def test_what_is_drawn_for_a_row_depends_on_the_seed():
  data = numbers.datasets(MIX["b"])
  once, again, other = (
    {i: text for _, i, text in numbers.items(data, seed)} for seed in (0, 0, 1)
  )
  assert once == again
  assert not any(once[i] == other[i] for i in range(100))


def test_each_epoch_has_every_row_once_in_another_order():
  rows = [i for _, i, _ in numbers.items(numbers.datasets(MIX["a"]), stop=30)]
  epochs = rows[:10], rows[10:20], rows[20:]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert epochs[0] != epochs[1]


def test_datasets_of_a_mixture_have_orders_of_their_own():
  same = dict(source="numbers", size=100)
  found = numbers.items(numbers.datasets(dict(a=same, b=same)), stop=200)
  a, b = ([i for number, i, _ in found if number == k] for k in (0, 1))
  assert len(a) == len(b) == 100 and a != b


def test_draws_differ_between_rows_and_epochs():
  found = numbers.items(numbers.datasets(MIX["b"]), stop=200)
  assert len({text for _, _, text in found}) == 200


def test_orders_of_neighbouring_seeds_are_not_shifted_epochs():
  data = numbers.datasets(dict(source="numbers", size=100))
  epochs = [
    tuple(i for _, i, _ in numbers.items(data, seed, start=at, stop=at + 100))
    for seed in range(3)
    for at in (0, 100, 200)
  ]
  assert len(set(epochs)) == 9


# Weights.


def test_rows_that_are_left_out_do_not_change_the_weights():
  data = numbers.datasets(HOLES)
  found = numbers.items(data, skip_bad=True, stop=400)
  assert [n for n, _, _ in found] == [
    n for n, _, _ in numbers.items(numbers.datasets(MIX), stop=400)
  ]
  rows = collections.defaultdict(set)
  for number, i, _ in found:
    rows[number].add(i)
  assert rows[0] == {0, 2, 4, 6, 8}
  assert rows[1] == set(range(40)) - {5, 17}


def test_replacements_are_of_the_same_epoch_and_leave_the_others_alone():
  whole = numbers.datasets(dict(source="numbers", size=40))
  holes = numbers.datasets(dict(source="numbers", size=40, bad=[5, 6]))
  want = numbers.items(whole, stop=80)
  found = numbers.items(holes, skip_bad=True, stop=80)
  assert [a == b for a, b in zip(want, found)] == [
    i not in (5, 6) for _, i, _ in want
  ]


def test_a_replacement_does_not_repeat_what_is_near():
  data = numbers.datasets(dict(source="numbers", size=40, bad=[5]))
  rows = [i for _, i, _ in numbers.items(data, skip_bad=True, stop=120)]
  for epoch in (rows[:40], rows[40:80], rows[80:]):
    first, second = (k for k in range(40) if epoch.count(epoch[k]) == 2)
    assert second - first > 9


def test_a_dataset_without_a_usable_row_is_an_error():
  spec = dict(source="numbers", start=1, size=1, pp="keep_even")
  with pytest.raises(ValueError, match="numbers: none of 1 rows in turn"):
    numbers.items(numbers.datasets(spec))
  spec = dict(source="numbers", size=2, bad=[0, 1])
  with pytest.raises(ValueError, match="the last bad one: numbers:[01]: no nu"):
    numbers.items(numbers.datasets(spec), skip_bad=True)


def test_counts_and_epochs_follow_from_the_position():
  data = numbers.datasets(HOLES)
  found = numbers.items(data, skip_bad=True, stop=37)
  a = sum(number == 0 for number, _, _ in found)
  assert run.seen(data, 37) == {
    "data/a/examples": a,
    "data/a/epoch": a / 10,
    "data/b/examples": 37 - a,
    "data/b/epoch": (37 - a) / 40,
  }


# Batches, hosts and workers.


def test_batches_follow_the_stream(form):
  data = numbers.datasets(MIX)
  found = stream.train_batches(data, form, 0, 8, start=16, stop=34)
  (first, _), (second, _) = found  # and no third one, of two examples
  got = [*zip(first["source"], first["index"])]
  got += [*zip(second["source"], second["index"])]
  assert got == [(n, i) for n, i, _ in numbers.items(data, start=16, stop=32)]
  assert first["image"].shape == (8, 1, 8, 8, 3)
  assert first["image"].dtype == np.uint8


@pytest.mark.parametrize("num_hosts", (2, 3, 4))
def test_the_rows_of_hosts_make_the_batch_of_one(form, num_hosts):
  data = numbers.datasets(HOLES)
  read = lambda: numbers.batches(data, form, options=SKIP)
  parts = numbers.hosts(num_hosts, read)
  for step, (rows, bad) in enumerate(read()):
    for key in rows:
      assert b"".join(part[step][0][key] for part in parts) == rows[key]
    assert sum((part[step][1] for part in parts), []) == bad


def test_a_batch_that_hosts_cannot_share_is_refused(form):
  read = lambda: stream.train_batches(numbers.datasets(MIX), form, 0, 8)
  with pytest.raises(ValueError, match="8 is not divisible by the 3 .*try 6"):
    numbers.hosts(3, read)


@pytest.mark.parametrize(
  "change",
  [
    dict(num_threads=1, prefetch=1),
    dict(cache="raw"),
    dict(cache="raw", cache_gb=0),
  ],
)
def test_how_rows_are_read_does_not_change_them(form, change):
  data = numbers.datasets(HOLES)
  read = lambda o: numbers.batches(data, form, num=8, options=o)
  assert read(SKIP._replace(**change)) == read(SKIP)


@pytest.mark.parametrize("num_hosts", (1, 2, 3, 4))
def test_an_evaluation_sees_each_row_once_on_any_number_of_hosts(
  form, num_hosts
):
  spec = dict(source="numbers", size=31, bad=[4], gone=[30], pp="keep_even")
  (data,) = numbers.datasets(spec)
  read = lambda: list(
    evaluation.eval_batches(data, form, prefix_lm.train_row, 12, options=SKIP)
  )
  parts = numbers.hosts(num_hosts, read)
  assert [len(part) for part in parts] == [3] * num_hosts
  seen, bad = [], []
  for rows, left_out, examples in itertools.chain(*parts):
    real = rows["index"][rows["index"] >= 0]
    assert len(rows["index"]) == 12 // num_hosts
    assert [e["suffix"] for e in examples] == [str(i) for i in real]
    seen += real.tolist()
    bad += [b.row for b in left_out]
  assert sorted(seen) == [i for i in range(0, 30, 2) if i != 4]
  assert sorted(bad) == [4, 30]


def test_an_evaluation_can_be_of_the_first_rows_only(form):
  (data,) = numbers.datasets(dict(source="numbers"))
  ((rows, _, examples),) = evaluation.eval_batches(
    data, form, prefix_lm.train_row, 4, 3
  )
  assert rows["index"].tolist() == [0, 1, 2, -1] and len(examples) == 3


def test_the_rows_on_the_devices_are_those_that_were_read(form):
  data, mesh = numbers.datasets(MIX), sharding.make_mesh(dict(fsdp=-1))
  read = lambda: stream.train_batches(data, form, 0, 8, stop=24)
  found = list(stream.on_devices(read(), mesh))
  assert len(found) == 3
  for (rows, _, batch), (want, _) in zip(found, read()):
    for key in want:
      np.testing.assert_array_equal(rows[key], want[key])
      np.testing.assert_array_equal(jax.device_get(batch[key]), want[key])


def test_the_next_batch_is_read_ahead_and_its_error_comes_when_it_is_due():
  taken = []

  def read():
    for i in range(3):
      taken.append(i)
      if i == 2:
        raise ValueError("batch 2")
      yield ({"x": np.full(8, i)},)

  mesh = sharding.make_mesh(dict(fsdp=-1))
  ahead = stream.on_devices(read(), mesh)
  assert next(ahead)[0]["x"][0] == 0
  assert next(ahead)[0]["x"][0] == 1  # the error of batch 2 waits
  with pytest.raises(ValueError, match="batch 2"):
    next(ahead)
  assert taken == [0, 1, 2]


def test_closing_reaches_the_reader(form, monkeypatch):
  reader = type(iter(grain.MapDataset.range(1).to_iter_dataset()))
  opened, init = [], reader.__init__

  def remember(self, *args):
    init(self, *args)
    opened.append(self)  # or it would be closed with its last reference

  monkeypatch.setattr(reader, "__init__", remember)
  mesh = sharding.make_mesh(dict(fsdp=-1))
  batches = stream.train_batches(numbers.datasets(MIX), form, 0, 8)
  found = stream.on_devices(batches, mesh)
  next(found)
  found.close()
  assert len(opened) == 1
  with pytest.raises(ValueError, match="closed"):
    next(opened[0])


# The cache.


class Counting(numbers.Numbers):
  """Counts how often each row is read."""

  def __init__(self, *args):
    super().__init__(*args)
    self.reads = collections.Counter()

  def __getitem__(self, i):
    self.reads[i] += 1
    return super().__getitem__(i)


def counted(pp):
  (data,) = numbers.datasets(dict(source="numbers", size=10), pp)
  return data._replace(source=Counting(10))


@pytest.mark.parametrize("kind", ("raw", "examples"))
def test_a_cached_row_is_read_once(form, kind):
  one_thread = options.Options(num_threads=1, prefetch=1, cache=kind)
  data = counted("decode")
  numbers.batches((data,), form, num=10, options=one_thread)
  assert set(data.source.reads.values()) == {1}
  data = counted("decode")
  without = one_thread._replace(cache="")
  numbers.batches((data,), form, num=10, options=without)
  assert min(data.source.reads.values()) >= 12


def test_a_cache_keeps_what_fits_and_counts_its_bytes():
  row = numbers.Numbers()[0]
  size = cache.size_of(row)
  assert row["image"].nbytes < size < row["image"].nbytes + 1500
  budget = cache.Budget(3 * size + 20)
  source = Counting(10)
  cached = cache.Cached(source, budget, source.__getitem__)
  for i in [*range(10), *range(10)]:
    assert cached[i]["suffix"] == str(i)
  assert [source.reads[i] for i in range(10)] == [1] * 3 + [2] * 7
  assert budget.left == 20


def test_a_cached_row_is_not_changed_by_who_gets_it():
  source = numbers.Numbers()
  cached = cache.Cached(source, cache.Budget(2**20), source.__getitem__)
  cached[3].clear()
  assert cached[3]["suffix"] == "3"


def test_the_memory_of_a_view_is_counted():
  base = np.zeros((100, 100), np.uint8)
  assert cache.size_of(base[:50]) >= 5000
  assert cache.size_of([base, {"a": base}]) >= 20_000
  assert cache.size_of(b"x" * 1000) >= 1000


def test_examples_that_are_drawn_anew_are_not_cached(form):
  data = numbers.datasets(MIX)
  with pytest.raises(ValueError, match='draw of b makes .* "raw"'):
    stream.train_batches(
      data, form, 0, 8, options=options.Options(cache="examples")
    )


def test_batches_of_an_evaluation_are_read_once_if_all_of_them_fit():
  read = []

  def batches():
    for i in range(3):
      read.append(i)
      yield {"a": np.zeros(1000, np.uint8)}, i

  budget = cache.Budget(10_000)
  replay = cache.Replay(budget)
  first = list(replay.batches("key", batches))
  assert list(replay.batches("key", batches)) == first
  assert read == [0, 1, 2] and budget.left < 7_000
  list(replay.batches("other", batches))
  assert read == [0, 1, 2] * 2

  small = cache.Replay(cache.Budget(2_000))
  assert [i for _, i in small.batches("key", batches)] == [0, 1, 2]
  assert [i for _, i in small.batches("key", batches)] == [0, 1, 2]
  assert read == [0, 1, 2] * 4


def test_an_evaluation_that_is_broken_off_is_read_again():
  def batches():
    yield from ((i,) for i in range(3))

  replay = cache.Replay(cache.Budget(10_000))
  broken = replay.batches("key", batches)
  next(broken)
  broken.close()
  assert list(replay.batches("key", batches)) == [(0,), (1,), (2,)]


def texts_of(string, size=5):
  data = numbers.datasets(dict(source="numbers", size=size), string)
  texts = evaluation.train_texts(data, seed=0)
  found = {next(texts) for _ in range(size)}
  texts.close()
  return found


def test_texts_alone_are_read_without_decoding_images(monkeypatch):
  row = lambda self, i: {"image": b"no picture", "suffix": f"{i}"}
  monkeypatch.setattr(numbers.Numbers, "__getitem__", row)
  string = "decode | resize(8) | fmt('a {suffix}', out='prefix')"
  assert texts_of(string) == {(f"a {i}", f"{i}") for i in range(5)}


def test_a_text_that_is_made_of_the_image_has_it(monkeypatch):
  def measure(example):
    if example["image"].shape[0] != 4:
      raise ValueError("not resized")
    return {"suffix": "4 pixels"}

  monkeypatch.setitem(pp.OPS, "measure", measure)
  assert texts_of("resize(4) | measure") == {("say", "4 pixels")}
