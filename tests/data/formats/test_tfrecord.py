"""TFRecord files are read at any row; what is broken in them has a place."""

import gzip
import os
import pickle
import struct

import google_crc32c
import pytest

from pg.data.formats import shards, tfrecord
from pg.data.storage import index
from tests.support import records


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  return tmp_path / "home"


@pytest.fixture
def file(tmp_path):
  path = tmp_path / "train.tfrecord"
  records.write_tfrecord(path, [records.row(i) for i in range(7)])
  return path


def raw(path):
  return shards.Table([str(path)], tfrecord.Records.__wrapped__)  # not kept


def test_rows_are_read_in_any_order_with_types_found_by_looking(file):
  rows = tfrecord.TfRecord(file)
  assert len(rows) == 7
  for i in (4, 0, 6):
    assert rows[i] == {
      "image": records.png(i),
      "question": f"wäs {i}?",
      "answers": ["a", "b"][: i % 3],
      "id": i,
    }
  assert rows.where(4) == f"{file} record 4"


def test_one_value_is_a_list_where_another_record_has_several(tmp_path):
  path = tmp_path / "x.tfrecord"
  lists = [["a"], [], ["a", "b"]]
  data = [records.example(many=many, one=[0.5], rare=[]) for many in lists]
  data.append(records.example(one=2.0))
  records.write_tfrecord(path, data)
  rows = [*map(tfrecord.TfRecord(path).__getitem__, range(4))]
  assert [row["many"] for row in rows] == [*lists, []]
  assert [row["one"] for row in rows] == [0.5, 0.5, 0.5, 2.0]
  assert rows[0]["rare"] == []


def test_only_the_keys_that_are_asked_for_are_returned(file):
  assert tfrecord.TfRecord(file, keys=["id"])[3] == {"id": 3}
  with pytest.raises(ValueError, match='did you mean "answers"'):
    tfrecord.TfRecord(file, keys=["answer"])


def test_splits_are_those_in_the_names_of_the_files(tmp_path):
  for split, number, ids in [
    ("train", 0, [0, 1]),
    ("train", 1, [2]),
    ("val", 0, [3, 4]),
  ]:
    num = 2 if split == "train" else 1
    name = f"toy-{split}.tfrecord-0000{number}-of-0000{num}"
    records.write_tfrecord(tmp_path / name, [records.row(i) for i in ids])
  rows = tfrecord.TfRecord(tmp_path, split="train[1:]+val[:50%]")
  assert [rows[i]["id"] for i in range(len(rows))] == [1, 2, 3]
  assert rows.where(1).endswith("toy-train.tfrecord-00001-of-00002 record 0")
  with pytest.raises(ValueError, match='unknown split "test"'):
    tfrecord.TfRecord(tmp_path, split="test")


LOOKED = [records.row(i) for i in range(200)]  # every other is looked at


@pytest.mark.parametrize(
  ("record", "message"),
  [
    (
      records.example(image=b"", question="", id=1),
      "no key 'answers', only id",
    ),
    (records.row(1, id=[1, 2]), "'id' has 2 values, others have one"),
    (records.row(1, id="one"), "'id' should be int, but is bytes"),
    (records.row(1, question=b"\xff\xfe"), "'question' is not UTF-8 text"),
    (records.row(1, color="red"), "'color' is in none of the first records"),
    (b"\xff\xff\xff", "the 3 bytes are no tf.train.Example"),
  ],
  ids=range(6),  # bytes of a map differ from process to process
)
def test_a_record_unlike_the_others_is_named(tmp_path, record, message):
  path = tmp_path / "x.tfrecord"
  records.write_tfrecord(path, [*LOOKED[:101], record, *LOOKED[102:]])
  rows = tfrecord.TfRecord(path)
  assert rows[100]["id"] == 100
  with pytest.raises(ValueError, match=f"^{path} record 101: .*{message}"):
    rows[101]


def test_values_of_several_types_are_found_when_the_file_is_opened(tmp_path):
  path = tmp_path / "x.tfrecord"
  records.write_tfrecord(path, [records.row(1), records.row(2, id="two")])
  with pytest.raises(ValueError, match="'id' has values of several types"):
    tfrecord.TfRecord(path)


def test_types_are_found_in_the_records_that_can_be_read(tmp_path):
  path = tmp_path / "x.tfrecord"
  records.write_tfrecord(path, [b"\xff", records.row(1), records.row(2)])
  rows = tfrecord.TfRecord(path)
  assert [rows[i]["id"] for i in (1, 2)] == [1, 2]
  with pytest.raises(ValueError, match=f"^{path} record 0: .*no tf.train.Ex"):
    rows[0]
  records.write_tfrecord(path, [b"\xff", b"\xfe"])
  with pytest.raises(ValueError, match=f"^{path} record 0: .*no tf.train.Ex"):
    tfrecord.TfRecord(path)


def test_a_byte_that_changed_is_found_by_its_checksum(file):
  data = bytearray(file.read_bytes())
  size = len(records.frame(records.row(0)))
  data[size + 40] ^= 1
  file.write_bytes(data)
  assert raw(file)[0] == records.row(0)
  with pytest.raises(
    ValueError, match=f"^{file} record 1: the checksum of its"
  ):
    raw(file)[1]


def broken_off(file, num_bytes):
  data = file.read_bytes()
  file.write_bytes(data[:num_bytes])


@pytest.mark.parametrize("cut", [1, 5, 20, 100])
def test_a_file_that_is_broken_off_is_found_when_it_is_opened(file, cut):
  size = file.stat().st_size
  broken_off(file, size - cut)
  match = f"cannot open {file}: the file is broken off in record 6"
  with pytest.raises(ValueError, match=match):
    raw(file)


def test_a_length_that_changed_is_found_when_the_file_is_opened(file):
  size = len(records.frame(records.row(0)))
  data = bytearray(file.read_bytes())
  for bit in (0, 7, 62):
    changed = bytearray(data)
    changed[size + bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
    with pytest.raises(
      ValueError, match="length of record 1 is wrong: .*broken"
    ):
      raw(file)


def test_files_of_other_kinds_are_named(tmp_path, file):
  for data in (b"hello " * 9, gzip.compress(file.read_bytes())):
    other = tmp_path / "other.tfrecord"
    other.write_bytes(data)
    with pytest.raises(ValueError, match=f"{other}.*is no TFRecord file"):
      tfrecord.TfRecord(other)
  other.write_bytes(b"")
  with pytest.raises(ValueError, match="split 'other' has no rows"):
    tfrecord.TfRecord(other)


def test_the_index_is_kept_and_not_trusted(file, home, monkeypatch):
  monkeypatch.setattr(index, "SMALL", 0)
  raw(file)
  (kept,) = (home / ".cache/pg/index").iterdir()
  time, data = file.stat().st_mtime_ns, file.read_bytes()
  for content in (b"x" * len(data), data):
    file.write_bytes(content)
    os.utime(file, ns=(time, time))
    assert len(raw(file)) == 7
  for broken in (b"", kept.read_bytes()[:-8], b"x" * 200):
    kept.write_bytes(broken)
    assert raw(file)[6] == records.row(6)


def test_a_file_that_is_written_again_is_read_again(file):
  assert len(tfrecord.TfRecord(file)) == 7
  records.write_tfrecord(file, [records.row(9)])
  os.utime(file, ns=(1, 1))
  rows = tfrecord.TfRecord(file)
  assert (len(rows), rows[0]["id"]) == (1, 9)


def test_a_file_that_changes_while_it_is_read_is_named(file):
  opened = tfrecord.Records(shards.local(str(file)))
  rows = shards.Table([str(file)], lambda _: opened)
  for num in (500, 150, 1):
    records.write_tfrecord(file, [b"x" * num] * 9)
    with pytest.raises(ValueError, match=f"^{file} record 5: .* has changed"):
      rows[5]


def test_a_pickled_source_holds_no_records(file):
  data = pickle.dumps(tfrecord.TfRecord(file))
  assert len(data) < 2000
  assert pickle.loads(data)[2]["id"] == 2


def test_lengths_that_are_not_there_are_refused(tmp_path):
  path = tmp_path / "x.tfrecord"
  head = struct.pack("<Q", 1 << 60)
  checksum = tfrecord._masked(google_crc32c.value(head))
  path.write_bytes(head + struct.pack("<I", checksum) + bytes(100))
  with pytest.raises(ValueError, match="broken off in record 0"):
    tfrecord.TfRecord(path)


def test_a_record_has_not_more_bytes_than_the_limit(tmp_path):
  path = tmp_path / "x.tfrecord"
  head = struct.pack("<Q", 1 << 40)
  checksum = tfrecord._masked(google_crc32c.value(head))
  with open(path, "wb") as f:  # sparse: it takes no room
    f.write(head + struct.pack("<I", checksum))
    f.truncate((1 << 40) + 16)
  with pytest.raises(ValueError, match="record 0: the record has more than"):
    tfrecord.TfRecord(path)
