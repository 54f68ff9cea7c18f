"""Two models compared by what they answered to the same examples."""

import json

import numpy as np
import pytest

from pg.evals import compare, interval, records
from pg.evals.metrics import caption, statistics

WORDS = "red green blue ring dot square on the left of a".split()


def answers(scores, **more):
  return [
    dict(
      index=i, where=f"val:{i}", id={}, prompt="q", truth=f"t{i}",
      prediction="x", score=s, **more,
    )
    for i, s in enumerate(scores)
  ]  # fmt: skip


def captions(num, wrong, seed=0):
  """Records whose captions have a share of their words wrong."""
  rng = np.random.default_rng(0)
  noise = np.random.default_rng(seed)
  made = []
  for record in answers([0.0] * num):
    truth = rng.choice(WORDS, 6)
    said = np.where(noise.random(6) < wrong, "x", truth)
    record |= {"truth": " ".join(truth), "prediction": " ".join(said)}
    made.append({k: v for k, v in record.items() if k != "score"})
  return made


def test_scores_of_examples_are_compared_in_pairs():
  a, b = [1.0, 0.0, 0.5, 0.0] * 10, [1.0, 1.0, 0.5, 0.0] * 10
  # In another order: examples are found by their index.
  (row,), notes = compare.compare(
    {"val": answers(a)}, {"val": answers(b)[::-1]}
  )
  assert (row.evaluator, row.score) == ("val", "mean score")
  assert (row.before, row.after) == (0.375, 0.625)
  both = (statistics.means({"x": x}) for x in (a, b))
  assert row.difference == interval.paired(*both, resamples=10_000)["x"]
  assert not notes


def test_captions_are_compared_as_a_set():
  a, b = captions(60, 0.5, 1), captions(60, 0.3, 2)
  (row,), _ = compare.compare({"c": a}, {"c": b}, {"c": "cider"})
  score = lambda found: caption.cider(
    [r["prediction"] for r in found], [{"suffix": r["truth"]} for r in found]
  )
  for value, found in ((row.before, a), (row.after, b)):
    made = score(found)
    want = made.finish(made.sums.sum(axis=0))["cider"]
    assert value == pytest.approx(float(want))
  assert row.difference.mean == pytest.approx(row.after - row.before)
  assert 0 < row.difference.low < row.difference.mean < row.difference.high
  assert row.difference.p < 0.01 and row.difference.num == 60


def test_a_set_against_itself_does_not_differ():
  a = captions(20, 0.5)
  (row,), _ = compare.compare({"c": a}, {"c": a}, {"c": "cider"})
  assert row.difference[:4] == (0, 0, 0, 1)


def test_sums_that_differ_by_rounding_alone_are_equal():
  # Whichever way these are exchanged, the difference is as large.
  a, b = [0.3, 0.8, 0.5, 0.0, 0.7, 0.7], [0.3, 0.8, 0.5, 0.1, 0.7, 0.7]
  both = [statistics.means({"acc": x}) for x in (a, b)]
  assert interval.paired(*both)["acc"].p == 1


def test_many_examples_are_drawn_in_blocks(monkeypatch):
  a, b = captions(30, 0.5, 1), captions(30, 0.3, 2)
  monkeypatch.setattr(interval, "_BLOCK", 7 * 30)
  (row,), _ = compare.compare({"c": a}, {"c": b}, {"c": "cider"})
  assert row.difference.low < row.difference.mean < row.difference.high


def test_what_cannot_be_compared_is_said():
  a = captions(3, 0.5)
  for metrics in ({}, {"c": "unheard-of"}):
    rows, notes = compare.compare({"c": a, "old": a}, {"c": a}, metrics)
    assert not rows
    assert notes[0].startswith("c: no scores by example")
    assert notes[1] == "old: only one of the two has predictions of it"


def test_a_metric_without_statistics_is_not_compared(monkeypatch):
  monkeypatch.setitem(
    compare.metrics_lib.METRICS, "plain", lambda p, e: {"plain": 0.5}
  )
  made = {"c": captions(3, 0.5)}
  rows, notes = compare.compare(made, made, {"c": "plain"})
  assert not rows
  (note,) = notes
  assert note.startswith("c: plain is not made of sums over examples")


def test_predictions_alone_are_not_compared():
  made = {"test": captions(3, 0.5)}
  rows, notes = compare.compare(made, made, {"test": "none"})
  assert not rows
  assert notes == ["test: it has predictions alone, without a metric"]


def test_other_examples_are_named():
  a, b = answers([1.0] * 5), answers([1.0] * 5)
  with pytest.raises(ValueError, match=r"val: 2 of 5 .* first .*val:3, val:4"):
    compare.compare({"val": a}, {"val": b[:3]})
  with pytest.raises(ValueError, match=r"val: 1 of 5 .* second .*\(val:0\)"):
    compare.compare({"val": a[1:]}, {"val": b})
  b[2]["truth"] = "other"
  with pytest.raises(ValueError, match="val:2 is 't2' in the first .*'other'"):
    compare.compare({"val": a}, {"val": b})
  with pytest.raises(ValueError, match="of val and the second of test;"):
    compare.compare({"val": a}, {"test": a})


def test_the_table_has_a_line_for_each_score():
  rows, _ = compare.compare(
    {"val": answers([0.0, 0.0])}, {"val": answers([1.0, 1.0])}
  )
  head, line = compare.table(rows).splitlines()
  assert head.split() == (
    ["evaluator", "score", "A", "B", "B", "-", "A", "95%", "interval", "p", "n"]
  )
  assert line.split()[:6] == [
    "val",
    "mean",
    "score",
    "0.000",
    "1.000",
    "+1.000",
  ]
  assert line.split()[-1] == "2"


def test_records_are_read_as_they_were_written(tmp_path):
  path = tmp_path / "val-000000002.jsonl"
  found = answers([1.0, 0.5], answers=["a\u2028b", "c"])
  records.write(str(path), found)
  assert records.read(path) == found


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"index": 1, "prompt": "q"', ":2: Expecting"),
    ("[1]", r":2: wanted a JSON object, got '\[1\]'"),
    ('{"index": 1, "prompt": "q"}', ':2: wanted "truth" of type str, got None'),
    ("NaN-score", ':2: wanted a finite number as "score", got nan'),
    ("same-index", ":2: index 0 is also that of line 1"),
  ],
)
def test_a_bad_line_of_predictions_is_named(tmp_path, line, message):
  first, second = answers([1.0, float("nan")])
  if line == "NaN-score":
    line = json.dumps(second)
  if line == "same-index":
    line = json.dumps(first)
  path = tmp_path / "val.jsonl"
  path.write_text(f"{json.dumps(first)}\n{line}\n")
  with pytest.raises(ValueError, match=f"val.jsonl{message}"):
    records.read(path)


def test_an_empty_file_of_predictions_is_an_error(tmp_path):
  path = tmp_path / "val.jsonl"
  path.write_text("")
  with pytest.raises(ValueError, match="val.jsonl is empty"):
    records.read(path)


def test_predictions_of_older_runs_can_be_read(tmp_path):
  path = tmp_path / "val.jsonl"
  old = dict(index=3, prompt="q", truth="", prediction="x")
  path.write_text(json.dumps(old))
  (found,) = records.read(path)
  assert (found["where"], found["id"]) == ("index 3", {})
