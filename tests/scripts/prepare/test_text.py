"""Charts, documents and text in photos: one example each, and bad releases."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from scripts.prepare import release, stvqa
from tests.support import preparation
from tests.support.releases import text


@pytest.fixture
def raw(tmp_path):
  path = tmp_path / "raw"
  path.mkdir()
  return path


def test_chartqa_says_who_asked(raw):
  text.chartqa(raw)
  rows = preparation.rows(raw, "chartqa", "val_human + val_augmented")
  assert [row["question_type"] for row in rows[2:4]] == ["human", "augmented"]
  assert rows[5] == {
    "image/filename": "augmented_12.png",
    "question_id": 2,
    "question_type": "augmented",
    "question": "What is the value of augmented 1 in 2021?",
    "answer": "[Kites, Birds]",
  }


def test_ocrvqa_asks_each_question_of_a_book(raw):
  text.ocrvqa(raw)
  rows = preparation.rows(raw, "ocrvqa", "train")
  ids = [f"012345678{i}_{n}" for i in (0, 1) for n in (0, 1)]
  assert [row["question_id"] for row in rows] == ids
  assert rows[2] == dict(
    image_id="0123456781",
    question_id="0123456781_0",
    question="Who wrote this book?",
    answer="Ann Example1",
  )


def test_covers_of_ocrvqa_that_are_gone_are_left_out(raw, tmp_path):
  text.ocrvqa(raw)
  module = importlib.import_module("scripts.prepare.ocrvqa")
  done = release.prepare(module.splits, raw, tmp_path / "out", quiet=True)
  assert [(d.num, d.num_absent) for d in done] == [(4, 0), (4, 0), (2, 2)]


@pytest.mark.parametrize(
  "old, new", [('"split": 2', '"split": 4'), ('3", "No"]', '3"]')]
)
def test_a_book_that_is_not_as_expected_is_named(raw, old, new):
  text.ocrvqa(raw)
  preparation.change(raw / "dataset.json", old, new)
  with pytest.raises(ValueError, match="dataset.json: 012345678. is in split"):
    preparation.rows(raw, "ocrvqa", "train")


def test_textvqa_has_ten_answers_but_in_test(raw):
  text.textvqa(raw)
  assert preparation.rows(raw, "textvqa", "val")[1] == dict(
    image_id="00ab12cd34ef5611",
    question_id=101,
    question="what word is on kite 11?",
    answers=["stop"] * 7 + ["STOP."] * 3,
  )
  assert preparation.rows(raw, "textvqa", "test")[1] == dict(
    image_id="00ab12cd34ef5621",
    question_id=201,
    question="what word is on kite 21?",
  )


def test_photos_of_textvqa_that_lie_on_a_side_are_turned(raw):
  text.textvqa(raw)
  for name in ("train", "test"):
    for photo in (raw / f"{name}_images").iterdir():
      image = np.zeros((32, 48, 3), np.uint8)
      image[:, :24, 0] = 255  # the left half is red
      Image.fromarray(image).save(photo, quality=95)
  rows = preparation.rows(raw, "textvqa", "test", pictures=True)
  red = [
    np.asarray(Image.open(io.BytesIO(row["image"])))[..., 0] > 127
    for row in rows
  ]
  assert [x.shape for x in red] == [(32, 48), (48, 32), (32, 48), (48, 32)]
  halves = [x[:, :24] for x in red[::2]] + [red[1][24:], red[3][:24]]
  assert all(half.mean() > 0.95 for half in halves)  # 90: left goes down
  assert all(x.mean() < 0.55 for x in red)
  stored = raw / "test_images/00ab12cd34ef5620.jpg"
  assert rows[0]["image"] == stored.read_bytes()


def test_a_photo_of_textvqa_that_the_table_lacks_is_named(raw):
  text.textvqa(raw)
  table = raw / "test-images-with-rotation.csv"
  preparation.change(table, "00ab12cd34ef5623", "00ab12cd34ef56ff")
  with pytest.raises(ValueError, match="1 of the photos, such as 00ab12.*5623"):
    preparation.rows(raw, "textvqa", "test")


def test_photos_that_lie_on_a_side_may_be_missing(raw):
  text.textvqa(raw)
  (raw / "test_images/00ab12cd34ef5621.jpg").unlink()
  assert len(preparation.rows(raw, "textvqa", "test")) == 3


def test_docvqa_keeps_number_and_page(raw):
  text.docvqa(raw)
  asked = {"question": "What is the date of page 1-2?", "question_id": 102}
  page = {"image/filename": "documents/abcd1000_2.png"}
  answers = {"answers": ["1 May 1999", "May 1, 1999"]}
  assert preparation.rows(raw, "docvqa", "val")[2] == asked | page | answers
  assert "answers" not in preparation.rows(raw, "docvqa", "test")[0]


def test_older_and_newer_names_of_documents_are_found(raw):
  text.docvqa(raw)
  wanted = preparation.rows(raw, "docvqa", "val", pictures=True)
  (raw / "val_v1.0_withQT.json").rename(raw / "val/val_v1.0.json")
  (raw / "spdocvqa_images").mkdir()
  for page in (raw / "val/documents").iterdir():
    page.rename(raw / "spdocvqa_images" / page.name)
  (raw.parent / "docvqa/val.jsonl").unlink()
  found = preparation.rows(raw, "docvqa", "val", pictures=True)
  assert found == wanted and len(found) == 3


def test_older_names_of_posters_are_found(raw):
  text.infovqa(raw)
  wanted = preparation.rows(raw, "infovqa", "train", pictures=True)
  name = "infographicVQA_train_v1.0"
  (raw / "infographicsVQA_train_v1.0.json").rename(raw / f"{name}.json")
  (raw / "images").rename(raw / f"{name}_images")
  (raw.parent / "infovqa/train.jsonl").unlink()
  found = preparation.rows(raw, "infovqa", "train", pictures=True)
  assert found == wanted and len(found) == 3


def test_parts_of_an_answer_are_in_every_order_in_val_of_infovqa(raw):
  text.infovqa(raw)
  row = dict(
    filename="200010.jpeg",
    question_id=65010,
    question="Which kites 10 were sold?",
  )
  both = ["Red, Blue", "Blue, Red", "3 million"]
  assert preparation.rows(raw, "infovqa", "val")[0] == row | {"answers": both}
  given = preparation.rows(raw, "infovqa", "train")[0]["answers"]
  assert given == ["Red, Blue", "3 million"]
  assert "answers" not in preparation.rows(raw, "infovqa", "test")[0]


def test_stvqa_takes_large_photos_of_coco(raw):
  text.stvqa(raw)
  rows = preparation.rows(raw, "stvqa", "train", pictures=True)
  name = rows[1]["filename"].removeprefix("coco-text/")
  large = raw / "train2014" / name
  assert name.startswith("COCO_train2014")
  assert rows[1]["image"] == large.read_bytes()
  other = {row["filename"]: row for row in rows}["iiit_text/img_train_128.jpg"]
  path = raw / "train_images" / other["filename"]
  assert other.pop("image") == path.read_bytes()
  assert other == dict(
    filename="iiit_text/img_train_128.jpg",
    question_id=1,
    question="What is on sign 1?",
    answers=["Stop", "stop sign"],
  )


def test_val_of_stvqa_is_a_tenth_of_the_photos_of_train(raw):
  text.stvqa(raw)
  train, val, both = (
    [row["question_id"] for row in preparation.rows(raw, "stvqa", split)]
    for split in ("train", "val", "train + val")
  )
  assert sorted(both) == sorted(train + val) == list(range(12))
  assert train and val and both == train + val
  kinds = [stvqa.split_of(f"vizwiz/{i}.jpg") for i in range(2000)]
  assert 150 < kinds.count("val") < 250


def test_train_of_stvqa_of_another_size_is_listed(raw, tmp_path):
  text.stvqa(raw)
  with pytest.raises(ValueError) as error:
    release.prepare(stvqa.splits, raw, tmp_path / "out", quiet=True)
  assert "train_task_3.json has 12 questions and 26,074" in str(error.value)
  assert "split test has 12 questions and 4,070" in str(error.value)


@pytest.mark.parametrize(
  "name, file, old, new, match",
  [
    ("rsvqa_lr", "LR_split_val_answers.json", "answers", "x", "no 'answers'"),
    (
      "chartqa",
      "ChartQA Dataset/val/val_human.json",
      "label",
      "answer",
      "val_human.json has no 'label', only 'imgname', 'query', 'answer'",
    ),
    ("ocrvqa", "dataset.json", "imageURL", "url", "'imageURL'; it may be of"),
    (
      "textvqa",
      "TextVQA_0.5.1_val.json",
      "0.5.1",
      "0.5",
      "val.json says version 0.5; wanted 0.5.1",
    ),
    ("textvqa", "TextVQA_0.5.1_val.json", '"answers"', '"x"', "KeyError 'answ"),
    (
      "docvqa",
      "val_v1.0_withQT.json",
      '"answers"',
      '"x"',
      "question 100 of val_v1.0_withQT.json has no answers",
    ),
    (
      "docvqa",
      "val_v1.0_withQT.json",
      '["1 May 1999", "May 1, 1999"]',
      "[]",
      "question 100 of val_v1.0_withQT.json has no answers",
    ),
    ("infovqa", "infographicsVQA_val_v1.0_withQT.json", '"data":', '"d":', "d"),
    ("stvqa", "train_task_3.json", '"answers"', '"x"', "question . of train"),
    ("stvqa", "train_task_3.json", "file_path", "path", "'file_path'"),
  ],
)
def test_a_file_of_another_version_is_named(raw, name, file, old, new, match):
  getattr(text, name)(raw)
  preparation.change(raw / file, old, new)
  with pytest.raises(ValueError, match=match):
    preparation.rows(raw, name, "val")


@pytest.mark.parametrize(
  "name, want",
  dict(
    rsvqa_lr=["LR_split_val_answers.json from zenodo.org record 6344334"],
    rsvqa_hr=["USGS_split_test_phili_questions.json", "record 6344367"],
    chartqa=["test/test_augmented.json", "github.com/vis-nlp/ChartQA"],
    ocrvqa=["dataset.json from ocr-vqa.github.io"],
    textvqa=["TextVQA_0.5.1_test.json", "test-images-with-rotation.csv"],
    docvqa=["val_v1.0_withQT.json", "challenge 17 of rrc.cvc.uab.es"],
    infovqa=["infographicsVQA_val_v1.0_withQT.json", "challenge 17"],
    stvqa=["train_task_3.json", "test_task_3.json from challenge 11"],
  ).items(),
)
def test_an_empty_folder_says_what_to_get(raw, tmp_path, name, want):
  module = importlib.import_module(f"scripts.prepare.{name}")
  with pytest.raises(ValueError) as error:
    release.prepare(module.splits, raw, tmp_path / "out", quiet=True)
  assert all(text in str(error.value) for text in want), error.value


@pytest.mark.parametrize(
  "name, image, want",
  [
    ("rsvqa_lr", "Images_LR/1.tif", "Images_LR from zenodo.org record 6344334"),
    ("chartqa", "ChartQA Dataset/val/png/human_11.png", "ChartQA Dataset"),
    ("docvqa", "val/documents/abcd1000_1.png", "the pages of val from"),
    ("infovqa", "images/200011.jpeg", "posters from challenge 17"),
    ("stvqa", "train_images/iiit_text/img_train_128.jpg", "train_images from"),
    ("stvqa", "train2014/COCO_train2014_000000000130.jpg", "train2014.zip"),
    ("textvqa", "train_images/00ab12cd34ef5601.jpg", "train_val_images.zip"),
  ],
)
def test_images_that_are_not_there_are_counted(
  raw, tmp_path, name, image, want
):
  getattr(text, name)(raw)
  (raw / image).unlink()
  module = importlib.import_module(f"scripts.prepare.{name}")
  with pytest.raises(ValueError, match=f"1 images .* get .*{want}") as error:
    release.prepare(module.splits, raw, tmp_path / "out", quiet=True)
  assert "were published" in str(error.value)
