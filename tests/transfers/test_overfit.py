"""`:overfit=32` trains on the first rows of one's data and scores these."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from pg import config, pp, train
from pg.data import pipeline, stream
from pg.evals import task
from tests.support import paths

NUM = 6  # rows of the training data
CONFIGS = ("forkme", "lora", "small_gpu", "detect_own")
each_config = pytest.mark.parametrize("name", CONFIGS)


def image(path, i):
  Image.fromarray(np.full((40, 60, 3), 30 * i, np.uint8)).save(path)


def write_lines(root, split, num):
  rows = []
  for i in range(num):
    image(root / f"{split}{i}.png", i)
    words = dict(prefix="caption en", suffix=f"{split} grey {i}")
    rows.append(json.dumps(dict(image=f"{split}{i}.png", **words)))
  (root / f"{split}.jsonl").write_text("\n".join(rows))


def write_coco(root):
  one = lambda i: dict(id=i, file_name=f"train{i}.png", height=40, width=60)
  box = lambda i: dict(image_id=i, category_id=1, bbox=[4, 4, 9 + i, 9], id=i)
  made = dict(
    images=[one(i) for i in range(NUM)],
    annotations=[box(i) | dict(area=9.0, iscrowd=0) for i in range(NUM)],
    categories=[dict(id=1, name="square")],
  )
  (root / "train.json").write_text(json.dumps(made))


def write_yolo(root):
  (root / "data.yaml").write_text(
    "names: [square]\ntrain: images/train\nval: images/val\n"
  )
  for split, num in (("train", NUM), ("val", 2)):
    for kind in ("images", "labels"):
      (root / kind / split).mkdir(parents=True)
    for i in range(num):
      image(root / "images" / split / f"{i}.png", i)
      label = root / "labels" / split / f"{i}.txt"
      label.write_text(f"0 0.5 0.5 0.2 0.{1 + i}\n")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  root = tmp_path_factory.mktemp("own")
  write_lines(root, "train", NUM)
  write_lines(root, "val", 2)
  write_coco(root)
  write_yolo(root)
  return root


def load(root, name, num, **more):
  """Returns a config with the smallest model on the rows in a folder."""
  end = ".json" if name == "detect_own" else ".jsonl"
  words = dict(train=root / f"train{end}", val=root / f"val{end}")
  words |= dict(model="nano", res=48, init="", overfit=num) | more
  words = ",".join(f"{k}={x}" for k, x in words.items())
  return config.load(f"{paths.ROOT}/transfers/{name}.py:{words}")


def trained(c):
  """Returns the names of the rows that a config trains on."""
  (data,) = pipeline.datasets(c.data, c.pp)
  return [data.source.where(i) for i in range(len(data.source))]


def scored(c):
  """Returns {evaluator: names of its rows}."""
  return {
    e.name: [e.data.source.where(i) for i in range(len(e.data.source))]
    for e in task.tasks(c)
  }


@each_config
def test_the_first_rows_are_trained_on_and_scored(name, root):
  whole = trained(load(root, name, NUM))
  assert len(whole) == NUM
  c = load(root, name, 4)
  assert trained(c) == whole[:4]
  assert scored(c) and all(x == whole[:4] for x in scored(c).values())
  assert all(x.startswith("seen_") for x in scored(c))


@each_config
def test_rows_are_what_they_are_in_the_real_run(name, root):
  read = lambda c: stream.read(
    pipeline.datasets(c.data, c.pp)[0], 1, pp.Turn(), dict
  )
  more = {} if name == "detect_own" else dict(val=root / "val.jsonl")
  some, every = read(load(root, name, 2)), read(load(root, name, 0, **more))
  assert some["suffix"] == every["suffix"]
  np.testing.assert_array_equal(some["image"], every["image"])


@each_config
def test_it_is_long_enough_and_scored_before_and_after(name, root):
  c = load(root, name, 4)
  assert c.score_init and c.total == 200
  assert {how.every for how in c.evals.values()} == {"25%"}
  some = load(root, name, 1000)
  assert some.total * some.batch_size >= 100 * 1000


@each_config
def test_without_it_nothing_changes(name, root):
  file = paths.ROOT / f"transfers/{name}.py"
  text = re.sub(r"^  base\.overfit\(.*\n", "", file.read_text(), flags=re.M)
  assert text != file.read_text()
  other = root / f"{name}.py"
  other.write_text(text)
  assert config.load(str(other)) == config.load(str(file))


@each_config
def test_more_rows_than_there_are_are_refused(name, root):
  c = load(root, name, 7)
  says = r"'all\[:7\]' of 6 rows: 7 is beyond the end; at most 6"
  with pytest.raises(ValueError, match=says):
    pipeline.datasets(c.data, c.pp)
  with pytest.raises(ValueError, match="overfit=-1: wanted a number of rows"):
    load(root, name, -1)


def test_a_named_split_is_cut_and_a_slice_of_one_is_refused(root):
  yolo = lambda **more: load(
    root, "detect_own", 3, source="yolo", train=root, val="", **more
  )
  assert [x[-5:] for x in trained(yolo())] == ["0.png", "1.png", "2.png"]
  assert scored(yolo()) == dict(seen_val=trained(yolo()))
  for split in ("train+val", "train[:50%]"):
    with pytest.raises(ValueError, match="of one split, got train"):
      yolo(train_split=split)


def test_a_mixture_is_refused(root):
  text = (paths.ROOT / "transfers/forkme.py").read_text()
  mixed = 'c.data = dict(a=dict(source="jsonl", path=arg.train))'
  file = root / "mixed.py"
  file.write_text(re.sub(r"c\.data = .*", mixed, text))
  with pytest.raises(ValueError, match="rows of one dataset; c.data has"):
    config.load(f"{file}:overfit=4")


@pytest.mark.usefixtures("one_device")
def test_a_run_learns_its_rows_by_heart(root, tmp_path):
  c = load(root, "forkme", 4)
  with c.unlocked():
    c.batch_size, c.lr = 4, 2e-3
    c.evals.seen_val.max_len = 12
  found = train.fit(c, str(tmp_path / "run"))
  assert set(found) >= {"seen_val", "seen_nll"}
  scores = json.loads((tmp_path / "run" / "scores.json").read_text())
  assert {x["n"] for kind in scores.values() for x in kind.values()} == {4}
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  nll = [
    x["seen_nll/nll"] for x in map(json.loads, lines) if "seen_nll/nll" in x
  ]
  assert len(nll) == 5  # before, and after each quarter
  assert nll[-1] < 0.2 < 3 < nll[0]
