"""VQAv2, POPE and MMVP: one example as it is written, and bad releases."""

import importlib
import json

import pytest

from pg.data.formats import prepared
from scripts.prepare import release
from tests.support.releases import vqav2 as made


@pytest.fixture
def prepare(tmp_path):
  """Returns a function from a name to rows of a split, and a raw folder."""
  raw = tmp_path / "raw"
  raw.mkdir()

  def run(name, split):
    module = importlib.import_module(f"scripts.prepare.{name}")
    out = tmp_path / name
    release.prepare(module.splits, raw, out, allow_incomplete=True, quiet=True)
    source = prepared.find(out, split)
    return [
      {k: v for k, v in source[i].items() if k != "image"}
      for i in range(len(source))
    ]

  run.raw = raw
  return run


def test_a_question_has_its_answers_and_ids(prepare):
  made.vqav2(prepare.raw)
  assert prepare("vqav2", "val")[1] == dict(
    image_id=101,
    question_id=101001,
    question_text="Is it raining?",
    answers=["yes"] * 7 + ["yes!"] * 3,
    answer_type="yes/no",
    question_type="yes/no",
  )
  assert prepare("vqav2", "test")[5] == dict(
    image_id=202, question_id=202002, question_text="How many birds?"
  )


def test_a_question_without_answers_is_named(prepare):
  made.vqav2(prepare.raw)
  path = prepare.raw / "v2_mscoco_train2014_annotations.json"
  content = json.loads(path.read_text())
  content["annotations"] = content["annotations"][1:]
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="question 1000 of .* has no answers"):
    prepare("vqav2", "train")


def test_annotations_of_another_form_are_named(prepare):
  made.vqav2(prepare.raw)
  path = prepare.raw / "v2_mscoco_train2014_annotations.json"
  path.write_text('{"answers": []}')
  with pytest.raises(ValueError, match="no 'annotations', only 'answers'"):
    prepare("vqav2", "train")
  path.write_text('{"annotations": [{"question_id": 1000}]}')
  with pytest.raises(ValueError, match="split train: .*KeyError 'answers'"):
    prepare("vqav2", "train")


def test_pope_asks_for_yes_or_no(prepare):
  made.pope(prepare.raw)
  assert prepare("pope", "popular")[1] == dict(
    question_id=2,
    question_type="popular",
    question="Is there a dog in the image?",
    answer="no",
  )


def test_a_label_of_pope_that_is_neither_is_named(prepare):
  made.pope(prepare.raw)
  path = prepare.raw / "coco_pope_random.json"
  path.write_text(path.read_text().replace('"no"', '"maybe"'))
  with pytest.raises(ValueError, match='random.json:2: wanted "yes" or "no"'):
    prepare("pope", "random")


def test_mmvp_has_pairs_and_the_text_of_the_right_option(prepare):
  made.mmvp(prepare.raw)
  rows = prepare("mmvp", "test")
  assert rows[1] == dict(
    question_id=2,
    pair=0,
    question="Is the kite open?",
    options=["Open", "Folded"],
    answer="Folded",
  )
  assert [row["pair"] for row in rows] == [0, 0, 1, 1]


def test_an_answer_of_mmvp_that_is_no_option_is_named(prepare):
  made.mmvp(prepare.raw)
  path = prepare.raw / "Questions.csv"
  path.write_text(path.read_text().replace(",(b)", ",(c)"))
  with pytest.raises(
    ValueError, match="question 2 .* answer '\\(c\\)' is none"
  ):
    prepare("mmvp", "test")
