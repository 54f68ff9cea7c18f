"""Tests of the handwritten digits: their split, their images, their text."""

import collections
import pickle

import numpy as np
import pytest
from sklearn import datasets

from pg.data.synthetic import digits


@pytest.fixture(scope="module")
def scans():
  return datasets.load_digits()


def test_every_scan_is_in_one_split_and_a_fifth_at_least_for_testing():
  train, test = digits.Digits(), digits.Digits("test")
  found = [
    source.where(i) for source in (train, test) for i in range(len(source))
  ]
  scan = [int(name.split("row ")[1].rstrip(")")) for name in found]
  assert sorted(scan) == list(range(1797))
  assert len(test) >= 500 and len(test) / 1797 >= 0.2


def test_no_image_of_training_is_in_the_test():
  train, test = (
    {source[i]["image"].tobytes() for i in range(len(source))}
    for source in (digits.Digits(res=8), digits.Digits("test", res=8))
  )
  assert not train & test


def test_digits_are_as_common_in_both_splits():
  for split, share in (("train", 0.7), ("test", 0.3)):
    source = digits.Digits(split, res=8)
    found = collections.Counter(source[i]["suffix"] for i in range(len(source)))
    assert sorted(found) == list("0123456789")
    assert all(abs(n - 180 * share) < 9 for n in found.values())


def test_an_example_is_the_scan_and_its_digit(scans):
  source = digits.Digits("test", res=8)
  for i in (0, 100, len(source) - 1):
    example = source[i]
    row = int(source.where(i).split("row ")[1].rstrip(")"))
    gray = np.round(scans.images[row] * 255 / 16)
    np.testing.assert_array_equal(example["image"], np.stack([gray] * 3, -1))
    assert example["suffix"] == str(scans.target[row])
    assert example["answers"] == [example["suffix"]]
    assert example["prefix"] == "answer en which digit is this?"
    assert example["task"] == example["kind"] == "digits"


@pytest.mark.parametrize("res", [48, 64, 96, 224])
def test_a_larger_image_shrinks_back_to_the_scan(res):
  small = digits.Digits(res=8)[3]["image"].astype(float)
  large = digits.Digits(res=res)[3]["image"]
  assert large.shape == (res, res, 3) and large.dtype == np.uint8
  blocks = large.reshape(8, res // 8, 8, res // 8, 3).mean((1, 3))
  assert np.corrcoef(blocks.ravel(), small.ravel())[0, 1] > 0.95


def test_what_is_not_there_is_refused():
  with pytest.raises(ValueError, match='did you mean "test"'):
    digits.Digits("tests")
  for res in (0, 2**70):
    with pytest.raises(ValueError, match="1 to 8192 pixels"):
      digits.Digits(res=res)
  source = digits.Digits("test")
  with pytest.raises(IndexError, match=f"row {len(source)} of {len(source)}"):
    source[len(source)]
  with pytest.raises(IndexError, match="row -1"):
    source[-1]


def test_a_source_can_be_sent_to_a_data_worker():
  source = digits.Digits()
  copy = pickle.loads(pickle.dumps(source))
  np.testing.assert_array_equal(source[5]["image"], copy[5]["image"])
