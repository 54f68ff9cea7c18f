"""Whatever is in a file, a source reads its rows or names those it cannot."""

import concurrent.futures
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pg import pp
from pg.data import pipeline, source, stream
from pg.data.formats import array_record
from tests.support import records

NUM = 25
FEATURES = {
  "image": {"image": {}},
  "question": {"text": {}},
  "answers": {"sequence": {"feature": {"text": {}}}},
  "id": {"tensor": {"dtype": "int64"}},
  "boxes": {"sequence": {"feature": {"boundingBox": {}}}},
}
ROWS = [
  {
    "image": records.png(i),
    "question": f"wäs {i}?",
    "answers": ["a", "b"][: i % 3],
    "id": i,
  }
  for i in range(NUM)
]


def make_tfrecord(root):
  path = root / "train.tfrecord"
  records.write_tfrecord(path, [records.example(**row) for row in ROWS])
  return path, dict(source="tfrecord", path=str(path))


def make_tfds(root):
  path = root / "toy-train.tfrecord-00000-of-00001"
  boxes = {"boxes": [0.0, 0.5, 0.5, 1.0] * 2}
  records.write_tfrecord(
    path, [records.example(**row, **boxes) for row in ROWS]
  )
  info = {
    "name": "toy",
    "splits": [{"name": "train", "shardLengths": [str(NUM)]}],
  }
  (root / "dataset_info.json").write_text(json.dumps(info))
  spec = {"featuresDict": {"features": FEATURES}}
  (root / "features.json").write_text(json.dumps(spec))
  return path, dict(source="tfds", data_dir=str(root))


def make_array_record(root):
  path = root / "train.array_record"
  array_record.write(path, ROWS)
  return path, dict(source="array_record", path=str(path))


def table():
  rows = [{**row, "image": {"bytes": row["image"], "path": ""}} for row in ROWS]
  return pa.Table.from_pylist(rows)


def make_parquet(root):
  path = root / "train.parquet"
  pq.write_table(table(), path, row_group_size=6)
  return path, dict(source="parquet", path=str(path))


def make_arrow(root):
  path = root / "train.arrow"
  with pa.ipc.new_file(path, table().schema) as writer:
    writer.write_table(table(), max_chunksize=6)
  return path, dict(source="parquet", path=str(path))


def make_arrow_stream(root):
  path = root / "train.arrow"
  with pa.ipc.new_stream(path, table().schema) as writer:
    writer.write_table(table(), max_chunksize=6)
  return path, dict(source="parquet", path=str(path))


MAKERS = [
  make_tfrecord,
  make_tfds,
  make_array_record,
  make_parquet,
  make_arrow,
  make_arrow_stream,
]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__[5:])
def made(request, tmp_path, monkeypatch):
  """The file of a source, and the spec of the source in a config."""
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  return request.param(tmp_path)


def opened(spec):
  options = {key: value for key, value in spec.items() if key != "source"}
  return source.SOURCES[spec["source"]](**options)


def test_rows_are_the_same_from_every_format(made):
  _, spec = made
  rows = opened(spec)
  assert len(rows) == NUM
  for i in (7, 0, NUM - 1):
    row = rows[i]
    boxes = row.pop("boxes", [])
    assert row == ROWS[i]
    assert [box.tolist() for box in boxes] in ([], [[0.0, 0.5, 0.5, 1.0]] * 2)
    assert rows.where(i).endswith(f" {i}")


def test_a_row_is_a_new_dict_each_time(made):
  rows = opened(made[1])
  rows[3].clear()
  assert rows[3]["id"] == 3


def test_an_index_that_is_no_row_is_refused(made):
  rows = opened(made[1])
  for i in (-1, NUM):
    with pytest.raises(IndexError, match=f"row {i} of {NUM}"):
      rows[i]


def test_several_threads_read_what_one_reads(made):
  rows = opened(made[1])
  order = [random.Random(0).randrange(NUM) for _ in range(200)]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    got = list(pool.map(lambda i: rows[i]["id"], order))
  assert got == order


def test_rows_go_through_the_pipeline(made):
  _, spec = made
  text = 'decode | fmt("{question}", out="prefix") | fmt("{id}", out="suffix")'
  (data,) = pipeline.datasets({**spec, "split": "train[:50%]"}, text)
  row = stream.read(data, 11, pp.Turn(row=11), dict)
  assert (len(data.source), row["prefix"], row["suffix"]) == (
    12,
    "wäs 11?",
    "11",
  )
  assert row["image"].shape == (4, 5, 3) and row["image"].dtype == np.uint8


def test_bytes_that_changed_are_an_error_with_a_place_or_another_row(made):
  path, spec = made
  data = path.read_bytes()
  rng = random.Random(0)
  wrong = 0
  for _ in range(75):
    broken = bytearray(data)
    # ArrayRecord files are mostly padding.
    broken[rng.randrange(min(len(data), 12_000))] ^= rng.randrange(1, 256)
    path.write_bytes(broken)
    wrong += errors(spec)
  assert wrong > 10


def test_files_that_are_cut_anywhere_are_an_error_with_a_place(made):
  path, spec = made
  data = path.read_bytes()
  for i in range(1, 8):
    path.write_bytes(data[: i * len(data) // 8])
    assert errors(spec)


def errors(spec):
  """Returns how many errors reading all rows meets, each with its place."""
  try:
    rows = opened(spec)
  except ValueError:
    return 1
  count = 0
  for i in range(len(rows)):
    try:
      assert isinstance(rows[i], dict)
    except ValueError as e:
      assert str(e).startswith(rows.where(i))
      count += 1
  return count
