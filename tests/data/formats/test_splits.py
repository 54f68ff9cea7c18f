"""A text in split syntax means the rows that TensorFlow Datasets says."""

import pickle
import random
import types

import pytest
from tensorflow_datasets.core import splits as tfds_splits

from pg.data.formats import splits

SIZES = {"train": 1000, "validation": 317, "restval": 7, "x-y_2": 1}


class Numbers:
  """A source whose rows say where they are from."""

  def __init__(self, name, num):
    self.name, self.num, self.checked = name, num, []

  def __len__(self):
    return self.num

  def __getitem__(self, i):
    assert 0 <= i < self.num
    return {"at": (self.name, i)}

  def where(self, i):
    return f"{self.name}:{i}"

  def check(self, limit):
    self.checked.append(limit)


def sliced(text, sizes=SIZES):
  return splits.Sliced(sizes, lambda name: Numbers(name, sizes[name]), text)


def yardstick(text, sizes):
  """Returns what TensorFlow Datasets makes of a text, or None if an error."""
  infos = {k: types.SimpleNamespace(num_examples=n) for k, n in sizes.items()}
  try:
    made = tfds_splits.AbstractSplit.from_spec(text).to_absolute(infos)
  except Exception:
    return None
  return tuple(
    (p.splitname, p.from_ or 0, sizes[p.splitname] if p.to is None else p.to)
    for p in made
  )


def random_text(rng, sizes):
  parts = []
  for _ in range(rng.choice([1, 1, 2, 3])):
    name = rng.choice([*sizes, "all" if rng.random() < 0.2 else "train"])
    num, ends = sizes.get(name, 9), []
    for _ in range(2):
      if rng.random() < 0.25:
        ends.append("")
      elif rng.random() < 0.5:
        ends.append(f"{rng.randint(-100, 100) / rng.choice([1, 1, 2, 7]):.6g}%")
      else:
        ends.append(str(rng.randint(-num - 1, num + 1)))
    slice_ = f"[{ends[0]}:{ends[1]}]" if rng.random() < 0.9 else ""
    parts.append(name + (slice_ if name != "all" else ""))
  return rng.choice(["+", " + ", "+ "]).join(parts)


def test_thousands_of_texts_mean_what_tensorflow_datasets_says():
  rng = random.Random(0)
  agreed = refused = 0
  for _ in range(6000):
    sizes = {name: rng.choice([1, 3, 50, 99, 1000, 82783]) for name in SIZES}
    text = random_text(rng, sizes)
    want = yardstick(text, sizes)
    # It takes a slice that ends before it starts, and gives no rows or fails.
    if want is None or any(start > stop for _, start, stop in want):
      with pytest.raises(ValueError):
        splits.parse(text, sizes)
      refused += 1
    else:
      assert splits.parse(text, sizes) == want, (text, sizes)
      agreed += 1
  assert agreed > 2000 and refused > 500


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("train", [("train", 0, 1000)]),
    ("train[:98%]", [("train", 0, 980)]),
    ("train[-2%:]", [("train", 980, 1000)]),
    ("train[10:-5]", [("train", 10, 995)]),
    ("train[1_0:20]", [("train", 10, 20)]),
    ("train[:98%]+restval", [("train", 0, 980), ("restval", 0, 7)]),
    (
      " train + validation[:-300] ",
      [("train", 0, 1000), ("validation", 0, 17)],
    ),
    ("restval[:50%]", [("restval", 0, 4)]),
    ("validation[50%:]", [("validation", 158, 317)]),
    ("x-y_2+x-y_2", [("x-y_2", 0, 1), ("x-y_2", 0, 1)]),
    ("all", [(name, 0, num) for name, num in SIZES.items()]),
  ],
)
def test_the_texts_of_recipes_mean(text, want):
  assert splits.parse(text, SIZES) == tuple(want)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("trian", 'unknown split "trian"; did you mean "train"'),
    ("train[:10", "is no split; write it like"),
    ("train[]", "is no split"),
    ("train[:]", "is no split"),
    ("train[5]", "is no split"),
    ("train[:2shard]", "is no split"),
    ("train+", "'' in split 'train.' is no split"),
    ("", "is no split"),
    ("all[:10]", 'unknown split "all"'),
    ("train[:1.5]", "'1.5' is no whole number"),
    ("train[:1..5%]", "'1..5' is no percentage"),
    ("train[:101%]", "is more than 100%"),
    ("train[:1001]", "of 1000 rows: 1001 is beyond the end"),
    ("train[-1001:]", "-1001 is beyond the end"),
    ("train[10:5]", "it ends at 5 and starts at 10"),
    ("train[5:5]", r"split 'train\[5:5\]' has no rows \(train has 1000\)"),
    (None, "give a split; there are train, validation"),
  ],
)
def test_a_wrong_text_is_explained(text, message):
  with pytest.raises(ValueError, match=message):
    sliced(text)


def test_rows_come_in_the_order_that_is_written():
  rows = sliced("validation[-2:]+train[3:5]+validation[:1]")
  want = [("validation", 315), ("validation", 316)]
  want += [("train", 3), ("train", 4), ("validation", 0)]
  assert [rows[i]["at"] for i in range(len(rows))] == want
  assert rows.where(2) == "train:3"


def test_every_row_is_in_one_of_two_complementary_slices():
  for num in (1, 7, 50, 99, 101, 12345):
    for percent in ("1%", "33.3%", "98%"):
      texts = f"train[:{percent}]", f"train[{percent}:]"
      head, tail = (splits.parse(text, {"train": num})[0] for text in texts)
      assert (head.start, tail.stop) == (0, num)
      assert head.stop == tail.start


def test_an_index_that_is_no_row_is_refused():
  rows = sliced("train[:3]")
  for i in (3, -1):
    with pytest.raises(IndexError, match=f"row {i} of 3"):
      rows[i]


def test_only_the_splits_that_are_used_are_opened_and_only_once():
  opened = []

  def source(name):
    opened.append(name)
    return Numbers(name, SIZES[name])

  splits.Sliced(SIZES, source, "train[:1]+restval+train[1:]")
  assert opened == ["train", "restval"]


def test_no_text_is_needed_where_there_is_one_split():
  assert len(sliced(None, {"validation": 5})) == 5


def test_checks_are_those_of_the_sources():
  source = Numbers("train", 10)
  rows = splits.Sliced(["train"], lambda _: source, "train[:2]+train[3:]")
  rows.check(limit=7)
  assert source.checked == [7]


def test_rows_can_be_pickled():
  rows = pickle.loads(pickle.dumps(sliced("train[5:]+restval")))
  assert rows[995]["at"] == ("restval", 0)
