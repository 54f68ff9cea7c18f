"""A stream goes on from any position as if it had never stopped."""

import json
import multiprocessing

import jax.numpy as jnp
import numpy as np
import pytest

from pg.data import bad as bad_lib
from pg.data import options, pipeline
from pg.evals import run as evals_run
from pg.log import metrics
from pg.log import run as log_run
from tests.support import numbers, numbers_run

form, registered = numbers.form, numbers.registered

SKIP = options.Options(prefetch=2, bad=bad_lib.Policy(True, 0.5))
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


@pytest.fixture
def read(form):
  """Returns a function that reads batches from `start` on, as bytes."""
  data = numbers.datasets(MIX)

  def batches(start=0, workers=0, watch=int):
    return numbers.batches(
      data,
      form,
      8,
      NUM - start,
      start=start * 8,
      stop=NUM * 8,
      options=SKIP._replace(num_workers=workers),
      watch=watch,
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
  seen = []
  watch = lambda: seen.append(len(multiprocessing.active_children()))
  assert read(3, workers, watch) == read(3)
  assert max(seen) == workers
  assert not multiprocessing.active_children()


def test_a_stream_goes_on_on_more_hosts(read):
  whole = read()
  first, second = numbers.hosts(2, lambda: read(5))
  for k, (rows, bad) in enumerate(whole[5:]):
    for key in rows:
      assert first[k][0][key] + second[k][0][key] == rows[key]
    assert first[k][1] + second[k][1] == bad


def test_counts_go_on_from_those_in_the_checkpoint(form, tmp_path):
  data = numbers.datasets(MIX)
  c = numbers_run.config(total=10, batch_size=8, log_every=1)
  run = numbers_run.opened(data, form)

  def log(step, counts):
    record = pipeline.bad_record(data, SKIP, tmp_path)
    return log_run.Log(c, run, str(tmp_path), step, record, dict(counts=counts))

  def batch(tokens, bad):
    rows = dict(source=np.zeros(8, int), index=np.arange(8), tokens=tokens)
    masks = dict(mask_input=tokens > 0, mask_loss=tokens > 0)
    return {"train/loss": 1.0}, rows | masks, bad, 0.0

  whole, cut = np.array([[5, 1, 0]] * 8), np.array([[5, 6, 7]] * 8)
  bad = [bad_lib.Bad("b", 5, "numbers:5", "broken")]
  first = log(0, {})
  first.step(1, *batch(whole, bad))
  first.step(2, *batch(cut, []))
  counts = first.counts()
  assert counts == {"train/cut": 8, "data/a/bad": 0, "data/b/bad": 1}
  first.step(3, *batch(cut, bad))  # is lost
  second = log(2, counts)
  second.step(3, *batch(cut, []))
  second.step(4, *batch(whole, bad * 2))
  rows = metrics.read(tmp_path / "metrics.jsonl")
  assert [r["train/cut"] for r in rows] == [0, 8, 16, 16]
  assert [r["data/b/bad"] for r in rows] == [1, 1, 1, 3]
  assert [r["data/a/examples"] for r in rows] == [4, 8, 12, 16]
  assert [r["data/a/epoch"] for r in rows] == [0.4, 0.8, 1.2, 1.6]


def test_a_step_without_a_line_waits_for_no_device(form, tmp_path):
  data = numbers.datasets(MIX)
  c = numbers_run.config(total=10, batch_size=8, log_every=5)
  record = pipeline.bad_record(data, SKIP, tmp_path)
  run = numbers_run.opened(data, form)
  log = log_run.Log(c, run, str(tmp_path), 0, record, {})
  tokens = np.array([[5, 1, 0]] * 8)
  rows = dict(source=np.zeros(8, int), index=np.arange(8), tokens=tokens)
  rows |= dict(mask_input=tokens > 0, mask_loss=tokens > 0)
  for step in range(1, 6):
    value = jnp.float32(step) if step in (1, 5) else object()
    measured = {"train/loss": value, "train/grad_norm/llm": value}
    log.step(step, measured, rows, [], 0.25)
  (line,) = metrics.read(tmp_path / "metrics.jsonl")
  assert line["train/loss"] == line["train/grad_norm/llm"] == 5.0
  assert line["train/lr"] == 2.0  # of four steps done
  assert line["time/data_wait"] == 1.25 and line["memory/host"] > 0
  told = log.meta(5)
  assert told["counts"] == log.counts()
  assert told["spent"]["time/data_wait"] == 1.25
  assert told["rates"] == {"train/lr": 2.5}  # of five


def test_examples_and_hours_go_on_from_the_run_before(form, tmp_path):
  data = numbers.datasets(MIX)
  c = numbers_run.config(total=10, batch_size=8, log_every=1)
  record = pipeline.bad_record(data, SKIP, tmp_path)
  run = numbers_run.opened(data, form)
  log = lambda step, meta: log_run.Log(
    c, run, str(tmp_path), step, record, meta
  )
  tokens = np.array([[5, 1, 0]] * 8)
  rows = dict(source=np.zeros(8, int), index=np.arange(8), tokens=tokens)
  rows |= dict(mask_input=tokens > 0, mask_loss=tokens > 0)
  begun = dict(examples=1000, spent={"time/chip_hours": 7.0})
  first = log(0, begun)
  first.step(1, {"train/loss": 1.0}, rows, [], 0.0)
  told = first.meta(1)
  assert told["examples"] == 1008 and told["spent"]["time/chip_hours"] > 7
  second = log(1, told)
  second.step(2, {"train/loss": 1.0}, rows, [], 0.0)
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [line["data/examples"] for line in lines] == [1008, 1016]
  assert lines[1]["time/chip_hours"] > lines[0]["time/chip_hours"] > 7


def test_scores_on_the_way_are_printed_and_those_of_the_end_only_once(
  form, tmp_path, capsys
):
  data = numbers.datasets(MIX)
  c = numbers_run.config(total=10)
  run = numbers_run.opened(data, form)
  record = pipeline.bad_record(data, SKIP, tmp_path)
  log = log_run.Log(c, run, str(tmp_path), 0, record, {})
  scores = {"exact": 0.5, "exact/dots": 0.25}
  result = evals_run.Result(scores, {}, {}, {}, [], 11)
  nothing = result._replace(scores={})
  log.scores(4, {"val": result, "test": nothing, "more": result})
  log.scores(10, {"val": result})
  printed = capsys.readouterr().err
  assert "step 4: val exact 0.500, more exact 0.500\n" in printed
  assert "step 10" not in printed


def test_an_evaluator_says_how_many_rows_it_left_out(tmp_path, capsys):
  result = evals_run.Result({"exact": 0.5}, {}, {}, {}, [], 11, 2, 3)
  log_run.finish(str(tmp_path), {"val": result})
  printed = capsys.readouterr().out
  assert "val left out 2 bad rows; see bad_exam" in printed
  assert "val left out 3 rows: nothing of their answers" in printed
  scores = json.loads((tmp_path / "scores.json").read_text())
  assert scores == {
    "val": {"exact": {"value": 0.5, "n": 11, "bad": 2, "cut": 3}}
  }
