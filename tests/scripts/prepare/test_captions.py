"""Captions: one example of each as it is written, and bad releases."""

import bz2
import importlib
import json

import numpy as np
import pytest

from pg.data.formats import prepared
from scripts.prepare import release
from tests.support.releases import captions as made
from transfers import coco35l as transfer


@pytest.fixture
def raw(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  return folder


def prepare(raw, name, *only, **options):
  """Prepares a release, whatever its size; returns the folder."""
  module = importlib.import_module(f"scripts.prepare.{name}")
  out = raw.parent / "data" / name
  options = dict(allow_incomplete=True, quiet=True, only=only) | options
  release.prepare(module.splits, raw, out, **options)
  return out


def rows(raw, name, split):
  """Prepares a split, and returns its rows without their images."""
  source = prepared.find(prepare(raw, name, split), split)
  return [
    {k: v for k, v in source[i].items() if k != "image"}
    for i in range(len(source))
  ]


def change(path, function):
  """Replaces what is in a JSON file."""
  path.write_text(json.dumps(function(json.loads(path.read_text()))))


# COCO captions and nocaps.


def test_a_photo_of_coco_has_all_its_captions_as_they_are(raw):
  made.cococap(raw)
  assert rows(raw, "cococap", "val")[1] == {
    "image/id": 103,
    "image/filename": "COCO_val2014_000000000103.jpg",
    "captions": {
      "id": [1030, 1031],
      "text": [f"103 {made.SAID[0]}", "103 two boats near the shore \n"],
    },
  }


def test_restval_is_the_part_of_val2014_to_train_on(raw):
  made.cococap(raw)
  (row,) = rows(raw, "cococap", "restval")
  assert row["image/filename"] == "COCO_val2014_000000000101.jpg"
  assert [r["image/id"] for r in rows(raw, "cococap", "train")] == [1, 2, 3]


def test_a_photo_without_captions_is_named(raw):
  made.cococap(raw)
  drop = lambda x: {
    "annotations": [a for a in x["annotations"] if a["image_id"] != 104]
  }
  change(raw / "annotations/captions_val2014.json", drop)
  with pytest.raises(ValueError, match="photo 104 of dataset_coco.json has no"):
    prepare(raw, "cococap", "test")


def test_a_list_without_splits_is_of_another_version(raw):
  made.cococap(raw)
  path = raw / "dataset_coco.json"
  path.write_text(path.read_text().replace('"split"', '"part"'))
  with pytest.raises(ValueError, match="KeyError 'split'; .*another version"):
    prepare(raw, "cococap")
  path.write_text('{"photos": []}')
  with pytest.raises(ValueError, match="has no 'images'"):
    prepare(raw, "cococap")


def test_all_that_is_missing_of_coco_is_listed_with_its_site(raw):
  with pytest.raises(ValueError) as e:
    prepare(raw, "cococap", allow_incomplete=False)
  lines = str(e.value).splitlines()
  assert "get caption_datasets.zip from Karpathy's page" in lines[0]
  for line, year in zip(lines[1:], ("train2014", "val2014"), strict=True):
    assert line.startswith(f"annotations/captions_{year}.json is not in")
    assert line.endswith(
      "get annotations_trainval2014.zip from cocodataset.org"
    )


def test_numbers_and_photos_that_do_not_fit_are_listed(raw):
  made.cococap(raw)
  (raw / "val2014/COCO_val2014_000000000105.jpg").unlink()
  with pytest.raises(ValueError) as e:
    prepare(raw, "cococap", allow_incomplete=False)
  text = str(e.value)
  assert "split train has 3 photos and 82,783 were published" in text
  assert "1 images or clips are missing; get val2014.zip from coco" in text
  assert [r["image/id"] for r in rows(raw, "cococap", "test")] == [104]


def test_nocaps_has_captions_of_val_only(raw):
  made.nocaps(raw)
  assert rows(raw, "nocaps", "val")[1] == {
    "image/id": 1,
    "texts": [f"{made.SAID[0]} 1", f"{made.SAID[1]} 1"],
  }
  assert rows(raw, "nocaps", "test") == [{"image/id": 0}, {"image/id": 1}]


def test_a_photo_of_nocaps_without_captions_is_named(raw):
  made.nocaps(raw)
  path = raw / "nocaps_val_4500_captions.json"
  change(path, lambda x: x | {"annotations": x["annotations"][:2]})
  with pytest.raises(ValueError, match="photo 1 of nocaps_val_4500_captions"):
    prepare(raw, "nocaps", "val")
  change(path, lambda x: {"images": x["images"]})
  with pytest.raises(ValueError, match="has no 'annotations', only 'images'"):
    prepare(raw, "nocaps", "val")


# COCO-35L and XM3600.


def test_captions_of_a_photo_come_together_in_each_language(raw):
  made.coco35l(raw)
  assert rows(raw, "coco35l", "dev_fil")[1] == {
    "image/id": "103_fil",
    "captions": ["fil 103 kite 0 .", "fil 103 kite 1 ."],
    "language": "fil",
  }


def test_english_is_what_german_was_translated_from(raw):
  made.coco35l(raw)
  assert rows(raw, "coco35l", "train_en")[0] == {
    "image/id": "1_en",
    "captions": ["1 red kite ."] * 2,
    "language": "en",
  }


def test_there_are_splits_of_35_languages_also_from_a_packed_file(raw):
  made.coco35l(raw)
  for part in ("train", "dev"):
    path = raw / f"coco_mt_{part}.jsonl"
    (raw / f"{path.name}.bz2").write_bytes(bz2.compress(path.read_bytes()))
    path.unlink()
  done = prepare(raw, "coco35l")
  names = {path.stem for path in done.glob("*.jsonl")}
  assert len(transfer.LANGUAGES) == 35
  assert names == {
    f"{p}_{x}" for p in ("train", "dev") for x in transfer.LANGUAGES
  }


def test_a_caption_of_no_photo_is_named(raw):
  made.coco35l(raw)
  path = raw / "coco_mt_dev.jsonl"
  path.write_text(path.read_text().replace('"102_0"', '"7_0"', 1))
  with pytest.raises(ValueError, match="photo '7' is not in dataset_coco.json"):
    prepare(raw, "coco35l", "dev_ar")


def test_a_line_without_its_language_is_named(raw):
  made.coco35l(raw)
  path = raw / "coco_mt_dev.jsonl"
  first, rest = path.read_text().split("\n", 1)
  path.write_text(f"{first}\n{rest.replace('trg_lang', 'target', 1)}")
  with pytest.raises(ValueError, match="dev.jsonl:2 has no 'trg_lang', only"):
    prepare(raw, "coco35l", "dev_ar")


def test_xm3600_has_captions_as_they_are_and_in_tokens(raw):
  made.xm3600(raw)
  assert rows(raw, "xm3600", "quz")[1] == {
    "image/id": "00ab12cd34ef5601_quz",
    "captions": ["quz boat 1.", "Two boats 1."],
    "captions/tokenized": ["quz boat 1 .", "Two boats 1 ."],
    "language": "quz",
  }
  assert len(list(prepare(raw, "xm3600").glob("*.jsonl"))) == 36


def test_a_photo_that_lacks_a_language_is_named(raw):
  made.xm3600(raw)
  path = raw / "captions.jsonl"
  path.write_text(path.read_text().replace('"caption/tokenized"', '"tokens"'))
  want = "jsonl:1: ar has no caption/tokenized, only caption, tokens"
  with pytest.raises(ValueError, match=want):
    prepare(raw, "xm3600", "ar")
  path.write_text('{"image/key": "a"}\n')
  with pytest.raises(ValueError, match="ar has no caption, .*, only nothing"):
    prepare(raw, "xm3600", "ar")


# TextCaps, SciCap.


def test_captions_of_textcaps_come_together(raw):
  made.textcaps(raw)
  assert rows(raw, "textcaps", "val")[1] == {
    "image/id": "00ab12cd34ef5101",
    "texts": ["A green book titled Maps 2.", "A green book titled Maps 3."],
  }
  assert [set(row) for row in rows(raw, "textcaps", "test")] == [
    {"image/id"}
  ] * 2


def test_a_row_of_textcaps_without_a_caption_is_named(raw):
  made.textcaps(raw)
  path = raw / "TextCaps_0.1_train.json"
  path.write_text(path.read_text().replace('"caption_str"', '"caption"'))
  with pytest.raises(ValueError, match="split train: .*KeyError 'caption_str'"):
    prepare(raw, "textcaps", "train")


def test_a_figure_has_its_caption_in_four_forms(raw):
  made.scicap(raw)
  assert rows(raw, "scicap", "test")[1] == {
    "image/id": "2002.00001v1-Figure2-1",
    "image/filename": "2002.00001v1-Figure2-1.png",
    "caption/originally_extracted": "Figure 2: Loss against steps 2.",
    "caption/lowercase_and_token_and_remove_figure_index": (
      "loss against steps 2 ."
    ),
    "caption/normalized/basic_num": "loss against NUM .",
    "caption/normalized/advanced_equation_bracket": "loss against EQUATION .",
  }


def test_folders_of_scicap_may_begin_with_a_capital_letter(raw):
  made.scicap(raw)
  for path in sorted(raw.rglob("val")):
    path.rename(path.with_name("Val"))
  assert len(rows(raw, "scicap", "val")) == 2


def test_a_file_of_a_figure_without_a_form_is_named(raw):
  made.scicap(raw)
  path = raw / "scicap_data/SciCap-Caption-All/val/2001.00001v1-Figure2-1.json"
  path.write_text(path.read_text().replace('"2-normalized"', '"2-normal"'))
  with pytest.raises(ValueError, match="Figure2-1.json has no '2-normalized'"):
    prepare(raw, "scicap", "val")


# Screens of apps.


def test_a_screen_has_all_its_summaries(raw):
  made.screen2words(raw)
  assert rows(raw, "screen2words", "dev")[1] == {
    "image/id": 50004,
    "image/filename": "50004.jpg",
    "summary": ["settings page, with sounds 50004", "list of sounds 50004"],
  }


def test_a_screen_without_summaries_is_named(raw):
  made.screen2words(raw)
  made.split_file(raw / "split/test_screens.txt", (50005, 7))
  with pytest.raises(ValueError, match="screen 7 of split/test_screens.txt is"):
    prepare(raw, "screen2words", "test")


def test_the_box_of_a_widget_is_of_the_image_not_the_canvas(raw):
  made.widgetcap(raw)
  row, half = rows(raw, "widgetcap", "train")[:2]
  np.testing.assert_allclose(
    row.pop("bbox"), [84 / 2560, 0, 280 / 2560, 1440 * 96 / 2560 / 54]
  )
  np.testing.assert_allclose(half["bbox"], [0, 0, 0.5, 1])
  assert row == {
    "image/id": "50001_0.0.0",
    "image/filename": "50001.jpg",
    "texts": ["open the menu", "menu button"],
    "screen_id": "50001",
    "node_id": "0.0.0",
    "height": 96,
    "width": 54,
  }


def test_widgets_of_screens_that_are_not_public_are_left_out(raw):
  made.widgetcap(raw)
  ids = [row["image/id"] for row in rows(raw, "widgetcap", "train")]
  assert ids == [f"{s}_{n}" for s in (50001, 50002) for n in ("0.0.0", "0.0")]


def test_a_widget_that_its_screen_does_not_have_is_named(raw):
  made.widgetcap(raw)
  path = raw / "widget_captions.csv"
  path.write_text(path.read_text().replace("50001,0.0,", "50001,0.4,"))
  with pytest.raises(ValueError, match="combined/50001.json has no widget 0.4"):
    prepare(raw, "widgetcap", "train")


def test_widgets_of_a_missing_image_are_counted(raw):
  made.widgetcap(raw)
  (raw / "combined/50005.jpg").unlink()
  with pytest.raises(ValueError, match="1 images .* unique_uis.tar.gz of RICO"):
    prepare(raw, "widgetcap", "test", allow_incomplete=False)
  assert len(rows(raw, "widgetcap", "test")) == 2


# DOCCI.


def test_a_photo_of_docci_has_its_description(raw):
  made.docci(raw)
  assert rows(raw, "docci", "qual_dev")[1] == {
    "example_id": "qual_dev_00002",
    "description": "A close view of qual_dev_00002. It is red.",
  }


def test_photos_of_the_other_set_are_no_training_data(raw):
  made.docci(raw)
  photo = raw / "images/train_00001.jpg"
  (raw / "images/aar_train_00001.jpg").write_bytes(photo.read_bytes())
  ids = [row["example_id"] for row in rows(raw, "docci", "train")]
  assert ids == ["train_00001", "train_00002"]
