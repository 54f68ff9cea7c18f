"""Padding that no row of a batch needs is cut off, and nothing else changes."""

import collections
import functools

import jax
import numpy as np
import optax
import pytest

from pg import experiment, pp, sharding, store, train, tree
from pg.data import bad as bad_lib
from pg.data import lengths, options, prefix_lm, stream
from pg.learn import optim
from pg.learn import state as state_lib
from pg.log import metrics
from pg.log import run as log_run
from pg.models import paligemma
from tests.support import numbers, numbers_run, tiny, toy

form, registered = numbers.form, numbers.registered

SKIP = options.Options(prefetch=2, bad=bad_lib.Policy(True, 0.5))
NUM, BATCH = 12, 8
LENS = 50, 25, 12, 6
# Of five rows four have an answer of a token, and one of up to 40.
MIX = dict(
  a=dict(source="numbers", size=30, weight=4, bad=[5], gone=[17]),
  b=dict(source="numbers", size=10, start=100, weight=1, pp="long"),
)


@pytest.fixture(autouse=True)
def long(monkeypatch, registered):
  def long(example, *, rng):
    return {"suffix": "1" * int(rng.integers(40))}

  monkeypatch.setitem(pp.OPS, "long", long)


def batches(form, start=0, stop=NUM, *, text_lens=LENS, **more):
  """Returns batches of a run as (rows, bad)."""
  found = stream.train_batches(
    numbers.datasets(MIX),
    form._replace(text_len=LENS[0]),
    0,
    BATCH,
    start=start * BATCH,
    stop=stop * BATCH,
    options=SKIP,
    text_lens=text_lens,
    **more,
  )
  return list(found)


def plain(found):
  return [
    ({k: v.tolist() for k, v in rows.items()}, bad) for rows, bad in found
  ]


def positions(found):
  return [rows["tokens"].shape[1] - 1 for rows, _ in found]


def test_a_length_is_a_program_that_saves_enough():
  """Of 256 image tokens; a step costs as many operations as it has tokens."""
  want = {512: (512, 256, 128, 64, 32), 128: (128, 64, 32), 100: (100, 50)}
  want |= {63: (63,), 64: (64, 32), 32: (32,), 2: (2,)}
  cost = lambda n: 256 + n
  assert {n: lengths.worthwhile(n, cost) for n in want} == want
  cost = lambda n: 1024 + n
  assert lengths.worthwhile(512, cost) == (512, 256, 128, 64)
  assert lengths.worthwhile(128, cost) == (128, 64)
  assert lengths.worthwhile(128, lambda n: 4096 + n) == (128,)


def test_of_a_batch_only_padding_is_cut_off(form):
  whole, found = batches(form, text_lens=()), batches(form)
  assert set(positions(whole)) == {50}
  assert len(set(positions(found))) > 2
  for (want, want_bad), (rows, bad) in zip(whole, found, strict=True):
    size = rows["tokens"].shape[1]
    assert bad == want_bad
    for key, value in want.items():
      shown = value[:, :size] if key in lengths.TEXT else value
      np.testing.assert_array_equal(rows[key], shown)
    assert not want["mask_input"][:, size:].any()
    need = want["mask_input"].sum(axis=1).max()
    assert not any(need <= n < size - 1 for n in LENS)


@pytest.mark.parametrize("num, size", [(3, 7), (4, 13)])
def test_a_row_that_fills_a_shorter_batch_does_not_count_as_cut(num, size):
  row = prefix_lm.make("", "x" * num, toy_tokenizer(), 12, [(0, num)])
  row["mask_loss"][:] = False  # not even its eos is a target
  rows = {k: v[None] for k, v in row.items()}
  ((cut, _),) = lengths.fitted(iter_of([(rows, [])]), (12, 6), 0)
  assert cut["tokens"].shape == (1, size)
  assert row["mask_input"].sum() == num + 3
  assert not prefix_lm.is_cut(cut).any()


def test_a_row_without_padding_stays_whole():
  rows = {k: np.ones((2, 13), bool) for k in lengths.TEXT}
  ((cut, _),) = lengths.fitted(iter_of([(rows, [])]), (12, 6), 0)
  assert all(cut[k].shape == (2, 13) for k in lengths.TEXT)


def toy_tokenizer():
  class Tok:
    bos, eos, pad, sep = 2, 1, 0, [3]
    encode = staticmethod(lambda text: [5] * len(text))
    spans = staticmethod(lambda text: [(i, i + 1) for i in range(len(text))])

  return Tok


def iter_of(items):
  yield from items


def test_the_first_batch_of_a_length_is_said_once(form, capsys):
  found = positions(batches(form, 4))
  said = capsys.readouterr().err.splitlines()
  firsts = {size: 5 + found.index(size) for size in found}
  del firsts[found[0]]
  assert said == [
    f"step {step} is the first with {size} text positions: its program is"
    " compiled, or read if it was before"
    for size, step in firsts.items()
  ]


def test_the_streams_of_a_process_ask_apart(monkeypatch):
  asked = []
  monkeypatch.setattr(
    store, "largest", lambda n, *rest: asked.append(rest) or n
  )
  rows = {k: np.ones((2, 13), bool) for k in lengths.TEXT}
  for _ in range(2):
    list(lengths.fitted(iter_of([(rows, [])] * 2), (12, 6), 5))
  names = [name for name, _ in asked]
  assert names == sorted(names) and len(set(names)) == 2
  assert [number for _, number in asked] == [5, 6, 5, 6]


def test_each_window_of_each_run_has_an_order_of_its_own():
  def needs(seed):
    batch = lambda n: ({"mask_input": np.arange(9)[None] < n}, [])
    read = iter_of([batch(n) for n in (3, 1, 4, 5, 2)] * 3)
    found = lengths.sorted_by_length(read, 5, 1, seed, 0)
    return tuple(int(rows["mask_input"].sum()) for rows, _ in found)

  windows = [needs(seed)[i : i + 5] for seed in (0, 1) for i in (0, 5, 10)]
  assert {tuple(sorted(x)) for x in windows} == {(1, 2, 3, 4, 5)}
  assert len(set(windows)) == 6


@pytest.mark.parametrize("window", (1, 3, 5))
def test_a_run_goes_on_in_the_middle_of_a_window(form, window):
  whole = plain(batches(form, window=window))
  for start in range(NUM):
    assert plain(batches(form, start, window=window)) == whole[start:]


def test_a_window_does_not_know_where_the_run_ends(form):
  longer = plain(batches(form, stop=2 * NUM, window=5))
  assert plain(batches(form, window=5)) == longer[:NUM]


def test_a_window_has_the_rows_that_it_would_have_had(form):
  whole, found = batches(form, window=1), batches(form, window=4)
  ids = lambda window: collections.Counter(
    (source, index, tuple(tokens[mask]))
    for rows, _ in window
    for source, index, tokens, mask in zip(
      *(rows[k] for k in ("source", "index", "tokens", "mask_input"))
    )
  )
  assert ids(whole[:4]) != ids(whole[4:8])
  for k in range(0, NUM, 4):
    assert ids(found[k : k + 4]) == ids(whole[k : k + 4])
    assert [bad for _, bad in found[k : k + 4]] == [
      bad for _, bad in whole[k : k + 4]
    ]
  for rows, _ in found:  # images go with their texts
    names = rows["index"] + np.array([0, 100])[rows["source"]]
    assert rows["image"][:, 0, 0, 0, 0].tolist() == names.tolist()


def test_short_rows_are_together_and_windows_begin_anywhere(form, monkeypatch):
  monkeypatch.setattr(lengths, "PARTS", 2)
  alone, together = (positions(batches(form, window=w)) for w in (1, 6))
  assert sum(together) < 0.8 * sum(alone)
  shapes = together[:6], together[6:]
  assert not any(list(x) in (sorted(x), sorted(x)[::-1]) for x in shapes)


@pytest.mark.parametrize("num_hosts", (2, 4, 8))
def test_hosts_sort_as_one_does(form, num_hosts, monkeypatch):
  monkeypatch.setattr(store, "largest", lambda *_: 50)
  one = plain(batches(form, 2, window=4))
  parts = numbers.hosts(num_hosts, lambda: plain(batches(form, 2, window=4)))
  for step, (rows, bad) in enumerate(one):
    for key, value in rows.items():
      assert sum((part[step][0][key] for part in parts), []) == value
    assert sorted(sum((part[step][1] for part in parts), [])) == sorted(bad)


def test_hosts_that_cannot_share_the_parts_are_refused():
  assert lengths.parts(256, 8) == 64 and lengths.parts(24, 8) == 8
  message = "8 parts of a batch of 24, which 3 processes"
  with pytest.raises(ValueError, match=message):
    numbers.hosts(3, lambda: lengths.parts(24, 8))
  numbers.hosts(3, lambda: lengths.parts(24, 1))
  c = tiny.nano(length_window=2, batch_size=9)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sharding, "check_batch", lambda *_: None)
    patch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match="1 parts of a batch of 9"):
      experiment.open(c)


def test_a_batch_that_is_padded_less_takes_the_same_step():
  cfg, tx = toy.config(toy.LLM2), optax.trace(decay=0.0)  # keeps the gradient
  params = toy.params(paligemma.shapes(cfg))
  state = state_lib.of_params(params, tx)
  rows = [((True, b < 3), 1 + b % 3, b % 4) for b in range(4)]
  batch = toy.batch(rows, num_images=2, text_len=25)
  short = batch | {k: batch[k][:, :7] for k in lengths.TEXT}
  assert not batch["mask_input"][:, 6:].any()
  update = functools.partial(
    train.update,
    cfg=cfg,
    tx=tx,
    is_frozen=optim.frozen(params, ((".*", "cosine"),)),
    label_smoothing=0.1,
    seed=0,
  )
  (want, measured), (have, again) = (
    jax.jit(update)(state, rows) for rows in (batch, short)
  )
  for key, value in measured.items():
    np.testing.assert_allclose(again[key], value, rtol=1e-5, err_msg=key)
  have = tree.flatten(have["opt"].trace)
  for name, gradient in tree.flatten(want["opt"].trace).items():
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(have[name], gradient, atol=1e-5 * scale + 1e-7)


@pytest.fixture
def short(monkeypatch):
  """Lets runs of 24 text positions have batches of 12."""
  numbers_run.register(monkeypatch)
  monkeypatch.setattr(lengths, "LEAST", 12)


def losses(workdir):
  rows = metrics.read(workdir / "metrics.jsonl")
  return {x["step"]: x["train/loss"] for x in rows if "train/loss" in x}


def run(workdir, window):
  c = numbers_run.config(total=8, length_window=window)
  c.text_len = 24
  with c.unlocked():  # the answers of b are of nine digits
    c.data.a.weight = 30
    c.evals = {}
  train.fit(c, str(workdir))
  return losses(workdir)


@pytest.mark.slow
def test_a_run_has_the_losses_of_one_that_is_padded(short, tmp_path, capsys):
  padded = run(tmp_path / "padded", 0)
  assert "text positions" not in capsys.readouterr().err
  found = run(tmp_path / "fitted", 1)
  said = capsys.readouterr().err.count("is the first with 24 text positions")
  assert said == 1  # its batches before are of 12
  assert found == pytest.approx(padded, rel=1e-4)


@pytest.mark.slow
def test_a_run_goes_on_where_a_window_was_left(short, tmp_path, monkeypatch):
  whole = run(tmp_path / "whole", 3)
  assert all(map(np.isfinite, whole.values()))

  class Log(log_run.Log):
    def step(self, step, *rest):
      if step == 6:  # 4 is saved
        raise KeyboardInterrupt
      super().step(step, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(log_run, "Log", Log)
    with pytest.raises(KeyboardInterrupt):
      run(tmp_path / "left", 3)
  assert run(tmp_path / "left", 3) == whole
