"""Rows that are written to ArrayRecord files are read as they were."""

import pickle
import random
import struct

import numpy as np
import pytest
from array_record.python import array_record_module

from pg.data.formats import array_record
from tests.support import records

ROW = {
  "image": records.png(3),
  "frames": [records.png(1), b"", records.png(2)],
  "prefix": "beschreibe: „日本“\n",
  "answers": ["a", "b"],
  "none": None,
  "empty": [],
  "empty_bytes": b"",
  "objects": {"bbox": [[0.1, 0.25, 0.5, 1.0]], "label": [2]},
  "id": 2**40,
  "score": 0.1,
  "yes": True,
}


def write_raw(path, rows):
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  for row in rows:
    writer.write(row)
  writer.close()


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "train.array_record"
  rows = ({**ROW, "id": i} for i in range(5))
  assert array_record.write(path, rows) == 5
  return path


def test_a_row_comes_out_as_it_went_in(tmp_path):
  path = tmp_path / "new" / "train.array_record"
  assert array_record.write(path, [ROW]) == 1
  assert array_record.ArrayRecord(path)[0] == ROW
  assert array_record.ArrayRecord(path).where(0) == f"{path} record 0"


def test_the_format_is_the_one_in_the_documentation():
  record = array_record.pack({"id": 7, "image": b"abc", "s": [b"d", b"ef"]})
  text = b'[{"id": 7}, {"image": 3, "s": [1, 2]}]'
  assert record == b"pg1\n" + bytes([len(text), 0, 0, 0]) + text + b"abcdef"


def test_rows_are_read_in_any_order_from_splits_of_several_files(tmp_path):
  for i in range(3):
    name = f"train.array_record-0000{i}-of-00003"
    array_record.write(tmp_path / name, [{"id": 2 * i}, {"id": 2 * i + 1}])
  array_record.write(tmp_path / "val.array_record", [{"id": 9}])
  rows = array_record.ArrayRecord(tmp_path, "train[1:]+val")
  assert [rows[i]["id"] for i in (5, 0, 4, 2)] == [9, 1, 5, 3]
  assert rows.where(3).endswith("train.array_record-00002-of-00003 record 0")
  rows = pickle.loads(pickle.dumps(rows))
  assert rows[5]["id"] == 9


def test_files_are_written_for_fast_random_access(file):
  reader = array_record_module.ArrayRecordReader(str(file))
  assert "group_size:1," in reader.writer_options_string()


def test_records_of_tensorflow_datasets_are_read_too(tmp_path):
  path = tmp_path / "x-train.array_record-00000-of-00001"
  write_raw(path, [records.row(i) for i in range(4)])
  rows = array_record.ArrayRecord(tmp_path, "train")
  want = {"image": records.png(2), "question": "wäs 2?", "answers": ["a", "b"]}
  assert rows[2] == {**want, "id": 2}
  assert array_record.ArrayRecord(tmp_path, keys=["id"])[1] == {"id": 1}


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path, file):
  def rows():
    yield ROW
    assert not path.exists()
    raise KeyboardInterrupt

  path = tmp_path / "new.array_record"
  with pytest.raises(KeyboardInterrupt):
    array_record.write(path, rows())
  assert not path.exists()
  assert array_record.write(path, [ROW]) == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, file.name]


@pytest.mark.parametrize(
  "value",
  [np.zeros(3), {1, 2}, float("nan"), [b"a", "b"], {"a": b""}, "\ud83d"],
)
def test_what_cannot_be_written_is_named(tmp_path, value):
  path = tmp_path / "x.array_record"
  with pytest.raises(ValueError, match=f"^row 1 for {path}: "):
    array_record.write(path, [ROW, {**ROW, "x": value}])
  assert not path.exists()


def test_a_key_that_a_row_lacks_is_named(tmp_path):
  path = tmp_path / "x.array_record"
  array_record.write(path, [{"id": 1, "text": ""}, {"id": 2}])
  rows = array_record.ArrayRecord(path, keys=["text"])
  assert rows[0] == {"text": ""}
  match = f'^{path} record 1: unknown key of the record "text"; .* Known: id.'
  with pytest.raises(ValueError, match=match):
    rows[1]


def packed(text, rest=b""):
  return b"pg1\n" + len(text).to_bytes(4, "little") + text + rest


@pytest.mark.parametrize(
  ("record", "message"),
  [
    (b"", "its 0 bytes are no record"),
    (b"pg1\n", "its 4 bytes are no record"),
    (records.row(1), "are no record of pg's"),
    (packed(b"{"), "JSON of a record is broken"),
    (packed(b"[{}]"), "JSON of a record is broken"),
    (packed(b"[[], {}]"), "JSON of a record is broken"),
    (packed(b'[{}, {"a": "b"}]'), "JSON of a record is broken"),
    (packed(b'[{}, {"a": 3}]', b"ab"), "25 bytes should be there, but 24 are"),
    (
      packed(b'[{}, {"a": 3}]', b"abcd"),
      "25 bytes should be there, but 26 are",
    ),
  ],
)
def test_a_record_that_is_not_one_of_ours_is_named(tmp_path, record, message):
  path = tmp_path / "x.array_record"
  write_raw(path, [array_record.pack(ROW), record])
  rows = array_record.ArrayRecord(path)
  assert rows[0] == ROW
  with pytest.raises(ValueError, match=f"^{path} record 1: .*{message}"):
    rows[1]


def test_a_broken_record_does_not_keep_others_from_being_read(tmp_path):
  path = tmp_path / "x.array_record"
  for good in (array_record.pack({"id": 7}), records.example(id=7)):
    noise = random.Random(0).randbytes(500)  # which does not compress
    write_raw(path, [noise, good, good])
    path.write_bytes(path.read_bytes().replace(noise[:9], noise[1:10]))
    rows = array_record.ArrayRecord(path)
    assert rows[1] == {"id": 7}
    with pytest.raises(ValueError, match=f"^{path} record 0: Corrupted"):
      rows[0]


def test_files_that_are_broken_off_or_of_other_kinds_are_named(file):
  data = file.read_bytes()
  for broken in (data[: len(data) // 2], data[:100], b"", b"hello" * 99):
    file.write_bytes(broken)
    match = (
      f"cannot open {file}: its .* are no ArrayRecord file, or one that is"
    )
    with pytest.raises(ValueError, match=match):
      array_record.ArrayRecord(file)


def test_a_file_without_rows_is_named(tmp_path):
  path = tmp_path / "train.array_record"
  assert array_record.write(path, []) == 0
  with pytest.raises(ValueError, match="split 'train' has no rows"):
    array_record.ArrayRecord(path)


def test_json_within_json_within_json_is_a_broken_record():
  text = b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}, {}]"
  record = b"pg1\n" + struct.pack("<I", len(text)) + text
  with pytest.raises(ValueError, match="the JSON of a record is broken"):
    array_record.unpack(record)
