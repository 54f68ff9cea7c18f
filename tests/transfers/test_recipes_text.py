"""Recipes about text in images and images from above: as published."""

import pytest

from pg import config, pp
from pg.data import mixture, pipeline, stream
from pg.evals import records, submit
from tests.support import transfer_rows

# Appendix J of arXiv 2407.07726: epochs, batch size, learning rate, weight
# decay, label smoothing, dropout.
PUBLISHED = [
  ("rsvqa_lr", 224, 3, 256, 3e-6, 0, 0.2, 0),
  ("rsvqa_lr", 448, 3, 256, 3e-6, 0, 0.2, 0),
  ("rsvqa_hr", 224, 1, 256, 1e-5, 0, 0, 0),
  ("rsvqa_hr", 448, 1, 256, 1e-5, 0, 0, 0),
  ("chartqa", 224, 30, 256, 1e-5, 1e-6, 0.2, 0.1),
  ("chartqa", 448, 30, 256, 1e-5, 1e-6, 0.2, 0.1),
  ("ocrvqa", 224, 3, 128, 3e-6, 0, 0, 0),
  ("ocrvqa", 448, 3, 128, 3e-6, 0, 0, 0),
  ("ocrvqa", 896, 3, 128, 1e-5, 0, 0, 0),
  ("textvqa", 224, 5, 256, 3e-6, 0, 0, 0),
  ("textvqa", 448, 10, 256, 3e-6, 3e-7, 0, 0),
  ("textvqa", 896, 10, 256, 3e-6, 0, 0, 0),
  ("docvqa", 224, 10, 256, 1e-5, 1e-6, 0, 0),
  ("docvqa", 448, 10, 256, 1e-5, 1e-6, 0, 0),
  ("docvqa", 896, 10, 256, 1e-5, 1e-6, 0, 0),
  ("infovqa", 224, 3, 256, 1e-5, 1e-6, 0.4, 0),
  ("infovqa", 448, 3, 128, 1e-5, 1e-6, 0.4, 0),
  ("infovqa", 896, 3, 32, 3e-6, 3e-7, 0.4, 0),
  ("stvqa", 224, 3, 256, 1e-5, 1e-6, 0.1, 0),
  ("stvqa", 448, 3, 128, 1e-5, 1e-6, 0.1, 0),
  ("stvqa", 896, 3, 32, 3e-6, 3e-7, 0.1, 0),
]
# big_vision's configs: resolution and text positions, and whether images are
# resized with antialias in evaluation; in training all are.
FORMS = dict(
  rsvqa_lr=(224, 32, False),
  rsvqa_hr=(224, 32, False),
  chartqa=(896, 48, True),
  ocrvqa=(224, 32, True),
  textvqa=(224, 32, True),
  docvqa=(896, 32, True),
  infovqa=(896, 48, True),
  stvqa=(896, 48, True),
)
# Percents of PaliGemma 3B at 224, 448, 896.
SCORES = [
  ("rsvqa_lr", "test", "acc/mean_nonum", 92.65, 93.11, None),
  ("rsvqa_hr", "test", "acc/mean_nonum", 92.61, 92.79, None),
  ("rsvqa_hr", "test_2", "acc/mean_nonum", 90.58, 90.54, None),
  ("chartqa", "test", "relaxed/mean", 57.08, 71.36, None),
  ("chartqa", "test", "relaxed/human", 40.0, 54.2, None),
  ("chartqa", "test", "relaxed/augmented", 74.2, 88.5, None),
  ("ocrvqa", "test", "exact", 73.24, 75.60, 75.90),
  ("textvqa", "test", "acc", 55.47, 73.15, 76.48),
  ("docvqa", "test", "anls", 43.74, 78.02, 84.77),
  ("infovqa", "test", "anls", 28.46, 40.47, 47.75),
  ("stvqa", "test", "anls", 63.29, 81.82, 84.40),
]
TUNED = dict(
  rsvqa_lr="train",
  rsvqa_hr="train",
  ocrvqa="train + val[20_000:]",
  textvqa="train",
  docvqa="train[:-5%]",
  infovqa="train",
  stvqa="train",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return transfer_rows.Data(tmp_path_factory.mktemp("text"))


def load(row, **arguments):
  words = ",".join(f"{k}={v}" for k, v in arguments.items())
  return config.load(f"{transfer_rows.ROOT}/transfers/{row}.py:{words}")


@pytest.mark.parametrize(
  "row, res, epochs, size, lr, wd, smooth, drop", PUBLISHED
)
def test_the_setting_is_the_published_one(
  row, res, epochs, size, lr, wd, smooth, drop
):
  c = load(row, res=res)
  assert (c.total, c.batch_size, c.lr, c.wd) == (f"{epochs}ep", size, lr, wd)
  assert (c.label_smoothing, c.model.dropout) == (smooth, drop)
  assert dict(c.schedule) == {".*": "cosine"}


@pytest.mark.parametrize("row", FORMS)
def test_resolution_length_and_resize_are_the_published_ones(row):
  c = load(row)
  how = c.evals.test.get("pp") or c.pp
  assert (c.res, c.text_len, "antialias=False" not in how) == FORMS[row]
  assert "antialias=False" not in c.pp


@pytest.mark.parametrize("row, name, score, p224, p448, p896", SCORES)
def test_a_score_is_the_published_one(row, name, score, p224, p448, p896):
  for res, percent in {224: p224, 448: p448, 896: p896}.items():
    found = load(row, res=res).evals[name].published.get(score)
    wanted = percent and pytest.approx(percent / 100)
    assert found == wanted
  assert not load(row, res=448, model="pg2_3b").evals[name].published


@pytest.mark.parametrize("row", TUNED)
def test_val_is_held_out_to_tune_and_trained_on_else(row):
  assert load(row).data.split == "train + val"
  assert load(row, tune=True).data.split == TUNED[row]


def test_chartqa_mixes_people_and_summaries_by_size():
  c = load("chartqa")
  assert {k: d.split for k, d in c.data.items()} == dict(
    human="train_human + val_human", augmented="train_augmented + val_augmented"
  )
  weights = [c.data[kind].weight for kind in ("human", "augmented")]
  assert mixture.Mixture(weights).counts(28299) == [7398, 20901]
  c = load("chartqa", tune=True)
  splits = [d.split for d in c.data.values()]
  assert sorted(splits) == ["train_augmented", "train_human"]


@pytest.mark.parametrize(
  "row, suffixes",
  dict(
    rsvqa_lr={"yes"},
    rsvqa_hr={"yes"},
    ocrvqa={"Ann Example0"},
    textvqa={"stop", "STOP."},
    docvqa={"1 May 1999", "May 1, 1999"},
    infovqa={"red, blue", "3 million"},
    stvqa={"stop", "stop sign"},
  ).items(),
)
def test_targets_are_lower_case_where_they_were(data, row, suffixes):
  c = data.config(row)
  (train,) = pipeline.datasets(c.data, c.pp)
  turns = [pp.Turn(epoch=epoch) for epoch in range(12)]
  assert {stream.read(train, 0, t, dict)["suffix"] for t in turns} == suffixes


@pytest.mark.parametrize(
  "row, key, id",
  [
    ("textvqa", "question_id", 200),
    ("docvqa", "questionId", 200),
    ("infovqa", "questionId", 65020),
    ("stvqa", "question_id", 100),
  ],
)
def test_predictions_on_test_become_the_file_of_the_server(data, row, key, id):
  c = data.config(row)
  how = c.evals.test
  (test,) = pipeline.datasets({**c.data, "split": how.split}, how.pp)
  example = stream.read(test, 0, pp.Turn(), dict)
  assert not {"suffix", "answers"} & set(example)
  record = records.record(0, test.source.where(0), None, "kite", 0.0, example)
  made, _ = submit.make(how.submit, [record])
  assert made == [{key: id, "answer": "kite"}]
