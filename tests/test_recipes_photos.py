"""Recipes about photos and diagrams: settings and scores as published."""

import pytest

from pg import pp
from pg.data import pipeline
from tests import transfer_rows

# Appendix J of arXiv 2407.07726, of TallyQA at 896 big_vision's sweep_best:
# epochs, batch size, learning rate, weight decay.
PUBLISHED = [
  ("okvqa", 224, 10, 128, 5e-6, 0),
  ("okvqa", 448, 10, 128, 5e-6, 0),
  ("aokvqa_da", 224, 10, 128, 5e-6, 0),
  ("aokvqa_da", 448, 10, 128, 5e-6, 0),
  ("aokvqa_mc", 224, 15, 128, 5e-6, 0),
  ("aokvqa_mc", 448, 15, 128, 5e-6, 0),
  ("gqa", 224, 1, 256, 1e-5, 0),
  ("gqa", 448, 1, 256, 1e-5, 0),
  ("nlvr2", 224, 3, 256, 1e-5, 1e-6),
  ("nlvr2", 448, 10, 256, 3e-6, 3e-7),
  ("ai2d", 224, 10, 256, 1e-5, 1e-6),
  ("ai2d", 448, 10, 256, 1e-5, 1e-6),
  ("science_qa", 224, 20, 128, 1e-5, 0),
  ("science_qa", 448, 20, 128, 1e-5, 0),
  ("vizwizvqa", 224, 10, 256, 1e-5, 0),
  ("vizwizvqa", 448, 10, 256, 1e-5, 0),
  ("tallyqa", 224, 2, 256, 1e-5, 0),
  ("tallyqa", 448, 2, 256, 1e-5, 1e-6),
  ("tallyqa", 896, 2, 256, 7e-6, 7e-7),
]
# Text positions, and whether pictures are resized with antialias to be trained
# on and to be evaluated: big_vision's configs.
FORMS = dict(
  okvqa=(32, True, True),
  aokvqa_da=(32, True, True),
  aokvqa_mc=(128, True, True),
  gqa=(32, False, False),
  nlvr2=(64, False, False),
  ai2d=(128, True, False),
  science_qa=(512, False, False),
  vizwizvqa=(48, True, False),
  tallyqa=(32, True, True),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return transfer_rows.Data(tmp_path_factory.mktemp("photos"))


@pytest.mark.parametrize("row, res, epochs, batch_size, lr, wd", PUBLISHED)
def test_the_setting_is_the_published_one(
  data, row, res, epochs, batch_size, lr, wd
):
  c = data.config(row, res=res)
  assert (c.total, c.batch_size, c.lr, c.wd) == (
    f"{epochs}ep",
    batch_size,
    lr,
    wd,
  )
  assert (c.smoothing, c.model.dropout, c.grad_clip, c.b2) == (0, 0, 1, 0.999)


@pytest.mark.parametrize("row", FORMS)
def test_rows_are_as_long_and_pictures_resized_as_published(data, row):
  c = data.config(row)
  num, train, evaluated = FORMS[row]
  assert c.text_len == num
  assert ("antialias=False" not in c.pp) == train
  for name, how in c.evals.items():
    if how.metric != "perplexity":  # those are evaluated as they are trained
      smooth = "antialias=False" not in how.get("pp", c.pp)
      assert smooth == evaluated, name


def test_a_question_without_answers_is_skipped_in_training_alone(data):
  c = data.config("vizwizvqa")
  (train,) = pipeline.datasets(c.data, c.pp)
  with pytest.raises(pp.Skip, match="'answers'"):
    pipeline.example(train, 3, pp.Turn())
  test = dict(c.data, split="test")
  (asked,) = pipeline.datasets(test, c.evals.test.pp)
  prefix = pipeline.example(asked, 3, pp.Turn())["prefix"]
  assert prefix == "answer en What is this What color is the kite?"


def test_science_qa_shuffles_choices_in_training_alone(data):
  c = data.config("science_qa")
  (train,) = pipeline.datasets(c.data, c.pp)
  (test,) = pipeline.datasets(c.data, c.evals.test.pp)
  turns = [pp.Turn(epoch=epoch) for epoch in range(8)]
  answers = {pipeline.example(train, 0, turn)["suffix"] for turn in turns}
  assert answers == {"The answer is A.", "The answer is B."}
  answers = {pipeline.example(test, 0, turn)["suffix"] for turn in turns}
  assert answers == {"The answer is B."}
  assert pipeline.example(test, 1, turns[0])["prefix"] == (
    "Question: Which of box 2 is a solid?\n"
    "Context: Solids keep their shape.\n"
    "Options: (A) milk, (B) rock 2, (C) air\n"
    "Answer:"
  )


def test_the_image_tower_is_frozen_where_it_was(data):
  frozen = lambda row, res: dict(data.config(row, res=res).schedule).get(
    "img/.*"
  )
  assert [frozen("gqa", res) for res in (224, 448)] == ["cosine", None]
  schedule = data.config("science_qa", res=224).schedule
  assert dict(schedule) == {"img/.*": None, ".*": "cosine"}
