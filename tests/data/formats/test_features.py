"""What features.json says about a record is what comes out of it."""

import json
import pathlib
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from google.protobuf import json_format

from pg import limits
from pg.data.formats import features, tf_example
from tests.support import records


def decoder(**specs):
  spec = {"featuresDict": {"features": specs}}
  return features.Decoder(spec, pathlib.Path("nowhere"))


def sequence(feature):
  return {"sequence": {"feature": feature, "length": "-1"}}


TEXT, IMAGE = {"text": {}}, {"image": {"encodingFormat": "png"}}
INT = {"tensor": {"dtype": "int64", "encoding": "none", "shape": {}}}


def test_frames_of_a_video_are_a_list_of_bytes():
  read = decoder(clip={"video": {}}, clips=sequence({"video": {}}))
  record = records.example(
    **{
      "clip": [records.png(1), records.png(2)],
      "clips/ragged_flat_values": [records.png(i) for i in range(3)],
      "clips/ragged_row_lengths_0": [2, 0, 1],
    }
  )
  assert read(record) == {
    "clip": [records.png(1), records.png(2)],
    "clips": [[records.png(0), records.png(1)], [], [records.png(2)]],
  }
  assert read(records.example()) == {"clip": [], "clips": []}


def test_sequences_in_sequences_are_those_that_tensorflow_datasets_reads():
  flat = {"a/b/ragged_flat_values": [1, 2, 3, 4, 5]}
  two = {**flat, "a/b/ragged_row_lengths_0": [3, 0, 2]}
  read = decoder(
    a=sequence({"featuresDict": {"features": {"b": sequence(INT)}}})
  )
  assert read(records.example(**two)) == {"a": {"b": [[1, 2, 3], [], [4, 5]]}}
  kinds = {"a": tfds.features.Sequence({"b": tfds.features.Sequence(np.int64)})}
  want = tfds.features.FeaturesDict(kinds).deserialize_example_np(
    records.example(**two)
  )
  assert [x.tolist() for x in want["a"]["b"]] == [[1, 2, 3], [], [4, 5]]
  three = decoder(a=sequence(sequence(sequence(INT))))
  record = {
    "a/ragged_flat_values": [1, 2, 3],
    "a/ragged_row_lengths_0": [2, 1],
    "a/ragged_row_lengths_1": [1, 0, 2],
  }
  assert three(records.example(**record)) == {"a": [[[1], []], [[2, 3]]]}


def test_a_label_that_is_not_known_has_no_name(tmp_path):
  (tmp_path / "label.labels.txt").write_text("cat\ndog\n")
  spec = {"featuresDict": {"features": {"label": {"classLabel": {}}}}}
  read = features.Decoder(spec, tmp_path)
  for value, name in ((-1, None), (1, "dog"), (2, None)):
    assert read(records.example(label=value)) == {
      "label": value,
      "label_name": name,
    }


ANY_SIZE = {
  "tensor": {
    "dtype": "uint8",
    "encoding": "bytes",
    "shape": {"dimensions": ["-1", "-1"]},
  }
}


def test_arrays_of_any_size_are_those_that_were_encoded():
  row = {
    "tensor": {
      "dtype": "float32",
      "encoding": "zlib",
      "shape": {"dimensions": ["-1", "2"]},
    }
  }
  read = decoder(row=row, sizes=sequence(ANY_SIZE), many=sequence(row))
  rows = [np.float32([[1, 2], [3, 4]]), np.zeros((0, 2), np.float32)]
  zipped = [zlib.compress(x.tobytes()) for x in rows]
  record = {
    "row": zipped[0],
    "many": zipped,
    "sizes/value": [b"abcdef", b"g"],
    "sizes/shape": [2, 3, 1, 1],
  }
  made = read(records.example(**record))
  np.testing.assert_array_equal(made["row"], rows[0])
  for got, want in zip(made["many"], rows, strict=True):
    np.testing.assert_array_equal(got, want)
  assert [x.tolist() for x in made["sizes"]] == [
    [[97, 98, 99], [100, 101, 102]],
    [[103]],
  ]
  record["sizes/shape"] = [2, 3]
  with pytest.raises(ValueError, match="'sizes' has 2 values of 1 shapes"):
    read(records.example(**record))


ZIPPED = {"tensor": {"dtype": "uint8", "encoding": "zlib", "shape": {}}}
GRID = {"tensor": {"dtype": "int64", "shape": {"dimensions": ["2", "2"]}}}


@pytest.mark.parametrize(
  ("spec", "values", "message"),
  [
    (TEXT, {}, "no feature 'x', only "),
    (TEXT, {"y": 1}, "no feature 'x', only y"),
    (TEXT, {"x": 1}, "'x' should be bytes, but is int"),
    (TEXT, {"x": b"\xff"}, "'x' is not UTF-8 text"),
    (TEXT, {"x": ["a", "b"]}, "'x' has 2 values instead of one"),
    (TEXT, {"x": []}, "'x' has 0 values instead of one"),
    (IMAGE, {"x": 1.0}, "'x' should be bytes, but is float"),
    (INT, {"x": "1"}, "'x' should be int, but is bytes"),
    (INT, {"x": 1.0}, "'x' should be int, but is float"),
    (GRID, {"x": [1, 2, 3]}, "'x': cannot reshape array of size 3"),
    (GRID, {"x": [1] * 8}, "'x' has 2 values instead of one"),
    (ZIPPED, {"x": b"abc"}, "'x' is no uint8 array: "),
    (ZIPPED, {"x": zlib.compress(b"ab")}, "'x' is no uint8 array: .* reshape"),
    (ZIPPED, {"x": 1}, "'x' is no uint8 array: "),
    (sequence(INT), {"x": "a"}, "'x' should be int, but is bytes"),
  ],
)
def test_a_feature_that_is_not_as_it_should_be_is_named(spec, values, message):
  with pytest.raises(ValueError, match=message):
    decoder(x=spec)(records.example(**values))


F = tfds.features
PACKED = dict(dtype=np.uint8, encoding="zlib")


@pytest.mark.parametrize(
  ("feature", "values"),
  [
    (F.Text(), ["é", ""]),
    (np.str_, [b"\xff", "é"]),
    (F.Tensor(shape=(None,), dtype=np.str_), [["a", b"\xff"], []]),
    (F.Tensor(shape=(2, None), dtype=np.int32), [np.int32([[1], [2]])]),
    (F.Tensor(shape=(None, None), **PACKED), [np.uint8([[1, 2]])]),
    (F.Tensor(shape=(), dtype=np.int64, optional=True), [None, 3]),
    (np.uint64, [2**64 - 1]),
    (np.float64, [0.1]),
    (F.Sequence(np.bool_), [[True, False], []]),
    (F.Sequence(np.uint64), [[2**64 - 1]]),
    (F.Sequence(np.str_, length=2), [["a", b"\xff"]]),
    (F.Sequence(F.ClassLabel(num_classes=3)), [[0, 2]]),
    (F.Sequence(F.Tensor(shape=(2,), dtype=np.int64)), [[[1, 2], [3, 4]], []]),
    (F.Sequence(F.Tensor(shape=(None,), **PACKED)), [[np.uint8([1])], []]),
    (F.Sequence({"a/b": np.int64, "c": F.Text()}), [[{"a/b": 1, "c": "é"}]]),
  ],
)
def test_what_tensorflow_datasets_reads_becomes_the_same(feature, values):
  kinds = F.FeaturesDict({"x": feature})
  spec = json.loads(json_format.MessageToJson(kinds.to_proto()))
  assert features.tfds_reads(spec)
  read = features.Decoder(spec, pathlib.Path("nowhere"))
  for value in values:
    record = kinds.serialize_example({"x": value})
    got = read.from_tfds(kinds.deserialize_example_np(record))
    want = read(record)
    np.testing.assert_equal(got, want)
    assert repr(got) == repr(want)


def of_class(name, spec):
  return {
    "pythonClassName": f"tensorflow_datasets.core.features.{name}",
    **spec,
  }


@pytest.mark.parametrize(
  ("spec", "reads"),
  [
    (IMAGE, True),
    (sequence(TEXT), True),
    (sequence(sequence(INT)), True),
    (sequence(IMAGE), False),
    (sequence({"featuresDict": {"features": {"a": IMAGE}}}), False),
    ({"video": {}}, False),
    ({"audio": {}}, False),
    (of_class("audio_feature.Audio", {"audio": {}}), False),
    ({**TEXT, "pythonClassName": "their.own.Text"}, False),
    (of_class("dataset_feature.Dataset", sequence(INT)), False),
    (ANY_SIZE, True),
    (sequence(ANY_SIZE), False),
  ],
)
def test_what_needs_tensorflow_is_known_without_it(spec, reads):
  both = {"featuresDict": {"features": {"x": spec, "y": TEXT}}}
  assert features.tfds_reads(spec) == features.tfds_reads(both) == reads


@pytest.mark.parametrize("lengths", [[1], [2, 2], [-1, 4], ["a"], [3, 0.5]])
def test_lengths_that_do_not_add_up_are_named(lengths):
  key = "x/ragged_row_lengths_0"
  values = {"x/ragged_flat_values": [1, 2, 3]}
  lists = tf_example.parse(records.example(**values)) | {key: lengths}
  read = decoder(x=sequence(sequence(INT)))
  with pytest.raises(ValueError, match="feature 'x'"):
    features._example(read._root, lambda leaf: features._value(leaf, lists))


@pytest.mark.parametrize(
  "spec",
  [
    {"audio": {}},
    {"jsonFeature": {"json": "{}"}},
    {"tensor": {"dtype": "bfloat17"}},
    {"tensor": {"dtype": "int64", "shape": {"dimensions": ["-1", "-1"]}}},
    sequence({"tensor": {"dtype": "int64", "shape": {"dimensions": ["-1"]}}}),
    sequence(sequence(ANY_SIZE)),
  ],
)
def test_a_feature_of_an_unknown_kind_can_be_left_out(spec):
  with pytest.raises(ValueError, match="feature 'x'.*leave it out"):
    decoder(x=spec, y=TEXT)
  known = {"featuresDict": {"features": {"x": spec, "y": TEXT}}}
  read = features.Decoder(known, pathlib.Path("nowhere"), keys=["y"])
  assert read(records.example(x="", y="t")) == {"y": "t"}


def test_an_array_that_swells_when_it_is_unpacked_is_refused(monkeypatch):
  leaf = features._Leaf(
    "a", 0, "number", np.dtype(np.uint8), (None,), encoding="zlib"
  )
  small, large = (zlib.compress(bytes(n)) for n in (1000, 50_000_000))
  with limits.within(limits.Limits(max_bytes=1000)):
    assert features._array(leaf, small, (-1,)).size == 1000
    tracemalloc.start()
    with pytest.raises(ValueError, match="the array has more than input.max"):
      features._array(leaf, large, (-1,))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
  with pytest.raises(ValueError, match="cut short"):
    features._array(leaf, small[:-3], (-1,))
