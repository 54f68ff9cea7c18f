"""The table of final scores is one that can be read at a glance."""

from pg.evals import interval
from pg.evals import run as evals_run
from pg.log import run as log_run

AVERAGES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()


def table(scores, **more):
  """Returns the names in the rows of the table, and the lines under it."""
  kept = dict(intervals={}, blind={}, published={}, records=[]) | more
  result = evals_run.Result(scores=scores, num_examples=9, **kept)
  lines = log_run.table({"val": result}).splitlines()[1:]
  rows = [line.split()[1] for line in lines if line.startswith("val ")]
  return rows, [line for line in lines if line.startswith("val:")]


def test_scores_of_many_classes_are_one_line():
  classes = {f"AP/c{i}": i / 20 for i in range(20)}
  rows, notes = table({"AP": 0.5, **classes, "unknown": 0.0})
  assert rows == ["AP", "unknown"]
  assert notes == [
    "val: 20 scores of parts, from 0.000 (AP/c0) to 0.950 (AP/c19);"
    " scores.json has each"
  ]
  few = {"acc": 0.5, "acc/yesno": 0.9, "acc/number": 0.0, "acc/other": 0.1}
  assert table(few) == (list(few), [])


def test_a_run_that_finds_nothing_has_one_row():
  scores = dict.fromkeys([*AVERAGES, "AP/cat"], 0.0) | {"unparsable": 0.75}
  rows, notes = table(scores)
  assert rows == ["AP", "unparsable"]
  assert notes == [f"val: 0.000, too: {', '.join(AVERAGES[1:])}, AP/cat"]


def test_a_zero_next_to_another_number_has_its_row():
  scores = dict.fromkeys(AVERAGES, 0.0)
  more = dict(blind={"AP50": 0.3}, published={"AR1": 0.4})
  rows, _ = table(scores, **more)
  assert rows == ["AP", "AP50", "AR1"]


def test_an_interval_that_holds_the_truth_less_often_says_so():
  scores = {"AP": 0.5, "AP50": 0.7}
  ranges = {
    "AP": interval.Interval(0.5, 0.2, 0.75, 80, 0.9),
    "AP50": interval.Interval(0.7, 0.6, 0.8, 80),
  }
  result = evals_run.Result(scores, ranges, {}, {}, [], 80)
  lines = log_run.table({"val": result}).splitlines()
  assert "0.200 to 0.750 (90 %)" in lines[1]
  assert "0.600 to 0.800" in lines[2] and "(" not in lines[2]
