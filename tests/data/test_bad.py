"""Bad rows end a run, or are replaced, counted, named and written down."""

import json

import numpy as np
import pytest

from pg.data import bad, evaluation, options, pipeline, prefix_lm
from tests.support import numbers

form, registered = numbers.form, numbers.registered

RAISE = options.Options()
SKIP = options.Options(bad=bad.Policy(True, 0.2))


def rows(*index, source=0):
  """Returns what a Record looks at in a batch."""
  return dict(
    source=np.full(len(index), source, np.int32),
    index=np.array(index, np.int32),
  )


def broken(i, source="a", message="broken"):
  return bad.Bad(source, i, f"file:{i}", message)


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


# Reading.


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(bad=[3]), "numbers:3: no number"),
    (dict(gone=[3]), "numbers:3: no such place"),
    (dict(pp="lower('sufix')"), 'numbers:[0-9]: lower.*did you mean "suffix"'),
    (dict(pp="decode | resize(4)"), r"numbers:[0-9]: the image is \(4, 4, 3\)"),
  ],
)
def test_a_bad_row_ends_training_and_evaluation_and_is_named(
  form, change, message
):
  data = numbers.datasets(dict(source="numbers", **change))
  with pytest.raises(ValueError, match=message):
    numbers.batches(data, form, 10)
  with pytest.raises(ValueError, match=message):
    list(evaluation.eval_batches(data[0], form, prefix_lm.train_row, 10))
  with pytest.raises(ValueError, match=message):
    numbers.check(data, form)


def test_every_visit_of_a_bad_row_is_reported_with_its_batch(form):
  spec = dict(source="numbers", size=20, bad=[3], gone=[7])
  data = numbers.datasets(spec)
  found = numbers.batches(data, form, 10, num=4, options=SKIP)
  for epoch in (found[:2], found[2:]):
    reported = sum((bad for _, bad in epoch), [])
    assert {b.row for b in reported} == {3, 7}
  assert reported[0].where in ("numbers:3", "numbers:7")
  assert {b.message for b in reported} == {
    "numbers:3: no number",
    "numbers:7: no such place",
  }


# The record.


def record(path=None, size=10_000, max_fraction=0.01):
  policy = bad.Policy(True, max_fraction)
  return bad.Record({"a": size, "b": size}, policy, path)


def test_rows_and_bad_ones_are_counted_by_dataset():
  found = record()
  found.add(rows(1, 2, -1), [broken(3)])
  found.add(rows(1, source=1), [])
  assert found.num_read == {"a": 3, "b": 1}
  assert found.num_bad == {"a": 1, "b": 0}


@pytest.mark.parametrize(
  "size, num_rows, allowed",
  [(10_000, 50, 10), (10_000, 5000, 50), (100, 50, 1), (20, 20, 0)],
)
def test_more_bad_rows_than_the_share_end_the_run(size, num_rows, allowed):
  found = record(size=size)
  found.add(rows(*range(num_rows)), [])
  for i in range(allowed):
    found.add(rows(), [broken(i)])
  with pytest.raises(ValueError, match="rows read from a could not .* = 0.01"):
    found.add(rows(), [broken(allowed, message="the last")])


def test_the_message_names_the_file_and_the_last_row(tmp_path):
  path = str(tmp_path / "run" / bad.FILE)
  with pytest.raises(ValueError, match=f"{path}; the last one met: oh no. Rep"):
    record(path, max_fraction=0).add(rows(), [broken(1, message="oh no")])
  assert len(bad.read(path)) == 1  # written before the run ends


def test_each_bad_row_is_written_once_also_by_the_next_run(tmp_path):
  path = tmp_path / bad.FILE
  for _ in range(2):
    found = record(str(path))
    found.add(rows(), [broken(3), broken(3), broken(4, message="é")])
    found.add(rows(), [broken(3), broken(3, source="b")])
    assert found.num_bad == {"a": 4, "b": 1}
  assert lines(path) == [
    dict(source="a", row=3, where="file:3", message="broken"),
    dict(source="a", row=4, where="file:4", message="é"),
    dict(source="b", row=3, where="file:3", message="broken"),
  ]


def test_a_line_behind_a_torn_one_is_whole(tmp_path):
  path = tmp_path / bad.FILE
  path.write_text('{"source": "a", "row": 1, "whe')
  record(str(path)).add(rows(), [broken(2)])
  assert [b["row"] for b in bad.read(path)] == [2]


def test_without_bad_rows_there_is_no_file(tmp_path):
  found = record(str(tmp_path / bad.FILE))
  found.add(rows(1, 2), [])
  assert not list(tmp_path.iterdir())


def test_hosts_write_files_of_their_own():
  data = numbers.datasets(dict(source="numbers"))
  paths = numbers.hosts(2, lambda: pipeline.bad_record(data, SKIP, "run").path)
  assert paths == ["run/bad_examples.jsonl", "run/bad_examples-host1.jsonl"]


# The check at the start.


def test_the_check_obeys_the_policy(form, tmp_path):
  spec = dict(source="numbers", size=20, bad=[3], gone=[7])
  data = numbers.datasets(dict(a=spec, b=dict(source="numbers")))
  cut = numbers.check(data, form, SKIP, str(tmp_path))
  assert cut == {"a": (0, 18), "b": (0, 10)}
  assert [b["row"] for b in lines(tmp_path / bad.FILE)] == [3, 7]
  strict = SKIP._replace(bad=bad.Policy(True, 0.05))
  with pytest.raises(ValueError, match="2 of 20 rows read from a"):
    numbers.check(data, form, strict, tmp_path)
  with pytest.raises(ValueError, match="numbers:3"):
    numbers.check(data, form, RAISE, tmp_path)


def test_the_check_leaves_skipped_rows_out(form):
  spec = dict(source="numbers", pp="keep_even")
  assert numbers.check(numbers.datasets(spec), form) == {"numbers": (0, 5)}
  spec |= dict(size=1, start=1)
  with pytest.raises(ValueError, match="numbers: none of the 1 rows tried"):
    numbers.check(numbers.datasets(spec), form)


def test_the_file_of_bad_rows_can_be_looked_at_and_sent(tmp_path):
  row = bad.Bad("a", 7, "http://me:secret@h/x.jsonl:8", "\x1b[2J no \u202ekey")
  for _ in range(2):
    record = bad.Record({"a": 5}, SKIP.bad, str(tmp_path / "bad.jsonl"))
    record._write([row, row])
  (line,) = lines(tmp_path / "bad.jsonl")
  assert line["message"] == r"\u001b[2J no \u202ekey"
  assert line["where"] == "http://***@h/x.jsonl:8"
