"""Order, randomness and padding of batches are functions of seed and place."""

import dataclasses
import itertools

import numpy as np
import pytest

from pg.codecs import tokenizer
from pg.data import pipeline, source


class Numbers:
  """Rows that say their own number."""

  def __init__(self, size=10, start=0):
    self._size, self._start = size, start

  def __len__(self):
    return self._size

  def __getitem__(self, i):
    image = np.full((8, 8, 3), self._start + i, np.uint8)
    return {"image": image, "prefix": "say", "suffix": f"{self._start + i}"}

  def where(self, i):
    return f"numbers:{i}"


@dataclasses.dataclass
class Draw:
  """An op that draws a number for the suffix."""

  def __call__(self, example, turn):
    return {**example, "suffix": str(turn.rng().integers(10**9))}


@pytest.fixture(autouse=True)
def numbers(monkeypatch):
  monkeypatch.setitem(source.SOURCES, "numbers", Numbers)


@pytest.fixture(scope="module")
def form():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  return pipeline.Form(tok, res=8, num_images=1, text_len=24)


MIX = dict(
  a=dict(source="numbers", size=10, weight=3),
  b=dict(source="numbers", size=100, start=100, weight=1),
)


def stream(data, form, seed=0, start=0):
  """Returns (source, index, tokens) of the stream's rows."""

  def finish(done, number, i):
    row = pipeline.row(form, done, number, i)
    return number, i, row["tokens"].tobytes()

  return pipeline.train_stream(data, finish, seed, start=start)


def take(stream, n):
  return [stream[i] for i in range(n)]


def drawn(data):
  return tuple(d._replace(pp=Draw()) for d in data)


def test_a_seed_fixes_order_and_draws(form):
  data = drawn(pipeline.datasets(MIX, "decode"))
  once = take(stream(data, form), 40)
  assert once == take(stream(data, form), 40)
  assert once != take(stream(data, form, seed=1), 40)


def test_resuming_is_slicing(form):
  data = drawn(pipeline.datasets(MIX, "decode"))
  whole = take(stream(data, form), 60)
  assert take(stream(data, form, start=17), 43) == whole[17:]


def test_batches_follow_the_stream(form):
  data = pipeline.datasets(MIX, "decode")
  batches = pipeline.train_batches(data, form, 0, 8, start=16)
  first, second = itertools.islice(batches, 2)
  rows = take(stream(data, form, start=16), 16)
  got = [*zip(first["source"], first["index"], strict=True)]
  got += [*zip(second["source"], second["index"], strict=True)]
  assert got == [(number, i) for number, i, _ in rows]
  assert first["image"].shape == (8, 1, 8, 8, 3)
  assert first["image"].dtype == np.uint8


def test_the_weights_of_a_mixture_are_exact(form):
  data = pipeline.datasets(MIX, "decode")
  numbers = [number for number, _, _ in take(stream(data, form), 400)]
  assert numbers.count(0) == 300


def test_each_epoch_has_every_row_once_in_another_order(form):
  data = pipeline.datasets(MIX["a"], "decode")
  rows = [i for _, i, _ in take(stream(data, form), 30)]
  epochs = rows[:10], rows[10:20], rows[20:]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert epochs[0] != epochs[1]


def test_datasets_of_a_mixture_have_orders_of_their_own(form):
  same = dict(source="numbers", size=100)
  data = pipeline.datasets(dict(a=same, b=same), "decode")
  rows = take(stream(data, form), 200)
  a, b = ([i for number, i, _ in rows if number == k] for k in (0, 1))
  assert len(a) == len(b) == 100 and a != b


def test_draws_differ_between_rows_and_epochs(form):
  data = drawn(pipeline.datasets(MIX["a"], "decode"))
  texts = [text for _, _, text in take(stream(data, form), 20)]
  assert len(set(texts)) == 20


@pytest.mark.parametrize("hosts", (1, 2, 4))
def test_hosts_share_an_evaluation_without_gap_or_overlap(
  form, hosts, monkeypatch
):
  (data,) = pipeline.datasets(dict(source="numbers", size=11), "decode")
  monkeypatch.setattr(pipeline.jax, "process_count", lambda: hosts)
  seen, counts = [], []
  for host in range(hosts):
    monkeypatch.setattr(pipeline.jax, "process_index", lambda: host)  # noqa: B023
    batches = list(pipeline.eval_batches(data, form, batch_size=4))
    counts.append(len(batches))
    for batch, examples in batches:
      real = batch["index"][batch["index"] >= 0]
      seen += real.tolist()
      assert [e["suffix"] for e in examples] == [str(i) for i in real]
  assert sorted(seen) == list(range(11))
  assert len(set(counts)) == 1


def test_an_evaluation_can_be_of_the_first_rows_only(form):
  (data,) = pipeline.datasets(dict(source="numbers"), "decode")
  (only,) = pipeline.eval_batches(data, form, batch_size=4, num_examples=3)
  assert only[0]["index"].tolist() == [0, 1, 2, -1]


def test_several_images_fill_up_with_missing_ones(form):
  image = np.ones((8, 8, 3), np.uint8)
  done = {"image": [image, image], "prefix": "p", "suffix": "s"}
  row = pipeline.row(form._replace(num_images=3), done, 0, 0)
  assert row["mask_image"].tolist() == [True, True, False]
  assert row["image"].sum(axis=(1, 2, 3)).tolist() == [192, 192, 0]


def test_a_blind_form_hides_all_images(form):
  done = Numbers(start=5)[0]
  row = pipeline.row(form._replace(blind=True), done, 0, 0)
  assert not row["mask_image"].any() and not row["image"].any()


def test_a_decoding_row_does_not_tell_the_answer(form):
  done = Numbers()[7]
  row = pipeline.row(form._replace(form="decode"), done, 0, 0)
  assert row["tokens"].tolist() == [
    form.tok.bos,
    *form.tok.encode("say"),
    *form.tok.sep,
    *[0] * (24 - 2 - len(form.tok.encode("say"))),
  ]


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(res=16), r"\(8, 8, 3\) after the pp .* \(16, 16, 3\); add resize"),
    (dict(num_images=0), "1 images and the config num_images = 0"),
  ],
)
def test_images_that_do_not_fit_are_refused(form, change, message):
  with pytest.raises(ValueError, match=message):
    pipeline.row(form._replace(**change), Numbers()[0], 0, 0)


def test_an_error_names_the_row(form):
  (data,) = pipeline.datasets(dict(source="numbers"), "decode | lower('sufix')")
  with pytest.raises(ValueError, match=r"numbers:3: .*did you mean \"suffix\""):
    pipeline.example(data, 3, None)


@pytest.mark.parametrize(
  "spec, message",
  [
    (dict(source="number"), 'unknown source "number"; did you mean "numbers"'),
    (dict(source="numbers", sise=3), "unexpected keyword argument 'sise'"),
    (dict(source="numbers", size=0), "is empty"),
    (dict(a=dict(weight=1)), 'dataset "a" has no source'),
    (dict(source="numbers", pp="decod"), 'did you mean "decode"'),
  ],
)
def test_a_wrong_data_spec_is_explained(spec, message):
  with pytest.raises(ValueError, match=message):
    pipeline.datasets(spec, "decode")


def test_cut_rows_are_counted_per_dataset(form):
  data = pipeline.datasets(MIX, "decode")
  assert pipeline.check(data, form) == {"a": (0, 10), "b": (0, 100)}
  short = pipeline.check(data, form._replace(text_len=3))
  assert short == {"a": (10, 10), "b": (100, 100)}


def test_the_fingerprint_tells_datasets_and_weights_apart():
  prints = [
    pipeline.fingerprint(pipeline.datasets(mix, "decode"), 0, 8)
    for mix in (MIX, {**MIX, "a": {**MIX["a"], "weight": 2}})
  ]
  assert prints[0] != prints[1]
  assert prints[0] == pipeline.fingerprint(
    pipeline.datasets(MIX, "decode"), 0, 8
  )
