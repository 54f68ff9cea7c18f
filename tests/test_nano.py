"""The model that comes with pg: its files, and what it answers."""

import pathlib

import numpy as np
import pytest
from huggingface_hub import ModelCard

import pg
from pg.data.synthetic import hand
from pg.evals import metrics
from pg.weights import hub
from scripts import readme_picture
from tests.support import paths

FOLDER = pathlib.Path(hub.resolve(hub.NANO))


@pytest.fixture(scope="module")
def model():
  return pg.load()


def test_it_is_small_and_has_a_card():
  files = {p.name: p.stat().st_size for p in FOLDER.iterdir()}
  assert sum(files.values()) < 10e6
  card = ModelCard.load(FOLDER / "README.md")
  assert card.data.pipeline_tag == "image-text-to-text"
  for wanted in ("scripts.train_nano", "| hand_caption | exact |", "commit `"):
    assert wanted in card.text


def test_it_answers_the_questions_of_the_readme(model):
  asked = readme_picture.questions((paths.ROOT / "README.md").read_text())
  found = {
    prompt: model.predict(str(paths.ROOT / image), prompt)[0]
    for image, prompts in asked
    for prompt in prompts
  }
  assert len(found) == 4
  (circle,) = found["detect red circle"].boxes
  assert circle.label == "red circle"
  wanted = (0.12, 0.58, 0.39, 0.85)  # of the height and width
  assert np.allclose(np.array(circle.box) / 720, wanted, atol=0.06)
  assert found["answer en how many objects are there?"].text == "4"
  wanted = "a blue square, a red circle, a green cross and a purple square"
  assert found["caption en"].text == wanted
  (mask,) = found["segment red triangle"].masks
  assert 0.03 < mask.mean() < 0.2


def test_sketches_by_hand_are_described(model):
  rows = list(hand.Hand("caption"))
  images = [row["image"] for row in rows]
  answers = model.predict(images, "caption en", batch_size=8)
  score = metrics.METRICS["exact"]([a.text for a in answers], rows)
  assert score["exact"] > 0.4
