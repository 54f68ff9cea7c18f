"""A stream goes on from any position as if it had never stopped."""

import pytest

from pg.codecs import tokenizer
from pg.data import bad as bad_lib
from pg.data import options, pipeline
from tests import numbers

SKIP = options.Options(ahead=2, bad=bad_lib.Policy("skip", 0.5))
MIX = dict(
  a=dict(source="numbers", size=10, weight=3, pp="keep_even"),
  b=dict(
    source="numbers",
    size=40,
    start=100,
    weight=3,
    bad=[5],
    gone=[17],
    pp="draw",
  ),
)
NUM = 12  # batches: b begins its second epoch, past both bad rows


@pytest.fixture(autouse=True)
def register(monkeypatch):
  numbers.register(monkeypatch)


@pytest.fixture(scope="module")
def form():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  return pipeline.Form(tok, res=8, num_images=1, text_len=24)


@pytest.fixture
def read(form):
  """Returns a function that reads batches from `start` on, as bytes."""
  data = numbers.datasets(MIX)

  def batches(start=0, workers=0):
    return numbers.batches(
      data,
      form,
      8,
      NUM - start,
      start=start * 8,
      stop=NUM * 8,
      options=SKIP._replace(workers=workers),
    )

  return batches


def test_a_stream_goes_on_from_every_batch(read):
  whole = read()
  assert len(whole) == NUM and sum(len(bad) for _, bad in whole) >= 2
  for start in range(NUM):
    assert read(start) == whole[start:]


@pytest.mark.parametrize("workers", (1, 2))
def test_worker_processes_read_the_same_examples_wherever_they_start(
  read, workers
):
  assert read(3, workers) == read(3)


def test_a_stream_goes_on_on_more_hosts(read):
  whole = read()
  first, second = numbers.hosts(2, lambda: read(5))
  for k, (rows, bad) in enumerate(whole[5:]):
    for key in rows:
      assert first[k][0][key] + second[k][0][key] == rows[key]
    assert first[k][1] + second[k][1] == bad
