"""The table of final scores is one that can be read at a glance; a new run
does not delete the record of another."""

import ml_collections
import pytest

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


def stopped_run(workdir, step):
  """Leaves what a run without a checkpoint has; returns its config."""
  c = ml_collections.ConfigDict({"lr": 1e-3})
  (workdir / "config.json").write_text(c.to_json(indent=2))
  (workdir / "metrics.jsonl").write_text(f'{{"step": {step}}}\n{{"st')
  return c


def check_new(c, workdir, interrupted=False):
  log_run.check_new(c, str(workdir), first=10, interrupted=interrupted)


def test_a_run_that_has_lost_its_checkpoints_does_not_start_over(tmp_path):
  c = stopped_run(tmp_path, 11)
  said = (
    r"metrics.jsonl goes to step 1[01], but there is no checkpoint .* another"
  )
  with pytest.raises(ValueError, match=said):
    check_new(c, tmp_path)
  c = stopped_run(tmp_path, 10)
  (tmp_path / "scores.json").write_text("{}")  # it was complete
  with pytest.raises(ValueError, match=said):
    check_new(c, tmp_path)


def test_what_ended_before_its_first_checkpoint_says_that_it_starts_over(
  tmp_path, capsys
):
  check_new(stopped_run(tmp_path, 9), tmp_path)
  check_new(stopped_run(tmp_path, 10), tmp_path)
  check_new(stopped_run(tmp_path, 12), tmp_path, interrupted=True)
  said = capsys.readouterr().err.splitlines()
  assert len(said) == 3 and said[0].endswith("ended: starting over")
  c = stopped_run(tmp_path, 9)
  c.lr = 2e-3
  with pytest.raises(ValueError, match="goes to step 9"):
    check_new(c, tmp_path)


def test_an_empty_folder_is_a_new_run_without_a_word(tmp_path, capsys):
  check_new(ml_collections.ConfigDict(), tmp_path)
  check_new(stopped_run(tmp_path, 0), tmp_path)
  assert capsys.readouterr().err == ""
