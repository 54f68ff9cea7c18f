"""NLVR2, MaRVL and VSR: one example as it is written, and bad releases."""

import collections
import io

import numpy as np
import pytest
from PIL import Image

from tests.support import preparation
from tests.support.releases import statements


@pytest.fixture
def raw(tmp_path):
  path = tmp_path / "raw"
  path.mkdir()
  return path


def test_nlvr2_has_two_photos_and_the_pairs_of_a_sentence(raw):
  statements.nlvr2(raw)
  rows = preparation.rows(raw, "nlvr2", "test", pictures=True)
  decoded = [
    np.asarray(Image.open(io.BytesIO(x))) for x in rows[1].pop("image")
  ]
  assert [x.shape for x in decoded] == [(32, 40, 3), (32, 41, 3)]
  assert rows[1] == dict(
    example_id="test1-2-1-0",
    pair="test1-2-0",
    sentence="Both pictures show 0 kites over field 2.",
    label="False",
  )
  pairs = collections.Counter(row["pair"] for row in rows)
  assert pairs == {"test1-2-0": 2, "test1-2-1": 2}


def test_marvl_says_true_and_false_as_nlvr2_does(raw):
  statements.marvl(raw)
  assert preparation.rows(raw, "marvl", "test_tr")[1] == dict(
    example_id="tr-1",
    concept="7-Layang",
    language="tr",
    sentence="3 uçurtma var.",
    label="False",
  )
  assert [
    row["label"] for row in preparation.rows(raw, "marvl", "test_zh")
  ] == [
    "True",
    "False",
  ]


@pytest.mark.parametrize(
  "name, split, file, old, new, match",
  [
    (
      "nlvr2",
      "dev",
      "dev.json",
      '"True", "right',
      '"yes", "right',
      ":1: wanted",
    ),
    ("nlvr2", "train", "train.json", "directory", "folder", "no 'directory'"),
    (
      "marvl",
      "test_sw",
      "marvl-annotations/marvl-sw.jsonl",
      '"label": false',
      '"label": "False"',
      "sw.jsonl:2: wanted true or false, got 'False'",
    ),
    (
      "vsr",
      "random_dev",
      "random/dev.jsonl",
      '"label": 0',
      '"label": "no"',
      "dev.jsonl:.*'no'; wanted 0 or 1",
    ),
  ],
)
def test_a_label_or_key_of_another_version_is_named(
  raw, name, split, file, old, new, match
):
  getattr(statements, name)(raw)
  preparation.change(raw / file, old, new)
  with pytest.raises(ValueError, match=match):
    preparation.rows(raw, name, split)


def test_vsr_finds_photos_in_the_sets_of_coco_or_together(raw):
  statements.vsr(raw)
  rows = preparation.rows(raw, "vsr", "zeroshot_test", pictures=True)
  assert rows[3].pop("image") == (raw / "val2017/000000000024.jpg").read_bytes()
  assert rows[3] == dict(
    example_id=3,
    image_name="000000000024.jpg",
    sentence="The kite is above person 24.",
    relation="above",
    label="True",
  )


def test_vsr_finds_photos_of_its_own_archive(raw):
  statements.vsr(raw)
  (raw / "train2017").rename(raw / "images")
  for path in (raw / "val2017").iterdir():
    path.rename(raw / "images" / path.name)
  assert len(preparation.rows(raw, "vsr", "random_test")) == 4
