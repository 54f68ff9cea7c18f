"""AI2D and ScienceQA: one example as it is written, and bad releases."""

import io

import numpy as np
import pytest
from PIL import Image

from scripts.prepare import ai2d, release, science_qa
from tests.support import preparation
from tests.support.releases import diagrams


@pytest.fixture
def raw(tmp_path):
  path = tmp_path / "raw"
  path.mkdir()
  return path


def test_ai2d_splits_by_diagram_and_has_the_answer_in_words(raw):
  diagrams.ai2d(raw)
  train, test = (
    preparation.rows(raw, "ai2d", "train"),
    preparation.rows(raw, "ai2d", "test"),
  )
  assert [row["id"] for row in train[::2]] == ["0.png-0", "2.png-0", "10.png-0"]
  assert [row["id"] for row in test[::2]] == ["7.png-0", "11.png-0"]
  assert train[3] == dict(
    id="2.png-1",
    image_name="2.png",
    question="Which part of plant 2 holds water?",
    possible_answers=["root", "leaf", "Stem", "seed"],
    label=2,
    answer="Stem",
    abc_label=False,
  )


def test_ai2d_draws_letters_only_where_they_are_asked_about(raw):
  diagrams.ai2d(raw)
  lettered, plain = preparation.rows(raw, "ai2d", "train", pictures=True)[:2]
  stored = (raw / "ai2d/images/0.png").read_bytes()
  assert plain["image"] == stored
  before = np.asarray(Image.open(io.BytesIO(stored)))
  after = np.asarray(Image.open(io.BytesIO(lettered["image"])))
  box = np.zeros(before.shape, bool)
  box[6:27, 8:39] = True
  np.testing.assert_array_equal(before[~box], after[~box])
  letter = after[6:27, 8:39].mean(axis=-1)
  dark = np.argwhere(letter < 128)
  assert (letter > 250).mean() > 0.4 and len(dark) > 20
  # In the middle of the box, and as high as it has room.
  assert abs(dark[:, 1].mean() - 15) < 2
  assert 9 < np.ptp(dark[:, 0]) < 21


def test_a_letter_is_as_large_as_it_fits(tmp_path):
  path = tmp_path / "white.png"
  Image.new("L", (200, 100), 255).save(path)
  heights = []
  for size in (20, 40, 80):
    text = dict(rectangle=[[10, 10], [190, 10 + size]], replacementText="B")
    drawn = Image.open(io.BytesIO(ai2d.letter(path, [text])))
    rows = np.flatnonzero(np.asarray(drawn).min(axis=(1, 2)) < 128)
    heights.append(np.ptp(rows) + 1)
    assert rows[0] >= 10 and rows[-1] <= 10 + size
  assert heights[0] > 9
  assert heights[1] / heights[0] == pytest.approx(2, abs=0.3)
  assert heights[2] / heights[1] == pytest.approx(2, abs=0.3)


def test_a_right_answer_that_is_no_choice_is_named(raw):
  diagrams.ai2d(raw)
  path = raw / "ai2d/questions/0.png.json"
  preparation.change(path, '"correctAnswer": 1', '"correctAnswer": 4')
  with pytest.raises(ValueError, match="0.png-0 has 4 choices, and 4 is"):
    preparation.rows(raw, "ai2d", "train")
  diagrams.science_qa(raw)
  preparation.change(raw / "problems.json", '"answer": 1', '"answer": 2')
  with pytest.raises(ValueError, match="problem 1 .* has 2 choices, and 2 is"):
    preparation.rows(raw, "science_qa", "train")


def test_diagrams_that_are_not_there_are_counted(raw, tmp_path):
  diagrams.ai2d(raw)
  (raw / "ai2d/images/10.png").unlink()
  with pytest.raises(ValueError, match="1 images .* get ai2d-all.zip") as e:
    release.prepare(ai2d.splits, raw, tmp_path / "out", quiet=True)
  assert "split test has 4 questions and 3,088 were published" in str(e.value)


def test_science_qa_has_the_problems_with_an_image(raw):
  diagrams.science_qa(raw)
  rows = preparation.rows(raw, "science_qa", "val")
  assert rows[0] == dict(
    question_id="11",
    question="Which of box 11 is a solid?",
    choices=["milk", "rock 11"],
    answer=1,
    hint="N/A",
    task="closed choice",
    grade="grade2",
    subject="natural science",
    topic="physics",
    category="Matter",
    skill="Sort solids",
    lecture="A solid has a shape.",
    solution="A rock is a solid.",
  )
  assert [row["question_id"] for row in rows] == ["11", "12", "13"]


def test_problems_without_an_image_do_not_count_as_missing(raw, tmp_path):
  diagrams.science_qa(raw)
  with pytest.raises(ValueError) as e:
    release.prepare(science_qa.splits, raw, tmp_path / "out", quiet=True)
  assert "images or clips are missing" not in str(e.value)
  assert "split val has 3 questions with an image and 2,097" in str(e.value)
