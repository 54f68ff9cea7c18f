"""RSVQA: examples as they are written, and bad releases."""

import functools
import importlib

import pytest

from pg.data.formats import prepared
from scripts.prepare import release, rsvqa, rsvqa_hr
from tests.support import preparation
from tests.support.releases import text


@pytest.fixture
def raw(tmp_path):
  path = tmp_path / "raw"
  path.mkdir()
  return path


def test_rsvqa_leaves_out_numbers_and_what_is_not_active(raw):
  text.rsvqa_lr(raw)
  rows = preparation.rows(raw, "rsvqa_lr", "val")
  assert [row["question_id"] // 2 for row in rows] == [
    100 + i for i in (0, 1, 2, 4, 5, 6, 8, 9, 10)
  ]
  assert rows[0] == dict(
    filename="100.tif",
    question_id=200,
    question="Are there more roads than farms?",
    question_type="comp",
    answers=["Yes"],
    raw_answers=["Yes"],
  )
  text.rsvqa_hr(raw)
  types = {r["question_type"] for r in preparation.rows(raw, "rsvqa_hr", "all")}
  assert types == {"comp", "presence"}


def test_rsvqa_test_2_is_the_other_city(raw):
  text.rsvqa_hr(raw)
  rows = preparation.rows(raw, "rsvqa_hr", "test_2")
  assert rows[0]["filename"] == "300.png"


def test_rsvqa_sorts_numbers_into_ranges_where_they_are_kept(raw, tmp_path):
  for name in ("rsvqa_lr", "rsvqa_hr"):
    getattr(text, name)(raw)
    module = importlib.import_module(f"scripts.prepare.{name}")
    release.prepare(
      functools.partial(module.splits, numbers=True),
      raw,
      tmp_path / name,
      allow_incomplete=True,
      quiet=True,
    )
  said = {}
  for name in ("rsvqa_lr", "rsvqa_hr"):
    for row in iter(prepared.find(tmp_path / name, "train")):
      key = name, row["question_type"]
      said[key] = row["answers"] + row["raw_answers"]
  assert said["rsvqa_lr", "count"] == ["between 11 and 100", "17"]
  assert said["rsvqa_hr", "area"] == ["more than 1000 m2", "1035m2"]
  assert said["rsvqa_hr", "count"] == ["3", "3"]


def test_ranges_begin_and_end_where_those_of_rsvqa_do():
  ranges = [rsvqa.in_range(n) for n in (0, 1, 10, 11, 100, 101, 1000, 1001)]
  assert ranges == [
    "0",
    "between 1 and 10",
    "between 1 and 10",
    "between 11 and 100",
    "between 11 and 100",
    "between 101 and 1000",
    "between 101 and 1000",
    "more than 1000",
  ]
  assert rsvqa.in_range(7, " m2") == "between 1 m2 and 10 m2"


def test_a_question_of_rsvqa_without_its_answer_is_named(raw):
  text.rsvqa_lr(raw)
  path = raw / "LR_split_val_answers.json"
  preparation.change(path, '"question_id": 202,', '"question_id": 203,')
  with pytest.raises(
    ValueError, match="question 202 of LR_split_val_questions"
  ):
    preparation.rows(raw, "rsvqa_lr", "val")
  preparation.change(path, '{"id": 202,', '{"id": 20202,')
  with pytest.raises(
    ValueError, match="question 202 of LR_split_val_questions"
  ):
    preparation.rows(raw, "rsvqa_lr", "val")


def test_as_many_questions_as_were_published_are_wanted(raw, tmp_path):
  text.rsvqa_hr(raw)
  splits = {s.name: s.num for s in rsvqa_hr.splits(release.Raw(raw))}
  assert splits == dict(train=371834, val=60405, test=131468, test_2=62554)
  splits = rsvqa_hr.splits(release.Raw(raw), numbers=True)
  assert [s.num for s in splits] == [625340, 102843, 222684, 105647]
