"""Recipes about photos and diagrams: settings and scores as published."""

import pytest

from pg import pp
from pg.data import pipeline, stream
from pg.evals import records, submit
from tests.support import transfer_rows

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
# Text positions, and whether images are resized with antialias to be trained
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


# Evaluator, score, and what it was at 224 and 448 pixels: in percent, from
# big_vision's configs/proj/paligemma/README.md; those of CountBenchQA
# and of xGQA without English from table 1 of arXiv 2407.07726.
SCORES = [
  ("okvqa", "val", "acc", 63.54, 63.15),
  ("aokvqa_da", "test", "acc", 61.85, 63.22),
  ("aokvqa_mc", "test", "exact", 76.37, 76.90),
  ("gqa", "testdev", "exact", 65.61, 67.03),
  ("gqa", "xgqa", "exact/mean", 58.37, 59.07),
  ("gqa", "xgqa", "exact/mean_no_en", 57.3, 57.9),
  ("nlvr2", "test", "acc", 90.02, 88.93),
  ("nlvr2", "marvl", "exact/mean", 80.57, 76.78),
  ("ai2d", "test", "exact", 72.12, 73.28),
  ("science_qa", "test", "acc", 95.39, 95.93),
  ("vizwizvqa", "test", "acc", 73.7, 75.52),
  ("tallyqa", "test", "acc/simple", 81.72, 84.86),
  ("tallyqa", "test", "acc/complex", 69.56, 72.27),
  ("tallyqa", "countbenchqa", "acc", 81.9, 83.1),
]


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
  assert (c.label_smoothing, c.model.dropout, c.grad_clip, c.b2) == (
    0,
    0,
    1,
    0.999,
  )


@pytest.mark.parametrize("row, name, score, at_224, at_448", SCORES)
def test_the_score_is_the_published_one(data, row, name, score, at_224, at_448):
  for res, percent in ((224, at_224), (448, at_448)):
    published = data.config(row, res=res).evals[name].published
    assert 100 * published[score] == pytest.approx(percent)


# From table 15 of arXiv 2412.03555.
@pytest.mark.parametrize(
  "row, score, at_224, at_448",
  [("aokvqa_da", "acc", 61.1, 65.7), ("aokvqa_mc", "exact", 78.5, 80.3)],
)
def test_a_score_on_val_is_published_where_it_is_held_out(
  data, row, score, at_224, at_448
):
  for res, percent in ((224, at_224), (448, at_448)):
    c = data.config(row, res=res, tune=True)
    assert 100 * c.evals.val.published[score] == pytest.approx(percent)
    assert not data.config(row, res=res).evals.seen_val.get("published")


@pytest.mark.parametrize("row", FORMS)
def test_rows_are_as_long_and_images_resized_as_published(data, row):
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
    stream.read(train, 3, pp.Turn(), dict)
  test = dict(c.data, split="test")
  (asked,) = pipeline.datasets(test, c.evals.test.pp)
  prefix = stream.read(asked, 3, pp.Turn(), dict)["prefix"]
  assert prefix == "answer en What is this What color is the kite?"


def test_science_qa_shuffles_choices_in_training_alone(data):
  c = data.config("science_qa")
  (train,) = pipeline.datasets(c.data, c.pp)
  (test,) = pipeline.datasets(c.data, c.evals.test.pp)
  turns = [pp.Turn(epoch=epoch) for epoch in range(8)]
  answers = {stream.read(train, 0, turn, dict)["suffix"] for turn in turns}
  assert answers == {"The answer is A.", "The answer is B."}
  answers = {stream.read(test, 0, turn, dict)["suffix"] for turn in turns}
  assert answers == {"The answer is B."}
  assert stream.read(test, 1, turns[0], dict)["prefix"] == (
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


def test_scores_of_vsr_are_those_of_the_second_model(data):
  def published(**arguments):
    c = data.config("vsr", **arguments)
    return dict(c.evals.test.published)

  assert published() == published(kind="zeroshot") == dict(exact=0.748)
  assert published(kind="random") == dict(exact=0.816)
  assert published(kind="random", model="pg2_10b") == dict(exact=0.868)
  assert published(model="pg1_3b") == published(res=448) == {}


def submission(c, name, said):
  """Returns a server's file where all answers of an evaluator are `said`."""
  how = c.evals[name]
  spec = {**c.data, "split": how.split}
  (d,) = pipeline.datasets(spec, how.get("pp", c.pp))
  found = []
  for i in range(len(d.source)):
    where, ref = d.source.where(i), d.source.image_ref(i)
    example = stream.read(d, i, pp.Turn(row=i), dict)
    found.append(records.record(i, where, ref, said, 0.0, example))
  made, notes = submit.make(how.submit, found)
  assert not notes
  return made


def test_both_ways_of_asking_aokvqa_make_one_submission(data):
  parts = [
    submission(data.config(row), "test", said)
    for row, said in (("aokvqa_da", "air"), ("aokvqa_mc", "wind"))
  ]
  joined = submit.join(parts)
  assert len(joined) == 4
  assert joined["test3dE5gH7jK9mN1pQ3sT"] == dict(
    direct_answer="air", multiple_choice="wind"
  )


def test_submissions_have_the_names_of_the_release(data):
  vizwiz = submission(data.config("vizwizvqa"), "test", "soup")
  assert vizwiz[1] == dict(image="VizWiz_test_00000008.jpg", answer="soup")
  gqa = submission(data.config("gqa"), "testdev", "yes")
  assert gqa[1] == dict(questionId="0712546", prediction="yes")
