"""Recipes for captions: what the model sees, and what its metrics see."""

import numpy as np
import pytest

from pg import config, pp
from pg.data import pipeline, stream
from pg.evals import metrics as metrics_lib
from tests.support import transfer_rows
from transfers import coco35l as transfer

CAPTIONED = ("cococap", "coco35l", "textcaps", "screen2words", "widgetcap")


def scored(c):
  """Yields name, metric and examples of evaluators with a score."""
  for name, how in c.evals.items():
    if how.metric in ("none", "perplexity"):
      continue
    train = c.data if "source" in c.data else {}
    spec = {
      key: how.get(key, train.get(key)) for key in ("source", "path", "split")
    }
    (dataset,) = pipeline.datasets(spec, how.get("pp") or c.pp)
    examples = [
      stream.read(dataset, i, pp.Turn(row=i), dict)
      for i in range(len(dataset.source))
    ]
    yield name, how.metric, examples


@pytest.mark.parametrize("row", CAPTIONED)
def test_all_captions_of_a_photo_are_references(row, tmp_path):
  c = transfer_rows.Data(tmp_path).config(row)
  for name, metric, examples in scored(c):
    for place in (0, -1):
      said = [e["answers"][place] for e in examples]
      scores = metrics_lib.METRICS[metric](said, examples)
      assert min(scores.values()) > 0, (name, place, scores)
    assert 2 in {len(e["answers"]) for e in examples}, name


@pytest.mark.parametrize("row", ("scicap", "docci"))
def test_a_single_caption_is_the_reference(row, tmp_path):
  c = transfer_rows.Data(tmp_path).config(row)
  for name, metric, examples in scored(c):
    scores = metrics_lib.METRICS[metric](
      [e["suffix"] for e in examples], examples
    )
    assert scores["bleu-4"] == pytest.approx(1, abs=1e-6), (name, scores)


def test_the_languages_of_a_score_are_those_published():
  c = config.load("transfers/coco35l.py")
  assert c.evals.dev.split.count("dev_") == 35
  assert len(c.evals.xm3600.split.split(" + ")) == 36
  assert c.evals.dev.published["cider/mean_no_en"] == 1.158
  assert [d.split for d in c.data.values()] == [
    f"train_{x}" for x in transfer.LANGUAGES
  ]
  # 25 epochs of the photos of one language.
  num = config.steps(c.total, batch_size=1, num_examples=1)
  assert num == 25 * 113287


def test_the_box_of_a_widget_is_red_in_what_the_model_sees(tmp_path):
  c = transfer_rows.Data(tmp_path).config("widgetcap", res=28)
  (dataset,) = pipeline.datasets(c.data, c.pp)
  image = stream.read(dataset, 1, pp.Turn(), dict)["image"]
  red = (image == (255, 0, 0)).all(axis=-1)
  wanted = np.zeros((28, 28), bool)
  wanted[[0, 13], :] = wanted[:14, [0, 27]] = True
  assert (red == wanted).all()
