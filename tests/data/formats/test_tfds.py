"""Datasets of TensorFlow Datasets are read as it reads them."""

import io
import json
import pickle
import shutil
import subprocess
import sys

import fsspec
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pg import pp
from pg.data import pipeline, stream
from pg.data.formats import array_record, shards
from pg.data.formats import tfds as source
from tests.support import records, web

SKIP = tfds.decode.SkipDecoding()


def example(i):
  n = i % 3
  return {
    "image": io.BytesIO(records.png(i)),
    "question": f"wäs {i}?",
    "answers": ["a", "b"][:n],
    "label": i % 2,
    "id": i,
    "score": i / 7,
    "yes": i % 2 == 0,
    "raw": f"r{i}",
    "objects": [
      {"bbox": tfds.features.BBox(0.0, 0.1, 0.5, 1.0), "label": j, "name": "é"}
      for j in range(n)
    ],
    "frames": [io.BytesIO(records.png(j)) for j in range(n)],
    "nest": {"text": "t", "grid": np.full((2, 2), i, np.float32)},
    "labels": [0, 1][:n],
    "numbers": np.arange(n),
    "zipped": np.full((n, 2), i, np.uint8),
    "big": 2**64 - 1 - i,
  }


class Toy(tfds.core.GeneratorBasedBuilder):
  """Every kind of feature that can be prepared without TensorFlow."""

  __module__ = "__main__"  # so that nobody can import it
  VERSION = tfds.core.Version("1.0.0")
  LEFT_OUT = ()

  def _info(self):
    f = tfds.features
    label = f.ClassLabel(names=["cat", "dog"])
    box = {"bbox": f.BBoxFeature(), "label": label, "name": f.Text()}
    png = f.Image(encoding_format="png")
    kinds = {
      "image": png,
      "question": f.Text(),
      "answers": f.Sequence(f.Text()),
      "label": label,
      "id": f.Scalar(np.int32),
      "score": f.Scalar(np.float32),
      "yes": f.Scalar(np.bool_),
      "raw": np.str_,
      "objects": f.Sequence(box),
      "frames": f.Sequence(png),
      "nest": {
        "text": f.Text(),
        "grid": f.Tensor(shape=(2, 2), dtype=np.float32),
      },
      "labels": f.Sequence(label),
      "numbers": f.Tensor(shape=(None,), dtype=np.int64),
      "zipped": f.Tensor(shape=(None, None), dtype=np.uint8, encoding="zlib"),
      "big": f.Scalar(np.uint64),
    }
    kinds = {k: kinds[k] for k in kinds if k not in self.LEFT_OUT}
    return tfds.core.DatasetInfo(builder=self, features=f.FeaturesDict(kinds))

  def _split_generators(self, dl_manager):
    return {
      "train": self._generate_examples(0, 11),
      "validation": self._generate_examples(20, 25),
    }

  def _generate_examples(self, start, stop):
    for i in range(start, stop):
      values = example(i)
      yield i, {k: values[k] for k in values if k not in self.LEFT_OUT}


class Plain(Toy):
  """The same without what TensorFlow Datasets cannot keep encoded."""

  __module__ = "__main__"
  LEFT_OUT = ("frames",)


def as_tfrecord(folder, target):
  """Copies a dataset of ArrayRecord files to one of TFRecord files."""
  shutil.copytree(folder, target)
  for path in target.glob("*.array_record-*"):
    rows = shards.Table([str(path)], array_record.Records)
    name = path.name.replace("array_record", "tfrecord")
    records.write_tfrecord(target / name, [rows[i] for i in range(len(rows))])
    path.unlink()
  change(target / "dataset_info.json", fileFormat="tfrecord")


def change(path, **values):
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp("prepared")
  config = tfds.download.DownloadConfig(num_shards=2)
  for kind in ("array_record", "parquet"):
    for toy in (Toy, Plain):
      builder = toy(data_dir=root / kind, file_format=kind)
      builder.download_and_prepare(download_config=config)
  for inside in ("toy/1.0.0", "plain/1.0.0"):
    as_tfrecord(root / "array_record" / inside, root / "tfrecord" / inside)
  return root


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(params=sorted(source.FORMATS))
def kind(request):
  return request.param


@pytest.fixture
def folder(prepared, kind, tmp_path):
  """A copy of a prepared dataset, to be broken."""
  return shutil.copytree(prepared / kind / "toy/1.0.0", tmp_path / "toy/1.0.0")


def plain(value):
  """Returns what tfds reads in the form in which the source returns it."""
  if isinstance(value, dict):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, list) or getattr(value, "dtype", "") == "O":
    return [plain(item) for item in value]
  if isinstance(value, bytes) and not value.startswith(b"\x89PNG"):
    return value.decode()
  return value


def test_rows_are_those_that_tensorflow_datasets_reads(prepared, kind):
  # It cannot read TFRecord files, and does not slice Parquet files.
  builder = tfds.builder_from_directory(prepared / "array_record/toy/1.0.0")
  for split in ("train", "train[3:]+validation[-40%:]"):
    want = builder.as_data_source(split, decoders={"image": SKIP})
    got = source.Tfds("toy", split, data_dir=prepared / kind)
    assert len(got) == len(want) > 5
    for i in range(len(got)):
      compare(got[i], plain(want[i]))


def compare(row, want):
  row = {k: v for k, v in row.items() if not k.endswith("_name")}
  row["objects"].pop("label_name")
  # It has no way to keep these encoded.
  frames = [Image.open(io.BytesIO(frame)) for frame in row["frames"]]
  row["frames"] = [np.asarray(frame) for frame in frames]
  assert row.keys() == want.keys()
  for key, value in want.items():
    if isinstance(value, dict):
      value = {k: list(v) if len(v) == 0 else v for k, v in value.items()}
    np.testing.assert_equal(row[key], value, err_msg=key)


def test_rows_have_plain_values_and_names_of_labels(prepared, kind):
  rows = source.Tfds("toy", "train", data_dir=prepared / kind)
  by_id = {row["id"]: row for row in map(rows.__getitem__, range(len(rows)))}
  assert sorted(by_id) == list(range(11))
  row = by_id[8]
  assert (row["image"], row["frames"][1]) == (records.png(8), records.png(1))
  assert (row["question"], row["answers"]) == ("wäs 8?", ["a", "b"])
  assert (row["label"], row["label_name"]) == (0, "cat")
  assert row["labels_name"] == row["objects"]["label_name"] == ["cat", "dog"]
  assert (row["yes"], row["big"], row["raw"]) == (True, 2**64 - 9, "r8")
  for key, kind_ in [("id", int), ("score", float), ("yes", bool)]:
    assert type(row[key]) is kind_
  box = row["objects"]["bbox"][1]
  np.testing.assert_array_equal(box, np.float32([0, 0.1, 0.5, 1]))


def test_an_empty_sequence_of_dicts_is_a_dict_of_empty_lists(prepared, kind):
  rows = source.Tfds("toy", "train", data_dir=prepared / kind, keys=["objects"])
  empty = {"bbox": [], "label": [], "name": [], "label_name": []}
  assert [row["objects"] for row in map(rows.__getitem__, range(11))].count(
    empty
  ) == 4


@pytest.mark.parametrize("keys", [None, ["image", "objects", "label"]])
def test_both_readers_read_the_same_rows(prepared, keys):
  read = lambda name, kind: source.Tfds(
    name, "train[1:]+validation", data_dir=prepared / kind, keys=keys
  )
  through, own = read("plain", "array_record"), read("plain", "tfrecord")
  toy = read("toy", "array_record")
  assert len(through) == len(own) == 15
  for i in range(15):
    assert typed(through[i]) == typed(own[i])
    assert typed({**toy[i], "frames": 0}) == typed({**own[i], "frames": 0})


def typed(value):
  """Returns a value with the types in it, to be compared with `==`."""
  if isinstance(value, dict):
    return {key: typed(item) for key, item in value.items()}
  if isinstance(value, list):
    return [typed(item) for item in value]
  if isinstance(value, np.ndarray):
    return str(value.dtype), value.shape, value.tolist()
  return type(value), value


def test_tensorflow_datasets_reads_what_it_can(prepared, monkeypatch):
  builder, calls = tfds.core.DatasetBuilder, []
  read = builder.as_data_source

  def counted(self, split, decoders):
    calls.append((self.info.name, split, decoders.keys()))
    return read(self, split, decoders=decoders)

  monkeypatch.setattr(builder, "as_data_source", counted)
  source._Shard.cache_clear()
  for name, kind in [("toy", "array_record"), ("plain", "tfrecord")]:
    source.Tfds(name, "train", data_dir=prepared / kind)[0]
  assert not calls
  source.Tfds("plain", "train", data_dir=prepared / "array_record")[0]
  shards = ("train[0shard:1shard]", "train[1shard:2shard]")
  assert sorted(calls) == [("plain", split, {"image"}) for split in shards]


def test_tensorflow_is_not_loaded_even_where_it_is_installed(
  prepared, tmp_path, monkeypatch
):
  (tmp_path / "tensorflow.py").write_text("import os; os._exit(7)")
  monkeypatch.setenv("PYTHONPATH", str(tmp_path))
  code = (
    "import sys\n"
    "from pg.data.formats import tfds\n"
    "for kind in ('tfrecord', 'parquet', 'array_record'):\n"
    "  assert not tfds._builder.cache_info().misses, kind\n"
    f"  rows = tfds.Tfds('plain', 'train', {str(prepared)!r} + '/' + kind)\n"
    "  assert rows[3]['question'].startswith('wäs')\n"
    "assert tfds._builder.cache_info().misses\n"
    "assert not {'jax', 'grain'} & set(sys.modules)\n"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_where_names_shard_and_record(folder, kind):
  rows = source.Tfds(data_dir=folder, split="train[1:]+validation")
  first, last = rows.where(0), rows.where(len(rows) - 1)
  assert first == f"{folder}/toy-train.{kind}-00000-of-00002 record 1"
  assert f"toy-validation.{kind}-00001-of-00002 record" in last
  again = pickle.loads(pickle.dumps(rows))
  assert again[4]["id"] == rows[4]["id"]


def test_names_have_configurations_and_versions(folder, tmp_path, monkeypatch):
  root = tmp_path / "root"
  for inside in ("ds/a/1.0.0", "ds/a/1.10.0", "ds/a/1.9.0", "ds/b/2.0.0"):
    shutil.copytree(folder, root / inside)
  found = lambda name: source.Tfds(name, "train", root).where(0)
  assert found("ds/a").startswith(f"{root}/ds/a/1.10.0/")
  assert found("ds/a:1.9.0").startswith(f"{root}/ds/a/1.9.0/")
  assert found("ds/b/2.0.0").startswith(f"{root}/ds/b/2.0.0/")
  with pytest.raises(ValueError, match="several datasets .* ds/a, ds/b"):
    found("ds")
  for name in ("dss", "ds/a:3.0.0"):
    with pytest.raises(ValueError, match=f"there is no dataset {name} in"):
      found(name)
  monkeypatch.setenv("TFDS_DATA_DIR", str(root))
  assert len(source.Tfds("ds/b", "validation")) == 5


def test_a_dataset_that_was_not_prepared_names_the_command(tmp_path):
  command = "prepare it with\n  python -m scripts.prepare.tfds {}\nor give the"
  with pytest.raises(ValueError) as e:
    source.Tfds("coco_captions", "train")
  assert command.format("coco_captions") in str(e.value)
  assert str(e.value).endswith("as data_dir.")
  with pytest.raises(ValueError) as e:
    source.Tfds("coco_caption/2014:1.1.0", "train", data_dir=tmp_path)
  wanted = f"coco_caption/2014:1.1.0 --data-dir {tmp_path}"
  assert command.format(wanted) in str(e.value)
  hint = 'Datasets has no coco_caption. Did you mean "coco_captions"? For a'
  assert hint in str(e.value)


def test_a_dataset_in_a_bucket_is_read(prepared, kind):
  bucket = fsspec.filesystem("memory")
  for name in ("toy", "plain"):
    bucket.put(f"{prepared / kind}/{name}", f"/{kind}/{name}", recursive=True)
    rows = source.Tfds(name, "train[-1:]", data_dir=f"memory://{kind}")
    want = source.Tfds(name, "train[-1:]", data_dir=prepared / kind)
    assert rows[0]["image"] == want[0]["image"]


@pytest.mark.parametrize("name", ["toy", "plain"])
def test_only_the_shards_of_a_used_split_are_downloaded(prepared, kind, name):
  with web.serve(prepared / kind) as (url, asked):
    for split in ("validation", "validation", "validation[1:]"):
      rows = source.Tfds(name, split, data_dir=url)
      assert rows[0]["question"].startswith("wäs 2")
    files = [path for path in asked if f"{name}-" in path]
    shards = [f"{name}-validation.{kind}-0000{i}-of-00002" for i in range(2)]
    wanted = {f"/{name}/1.0.0/{shard}" for shard in shards}
    assert set(files) == wanted and len(files) == 2
    rows = source.Tfds(name, "validation+train", data_dir=url)
    assert len(rows) == 16 and "train" in rows.where(15)
    with pytest.raises(ValueError, match="there is no dataset nothing in http"):
      source.Tfds("nothing", "train", data_dir=url)


def test_an_unknown_split_or_key_is_named(folder):
  with pytest.raises(ValueError, match='did you mean "train"'):
    source.Tfds(data_dir=folder, split="trian")
  with pytest.raises(ValueError, match="give a split; there are train, val"):
    source.Tfds(data_dir=folder)
  with pytest.raises(ValueError, match='unknown feature "imag"; did you'):
    source.Tfds(data_dir=folder, split="train", keys=["imag"])


def test_a_missing_or_broken_shard_is_named(folder, kind):
  path = folder / f"toy-train.{kind}-00001-of-00002"
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  with pytest.raises(ValueError, match=f"cannot open {path}: "):
    source.Tfds(data_dir=folder, split="train")
  path.unlink()
  with pytest.raises(ValueError, match=f"cannot read {path}: No such file"):
    source.Tfds(data_dir=folder, split="train")
  assert len(source.Tfds(data_dir=folder, split="validation")) == 5


def test_a_shard_with_fewer_records_than_promised_is_named(folder, kind):
  shutil.copy(
    folder / f"toy-validation.{kind}-00000-of-00002",
    folder / f"toy-train.{kind}-00001-of-00002",
  )
  with pytest.raises(
    ValueError, match=r"00001-of-00002 has \d records and dat"
  ):
    source.Tfds(data_dir=folder, split="train")


def test_missing_or_broken_metadata_is_named(folder):
  for name in ("features.json", "dataset_info.json"):
    text = (folder / name).read_text()
    for broken in ("", "{", "[]"):
      (folder / name).write_text(broken)
      with pytest.raises(ValueError, match=name):
        source.Tfds(data_dir=folder, split="train")
    (folder / name).write_text(text)
  features = (folder / "features.json").read_text()
  for broken, message in [
    ({"type": "FeaturesDict", "content": {}}, "json has no 'featuresDict': it"),
    ({"featuresDict": {}}, "features.json .* is not as .*KeyError"),
    ({"featuresDict": {"features": {"x": 1}}}, "features.json .* is not as"),
  ]:
    (folder / "features.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match=message):
      source.Tfds(data_dir=folder, split="train")
  (folder / "features.json").write_text(features)
  change(folder / "dataset_info.json", fileFormat="riegeli")
  with pytest.raises(ValueError, match='unknown format of .* "riegeli"'):
    source.Tfds(data_dir=folder, split="train")


def test_a_dataset_without_rows_is_named(folder):
  change(folder / "dataset_info.json", splits=[{"name": "train"}])
  with pytest.raises(ValueError, match="split 'train' has no rows"):
    source.Tfds(data_dir=folder)


def test_a_transfer_reads_a_prepared_dataset_as_its_own_data(prepared, kind):
  for inside in ("toy", "toy/1.0.0"):
    path = prepared / kind / inside
    (made,) = pipeline.datasets(
      dict(source="prepared", path=str(path), split="train + validation[-2:]"),
      "decode | fmt('answer en {question}', out='prefix')"
      " | copy('raw', out='suffix')",
    )
    assert len(made.source) == 13
    done = stream.read(made, 12, pp.Turn(), dict)
    assert (done["prefix"], done["suffix"]) == ("answer en wäs 24?", "r24")
    assert done["image"].dtype == np.uint8


@pytest.mark.parametrize(
  "template", ["../{DATASET}-{SPLIT}", "/etc/{SPLIT}", "a/../../{SPLIT}"]
)
def test_shards_are_in_the_folder_of_the_dataset(folder, template):
  info = json.loads((folder / "dataset_info.json").read_text())
  for split in info["splits"]:
    split["filepathTemplate"] = template
  (folder / "dataset_info.json").write_text(json.dumps(info))
  with pytest.raises(ValueError, match="is not in the dataset's folder"):
    source.Tfds(split="train", data_dir=str(folder))
