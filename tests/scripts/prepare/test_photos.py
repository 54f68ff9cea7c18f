"""Questions about photos: one example as it is written, and bad releases."""

import importlib
import json

import pytest

from scripts.prepare import gqa, release
from tests.support import preparation
from tests.support.releases import photos


@pytest.fixture
def raw(tmp_path):
  path = tmp_path / "raw"
  path.mkdir()
  return path


def test_a_question_of_okvqa_has_ten_answers_in_two_forms(raw):
  photos.okvqa(raw)
  assert preparation.rows(raw, "okvqa", "val")[1] == dict(
    image_id=101,
    question_id=1011,
    question_type="four",
    answer_type="other",
    question="Who can fly it?",
    answers=["a child"] * 7 + ["kite"] * 3,
    answers_raw=["a childs"] * 10,
    answers_confidence=[True] * 9 + [False],
  )


def test_a_question_of_okvqa_without_answers_is_named(raw):
  photos.okvqa(raw)
  path = raw / "mscoco_train2014_annotations.json"
  preparation.change(path, '"question_id": 11,', '"question_id": 12345,')
  with pytest.raises(ValueError, match="question 11 of .* has no answers"):
    preparation.rows(raw, "okvqa", "train")


def test_aokvqa_has_choices_and_answers_but_in_test(raw):
  photos.aokvqa(raw)
  asked = dict(
    question_id="val3dE5gH7jK9mN1pQ3sT5",
    image_id=104,
    question="What color is the kite?",
    multiple_choice_possible_answers=["rope", "wind", "engine 3", "bird"],
    direct_answer_is_difficult=True,
  )
  assert preparation.rows(raw, "aokvqa", "val")[3] == dict(
    asked,
    multiple_choice_correct_idx=3,
    direct_answers=["wind"] * 7 + ["air"] * 3,
    answer_rationales=["It flies.", "It is light.", "It is up."],
  )
  assert preparation.rows(raw, "aokvqa", "test")[3] == dict(
    asked,
    question_id="test3dE5gH7jK9mN1pQ3sT",
    image_id=204,
    multiple_choice_correct_idx=-1,
    direct_answers=[],
    answer_rationales=[],
  )


def test_answers_of_aokvqa_that_are_not_there_are_named(raw):
  photos.aokvqa(raw)
  path = raw / "aokvqa_v1p0_val.json"
  preparation.change(path, '"correct_choice_idx": 3', '"correct_choice_idx": 4')
  with pytest.raises(ValueError, match="val3dE.* has 4 choices, and 4 is the"):
    preparation.rows(raw, "aokvqa", "val")
  preparation.change(path, '"direct_answers"', '"answers"')
  with pytest.raises(ValueError, match="no 'direct_answers', only 'split', "):
    preparation.rows(raw, "aokvqa", "val")


def test_gqa_and_xgqa_keep_an_id_as_text(raw):
  photos.gqa(raw)
  photos.xgqa(raw)
  row = {
    "question_id": "0712546",
    "image/id": "n201",
    "question": "Is kite 201 red?",
    "answer": "no",
  }
  more = dict(full_answer="No, it is.", is_balanced=True)
  assert preparation.rows(raw, "gqa", "testdev_balanced")[1] == row | more
  row |= dict(question="Ist Drachen 201 rot?", language="de")
  assert preparation.rows(raw, "xgqa", "test_zs_de")[1] == row


def test_programs_behind_questions_of_gqa_are_not_kept_in_memory(raw):
  photos.gqa(raw)
  files = release.Raw(raw)
  made = files.json("val_balanced_questions.json", hook=gqa.slim)
  assert set(made) == {"0712445", "0712446", "0712447"}
  assert set(made["0712445"]) == set(gqa.KEYS)


def test_a_question_of_gqa_without_an_answer_is_named(raw):
  photos.gqa(raw)
  preparation.change(raw / "val_balanced_questions.json", '"answer": "no",', "")
  with pytest.raises(ValueError, match="val_balanced: row 1 .*'answer'"):
    preparation.rows(raw, "gqa", "val_balanced")


def test_a_count_of_tallyqa_is_a_number_and_train_not_simple(raw):
  photos.tallyqa(raw)
  assert preparation.rows(raw, "tallyqa", "test")[5] == dict(
    image_id=92100106,
    image_source="amt",
    question_id=30000106,
    question="How many kites are near kite 106?",
    answer=5,
    issimple=0,
  )
  assert {
    row["issimple"] for row in preparation.rows(raw, "tallyqa", "train")
  } == {-1}


def test_an_image_of_tallyqa_from_elsewhere_is_named(raw):
  photos.tallyqa(raw)
  preparation.change(raw / "test.json", "VG_100K_2/", "VG_100K_3/")
  with pytest.raises(ValueError, match="30000102 has the image 'VG_100K_3/"):
    preparation.rows(raw, "tallyqa", "test")


def test_countbenchqa_leaves_out_what_has_no_colour_image(raw):
  photos.countbenchqa(raw)
  rows = preparation.rows(raw, "countbenchqa", "huggingface")
  assert rows == [
    dict(
      image_id=i,
      question_id=i,
      image_url=f"https://photos.example/{i}.jpg",
      text=f"{i + 2} kites",
      question=f"How many kites are there in sky {i}?",
      number=i + 2,
    )
    for i in (0, 3)
  ]


def test_countbenchqa_wants_a_question_for_each_image(raw):
  photos.countbenchqa(raw)
  path = raw / "countbench_paired_questions.json"
  path.write_text(json.dumps(json.loads(path.read_text())[:3]))
  with pytest.raises(ValueError, match="has 4 rows .* of the 3 questions"):
    preparation.rows(raw, "countbenchqa", "huggingface")


def test_vizwiz_leaves_empty_answers_out_and_keeps_names(raw):
  photos.vizwizvqa(raw)
  row = {
    "image/filename": "VizWiz_train_00000008.jpg",
    "question_id": 8,
    "question": "What is this Who can fly it?",
    "answers": ["soup can"] * 9,
    "answer_confidences": ["yes"] * 9,
    "answerable": 1,
  }
  rows = preparation.rows(raw, "vizwizvqa", "train")
  assert rows[1] == row
  assert rows[3]["answers"] == []
  row |= dict(answers=[], answer_confidences=[], answerable=-1)
  row["image/filename"] = "VizWiz_test_00000008.jpg"
  assert preparation.rows(raw, "vizwizvqa", "test")[1] == row


def test_an_image_of_vizwiz_without_a_number_is_named(raw):
  photos.vizwizvqa(raw)
  preparation.change(
    raw / "annotations/val.json", "VizWiz_val_00000009", "photo"
  )
  with pytest.raises(ValueError, match="'photo.jpg' is not called like"):
    preparation.rows(raw, "vizwizvqa", "val")


@pytest.mark.parametrize(
  "name, want",
  dict(
    okvqa="mscoco_val2014_annotations.json.zip from okvqa.allenai.org",
    aokvqa="aokvqa_v1p0.tar.gz",
    gqa="questions1.2.zip",
    xgqa="github.com/e-bug/iglue",
    nlvr2="github.com/lil-lab/nlvr",
    marvl="marvl-challenge.github.io",
    tallyqa="tallyqa.zip",
    countbenchqa="nielsr/countbench",
    vizwizvqa="Annotations.zip",
    vsr="visual-spatial-reasoning",
    ai2d="ai2d-all.zip",
    science_qa="scienceqa.github.io",
  ).items(),
)
def test_an_empty_folder_says_what_to_get(raw, tmp_path, name, want):
  module = importlib.import_module(f"scripts.prepare.{name}")
  with pytest.raises(ValueError, match=want):
    release.prepare(module.splits, raw, tmp_path / "out", quiet=True)
