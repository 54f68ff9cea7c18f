"""Parquet and Arrow files are read at any row, as Hugging Face writes them."""

import json
import pickle
import threading

import fsspec
import pyarrow as pa
import pytest
from huggingface_hub import HfFileSystem
from pyarrow import parquet as pq

from pg.data.formats import parquet
from tests.support import hub, records

LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}
FEATURES = {
  "image": {"_type": "Image"},
  "label": LABEL,
  "labels": {"feature": LABEL, "_type": "Sequence"},
  "objects": {"feature": {"label": LABEL}, "_type": "Sequence"},
  "nest": {"feature": LABEL},
  "items": [{"label": LABEL, "size": {"dtype": "int64", "_type": "Value"}}],
}


def row(i):
  return {
    "image": {"bytes": records.png(i), "path": f"{i}.png"},
    "frames": [{"bytes": records.png(j), "path": None} for j in range(i % 3)],
    "question": f"wäs {i}?",
    "answers": ["a", "b"][: i % 3],
    "label": i % 3 - 1,
    "labels": [0, 1],
    "objects": {"label": [1] * (i % 3)},
    "items": [{"label": 0, "size": i}] * (i % 2),
    "nest": {"feature": 1},
    "id": i,
  }


def want(i):
  """Returns how `row(i)` should come out."""
  return {
    **row(i),
    "image": records.png(i),
    "frames": [records.png(j) for j in range(i % 3)],
    "label_name": [None, "cat", "dog"][i % 3],
    "labels_name": ["cat", "dog"],
    "objects": {"label": [1] * (i % 3), "label_name": ["dog"] * (i % 3)},
    "items": [{"label": 0, "size": i, "label_name": "cat"}] * (i % 2),
    "nest": {"feature": 1, "feature_name": "dog"},
  }


def table(numbers, make=row):
  made = pa.Table.from_pylist([make(i) for i in numbers])
  info = json.dumps({"info": {"features": FEATURES}})
  return made.replace_schema_metadata({"huggingface": info})


def write(path, made, kind="parquet", size=4):
  path.parent.mkdir(parents=True, exist_ok=True)
  if kind == "parquet":
    pq.write_table(made, path, row_group_size=size, write_page_checksum=True)
    return
  new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
  with new(path, made.schema) as writer:
    writer.write_table(made, max_chunksize=size)


@pytest.fixture(params=["parquet", "file", "stream"])
def kind(request):
  return request.param


@pytest.fixture
def file(tmp_path, kind):
  end = "parquet" if kind == "parquet" else "arrow"
  path = tmp_path / f"train.{end}"
  write(path, table(range(11)), kind)
  return path


def test_rows_are_read_in_any_order_with_images_as_bytes_and_names(file):
  rows = parquet.Parquet(file)
  assert len(rows) == 11
  for i in (10, 0, 5, 4, 3, 9):
    assert rows[i] == want(i)
  assert rows.where(5) == f"{file} row 5"


def test_splits_are_those_of_a_hugging_face_folder(tmp_path):
  write(tmp_path / "data/train-00000-of-00002.parquet", table(range(5)))
  write(tmp_path / "data/train-00001-of-00002.parquet", table(range(5, 10)))
  write(tmp_path / "data/test-00000-of-00001.parquet", table(range(20, 23)))
  rows = parquet.Parquet(tmp_path, "train[4:-3]+test[-1:]", keys=["id"])
  assert [rows[i] for i in range(4)] == [{"id": n} for n in (4, 5, 6, 22)]
  assert rows.where(1).endswith("data/train-00001-of-00002.parquet row 0")
  with pytest.raises(ValueError, match='unknown split "val"'):
    parquet.Parquet(tmp_path, "val")


def test_files_of_a_bucket_are_read(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  write(tmp_path / "x.parquet", table(range(3)))
  data = (tmp_path / "x.parquet").read_bytes()
  name = "memory://hub/data/train-00000-of-00001.parquet"
  fsspec.filesystem("memory").pipe(name, data)
  rows = parquet.Parquet("memory://hub", "train")
  assert rows[2] == want(2)
  assert rows.where(2).endswith("/hub/data/train-00000-of-00001.parquet row 2")


def test_only_the_columns_that_are_asked_for_are_read(file):
  rows = parquet.Parquet(file, keys=["id", "label"])
  assert rows[5] == {"id": 5, "label": 1, "label_name": "dog"}
  with pytest.raises(ValueError, match=f'{file}: unknown column .*"question"'):
    parquet.Parquet(file, keys=["qestion"])


def test_a_shard_without_a_column_of_the_others_is_named(tmp_path):
  write(tmp_path / "train-00000-of-00002.parquet", table([0]))
  write(tmp_path / "train-00001-of-00002.parquet", table([0]).drop(["id"]))
  assert len(parquet.Parquet(tmp_path)) == 2
  with pytest.raises(ValueError, match='00001-of-00002.*unknown column "id"'):
    parquet.Parquet(tmp_path, keys=["id"])


def test_images_may_be_files_beside_or_missing(tmp_path, kind):
  (tmp_path / "i").mkdir()
  (tmp_path / "i/1.png").write_bytes(b"1")
  paths = ["i/1.png", "i/2.png", None, "i"]
  images = [{"image": {"bytes": None, "path": path}} for path in paths]
  made = pa.Table.from_pylist([*images, {"image": None}])
  path = tmp_path / ("x.parquet" if kind == "parquet" else "x.arrow")
  write(path, made, kind)
  rows = parquet.Parquet(path)
  assert rows[0] == {"image": b"1"}
  assert rows[4] == {"image": None}
  for i, message in enumerate(["2.png", "neither bytes nor a path", "i"], 1):
    with pytest.raises(ValueError, match=f"^{path} row {i}: .*{message}"):
      rows[i]


def test_text_that_is_not_utf8_is_named(tmp_path, kind):
  text = pa.array([b"good", b"\xff\xfe"]).view(pa.string())
  path = tmp_path / ("x.parquet" if kind == "parquet" else "x.arrow")
  write(path, pa.table({"text": text}), kind)
  rows = parquet.Parquet(path)
  with pytest.raises(ValueError, match=f"^{path} row 1: "):
    rows[1]


def test_files_that_are_broken_off_or_of_other_kinds_are_named(file):
  data = file.read_bytes()
  for broken in (data[: len(data) // 2], data[:20], b"", b"hello" * 99):
    file.write_bytes(broken)
    with pytest.raises(ValueError, match=f"cannot open {file}: "):
      parquet.Parquet(file)


def test_a_byte_that_changed_is_found_by_its_checksum(tmp_path):
  path = tmp_path / "x.parquet"
  pq.write_table(
    pa.table({"text": ["hello", "world"]}),
    path,
    compression="none",
    use_dictionary=False,
    write_page_checksum=True,
  )
  stored = [b"\5\0\0\0" + text for text in (b"world", b"wurld")]
  path.write_bytes(path.read_bytes().replace(*stored))
  with pytest.raises(ValueError, match=f"^{path} row 1: .*CRC checksum"):
    parquet.Parquet(path)[1]


def test_a_file_without_rows_is_named(file, kind):
  write(file, table(range(3))[:0], kind)
  with pytest.raises(ValueError, match="split 'train' has no rows"):
    parquet.Parquet(file)


def test_reading_in_order_reads_each_group_once(tmp_path, monkeypatch):
  write(tmp_path / "x.parquet", table(range(40)))
  rows = parquet.Parquet(tmp_path / "x.parquet")
  read, calls = pq.ParquetFile.iter_batches, []

  def counted(self, size, numbers, *args, **options):
    calls.extend(numbers)
    return read(self, size, numbers, *args, **options)

  monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
  together = threading.Barrier(4)  # one that lags behind reads groups again

  def read_all():
    for i in range(40):
      together.wait()
      rows[i]

  threads = [threading.Thread(target=read_all) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert sorted(calls) == list(range(10))


def test_arrow_files_are_mapped_and_not_read(tmp_path):
  path = tmp_path / "x.arrow"
  write(path, pa.table({"text": ["x" * 1_000_000] * 20}), "file")
  before = pa.total_allocated_bytes()
  rows = parquet.Parquet(path)
  assert len(rows[19]["text"]) == 1_000_000
  assert pa.total_allocated_bytes() - before < 100_000


def test_a_pickled_source_holds_no_rows(file):
  rows = parquet.Parquet(file)
  rows[3]
  data = pickle.dumps(rows)
  assert len(data) < 2000
  assert pickle.loads(data)[3] == want(3)


@pytest.fixture
def server(tmp_path, monkeypatch):
  """A dataset of Hugging Face's hub with two configurations."""
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  files = {"README.md": b"# Two languages"}
  for number, config in enumerate(("en", "de")):
    for split in ("train", "test"):
      for i in range(2):
        write(tmp_path / "x.parquet", table([number + 6 * i]))
        name = f"{config}/{split}-0000{i}-of-00002.parquet"
        files[name] = (tmp_path / "x.parquet").read_bytes()
  write(tmp_path / "x.parquet", table([11]))
  files["default/train/0000.parquet"] = (tmp_path / "x.parquet").read_bytes()
  with hub.serve("owner/name", files) as server:
    yield server


def test_a_dataset_of_the_hub_is_read_by_its_name(server):
  root = "hf://datasets/owner/name"
  rows = parquet.Parquet(f"{root}/de", split="test[1:]")
  assert len(rows) == 1 and rows[0] == want(7)
  assert rows.where(0) == f"{root}/de/test-00001-of-00002.parquet row 0"
  wanted = [("GET", f"de/test-0000{i}-of-00002.parquet") for i in range(2)]
  assert sorted(server.asked) == wanted
  assert parquet.Parquet(f"{root}@main/en/test-*")[1] == want(6)
  converted = f"{root}@refs/convert/parquet/default"
  assert parquet.Parquet(converted, split="train")[0] == want(11)
  with pytest.raises(ValueError, match="such as .*/name/de and .*give the one"):
    parquet.Parquet(root, split="train")
  with pytest.raises(ValueError, match="cannot list .*repository not found"):
    parquet.Parquet("hf://datasets/owner/nothing", split="train")


def test_another_version_on_the_hub_is_downloaded(server, tmp_path):
  name, sizes = "old/train.parquet", set()
  for text in ("here", "gone"):
    HfFileSystem.clear_instance_cache()  # lists of files are kept
    write(tmp_path / "x.parquet", pa.table({"text": [text]}))
    server.files[name] = (tmp_path / "x.parquet").read_bytes()
    sizes.add(len(server.files[name]))
    rows = parquet.Parquet(f"hf://datasets/owner/name/{name}")
    assert rows[0] == {"text": text}
  assert len(sizes) == 1


def test_an_image_beside_is_in_the_folder_or_in_the_root_that_is_given(
  tmp_path, kind
):
  folder = tmp_path / "d"
  folder.mkdir()
  (tmp_path / "secret.png").write_bytes(b"1")
  path = folder / ("x.parquet" if kind == "parquet" else "x.arrow")
  images = [{"image": {"bytes": None, "path": "../secret.png"}}]
  images += [{"image": {"bytes": None, "path": str(tmp_path / "secret.png")}}]
  write(path, pa.Table.from_pylist(images), kind)
  for i in range(2):
    with pytest.raises(ValueError, match=f"secret.png is not in {folder}; set"):
      parquet.Parquet(path)[i]
  assert parquet.Parquet(path, image_root=str(tmp_path))[1] == {"image": b"1"}


def test_a_group_that_swells_when_it_is_read_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(parquet, "_LARGE", 1_000_000)
  path = tmp_path / "x.parquet"
  made = pa.table({"x": pa.array([bytes(200_000)] * 6)})
  for dictionary in (False, True):
    options = dict(compression="zstd", use_dictionary=dictionary)
    pq.write_table(made, path, **options)
    assert path.stat().st_size < 10_000
    with monkeypatch.context() as patch:
      if not dictionary:  # what the file says of itself is enough
        patch.setattr(pq.ParquetFile, "iter_batches", None)
      with pytest.raises(ValueError, match="row 0: its group .* has 1,200,"):
        parquet.Parquet(path)[0]
    pq.write_table(made, path, **options, row_group_size=4)
    assert len(parquet.Parquet(path)[0]["x"]) == 200_000
