"""Datasets are opened from specs, rows are made of examples."""

import numpy as np
import pytest

from pg import pp
from pg.data import pipeline, prefix_lm, source, stream
from tests.support import numbers

form, registered = numbers.form, numbers.registered


MIX = dict(
  a=dict(source="numbers", size=10, weight=3),
  b=dict(source="numbers", size=100, start=100, weight=1),
)


def test_several_images_fill_up_with_missing_ones(form):
  image = np.ones((8, 8, 3), np.uint8)
  done = {"image": [image, image], "prefix": "p", "suffix": "s"}
  row = prefix_lm.train_row(form._replace(num_images=3), done)
  assert row["mask_image"].tolist() == [True, True, False]
  assert row["image"].sum(axis=(1, 2, 3)).tolist() == [192, 192, 0]


def test_a_blind_form_hides_all_images(form):
  done = numbers.Numbers(start=5)[0]
  row = prefix_lm.train_row(form._replace(blind=True), done)
  assert not row["mask_image"].any() and not row["image"].any()


def test_a_decoding_row_does_not_tell_the_answer(form):
  done = numbers.Numbers()[7]
  row = prefix_lm.decode_row(form, done)
  assert row["tokens"].tolist() == [
    form.tok.bos,
    *form.tok.encode("say"),
    *form.tok.sep,
    *[0] * (24 - 2 - len(form.tok.encode("say"))),
  ]


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(res=16), r"\(8, 8, 3\) after the pp .* \(16, 16, 3\); add resize"),
    (dict(num_images=0), "1 images and the config num_images = 0"),
  ],
)
def test_images_that_do_not_fit_are_refused(form, change, message):
  with pytest.raises(ValueError, match=message):
    prefix_lm.train_row(form._replace(**change), numbers.Numbers()[0])


def test_an_error_names_the_row(form):
  (data,) = pipeline.datasets(dict(source="numbers"), "decode | lower('sufix')")
  with pytest.raises(ValueError, match=r"numbers:3: .*did you mean \"suffix\""):
    stream.read(data, 3, None, dict)


def test_rows_of_a_source_without_names_have_their_numbers(monkeypatch):
  rows = [{"prefix": "a"}, {"prefix": "b"}]
  monkeypatch.setitem(source.SOURCES, "rows", lambda: rows)
  (data,) = pipeline.datasets(dict(source="rows"), "decode")
  assert (len(data.source), data.source[1]) == (2, rows[1])
  assert data.source.where(1) == "rows:1"


@pytest.mark.parametrize(
  "spec, message",
  [
    (dict(source="number"), 'unknown source "number"; did you mean "numbers"'),
    (dict(source="numbers", sise=3), "unexpected keyword argument 'sise'"),
    (dict(source="numbers", size=0), "is empty"),
    (dict(a=dict(weight=1)), 'dataset "a" has no source'),
    (dict(source="numbers", pp="decod"), 'did you mean "decode"'),
  ],
)
def test_a_wrong_data_spec_is_explained(spec, message):
  with pytest.raises(ValueError, match=message):
    pipeline.datasets(spec, "decode")


def test_cut_rows_are_counted_per_dataset(form):
  data = pipeline.datasets(MIX, "decode")
  assert numbers.check(data, form) == {"a": (0, 10), "b": (0, 100)}
  short = numbers.check(data, form._replace(text_len=3))
  assert short == {"a": (10, 10), "b": (100, 100)}


def test_each_dataset_has_its_own_pp_or_that_of_all():
  mix = dict(a=dict(source="numbers"), b=dict(source="numbers", pp="draw"))
  a, b = pipeline.datasets(mix, "lower('prefix')")
  turn = pp.Turn(seed=(3,))
  assert stream.read(a, 4, turn, dict)["suffix"] == "4"
  assert stream.read(b, 4, turn, dict)["suffix"] not in "0123456789"
