"""Public sets for pre-training: rows as they are written, and bad releases."""

import io
import os

import pytest
from PIL import Image

from pg.data.formats import prepared
from pg.pp import masks
from scripts.prepare import cc3m, openimages_seg, release, visual_genome
from tests.support import preparation
from tests.support.releases import pretraining

KITE = [0.25, 0.2, 0.5, 0.6]


@pytest.fixture
def raw(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  return folder


@pytest.mark.parametrize("format", release.FORMATS)
def test_captions_of_photos_in_tar_files_that_stay_packed(raw, format):
  pretraining.cc3m(raw)
  out = raw.parent / "cc3m"
  release.prepare(cc3m.splits, raw, out, format, quiet=True)
  source = prepared.find(out, "train")
  caption = "a kite over field 101"
  row = source[3]
  assert Image.open(io.BytesIO(row.pop("image"))).size == (50, 40)
  assert row == dict(image_id="000000101", caption=caption)
  assert len(source) == 4 and len(prepared.find(out, "validation")) == 2


def test_photos_in_tar_files_are_not_copied(raw):
  pretraining.cc3m(raw)
  preparation.rows(raw, "cc3m", "train")
  text = (raw.parent / "cc3m/train.jsonl").read_text()
  assert '"../raw/cc3m-train-0000.tar/000000000.jpg"' in text


def test_a_tar_file_that_is_broken_off_is_named(raw):
  pretraining.cc3m(raw)
  path = raw / "cc3m-train-0001.tar"
  path.write_bytes(path.read_bytes()[:700])
  with pytest.raises(ValueError, match=r"cc3m-train-0001.tar is damaged \(une"):
    preparation.rows(raw, "cc3m", "train")


def test_without_its_files_captions_say_where_they_are(raw):
  message = "cc3m-train-.*tar is not in .*; get .* from huggingface.co/datasets"
  with pytest.raises(ValueError, match=message):
    release.prepare(cc3m.splits, raw, raw.parent / "cc3m", quiet=True)


def test_an_image_of_wikipedia_has_captions_in_its_languages(raw):
  pretraining.wit(raw)
  first, last = preparation.rows(raw, "wit", "train")
  assert first == dict(
    image_id="https://upload.example.org/0.jpg",
    languages=["de", "fr"],
    captions=["Ein Drache über Feldern", "Un cerf-volant"],
  )
  assert last["captions"] == ["Ein roter Drache"]  # none of image 1


def test_lines_of_hiertext_are_those_that_can_be_read(raw):
  pretraining.hiertext(raw)
  row = preparation.rows(raw, "hiertext", "validation")[1]
  assert row == dict(
    image_id="v000000000000001",
    height=40,
    width=50,
    boxes=[[0.5, 0.08, 0.7, 1.0], [0.1, 0.2, 0.3, 0.8]],  # cut at the edge
    texts=["Open daily", "KITES"],
  )


def test_questions_made_of_captions_have_all_their_answers(raw):
  pretraining.vq2a(raw)
  first, second = preparation.rows(raw, "vq2a", "train")
  assert first == dict(
    image_id="000000007",
    question_id="0_0",
    question="what is red?",
    answers=["kite"] * 9 + ["a kite"],
  )
  assert second["question"] == "where?"


def test_a_photo_of_visual_genome_has_regions_and_questions(raw):
  pretraining.visual_genome(raw)
  size = dict(height=40, width=50)
  box = [0.2, 0.2, 0.6, 0.6]
  assert preparation.rows(raw, "visual_genome", "regions") == [
    dict(image_id=1, **size, boxes=[box], texts=["a red kite"]),
    dict(image_id=2, **size, boxes=[], texts=[]),
  ]
  asked = dict(questions=["What is red?"], answers=["A kite"])
  row = preparation.rows(raw, "visual_genome", "questions")[0]
  assert row == dict(image_id=1, **size, **asked)


def test_files_of_visual_genome_that_do_not_fit_are_named(raw):
  pretraining.visual_genome(raw)
  out = raw.parent / "visual_genome"
  preparation.change(raw / "image_data.json", '"image_id": 2', '"image_id": 3')
  message = "photo 2 of question_answers.json is not in image_data.json; are"
  with pytest.raises(ValueError, match=message):
    only = dict(only=["questions"], quiet=True)
    release.prepare(visual_genome.splits, raw, out, **only)
  preparation.change(raw / "image_data.json", "VG_100K_2", "VG_200K")
  with pytest.raises(ValueError, match="wanted one in VG_100K, VG_100K_2"):
    preparation.rows(raw, "visual_genome", "regions")


def test_open_images_says_what_is_there_and_what_is_not(raw):
  pretraining.openimages(raw)
  first, second = preparation.rows(raw, "openimages", "train")
  assert first == dict(
    image_id="t000000000000000",
    boxes=[KITE, [0.25, 0.7, 0.5, 0.9], [0.5, 0.1, 0.95, 0.3]],
    labels=["kite", "kite", "person"],
    iscrowd=[0, 0, 0],
    groups=0,
    absent=["cow"],
  )
  assert (second["iscrowd"], second["groups"]) == ([1], 1)
  assert len(preparation.rows(raw, "openimages", "test")) == 2


def test_boxes_of_a_photo_at_two_places_are_refused(raw):
  pretraining.openimages(raw)
  path = raw / "oidv6-train-annotations-bbox.csv"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines, lines[1]]) + "\n")
  with pytest.raises(ValueError, match="boxes of t0+ are at two places; sort"):
    preparation.rows(raw, "openimages", "train")


def test_classes_without_names_of_columns_are_of_another_version(raw):
  pretraining.openimages(raw)
  path = raw / "oidv7-class-descriptions-boxable.csv"
  preparation.change(path, "LabelName,DisplayName\n", "")
  with pytest.raises(ValueError, match="no 'LabelName', 'DisplayName', only"):
    preparation.rows(raw, "openimages", "train")


def test_a_mask_becomes_run_lengths(raw):
  pretraining.openimages_seg(raw)
  (row,) = preparation.rows(raw, "openimages_seg", "validation")
  assert (row["labels"], row["boxes"][0]) == (["kite", "person"], KITE)
  kite = masks.mask_of(row["masks"][0], {})
  assert kite.shape == (20, 20) and kite[5:10, 4:12].all()
  assert kite.sum() == 40


def test_a_photo_whose_mask_is_missing_is_left_out_and_counted(raw):
  pretraining.openimages_seg(raw)
  found = sorted((raw / "train-masks").iterdir())
  os.remove(found[0])
  out = raw.parent / "openimages_seg"
  how = dict(allow_incomplete=True, quiet=True)
  done = release.prepare(openimages_seg.splits, raw, out, **how)
  assert [d.num_absent for d in done] == [1, 0, 0]
