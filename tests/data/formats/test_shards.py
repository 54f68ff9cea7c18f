"""Files are found by name, here or at a URL, and each belongs to one split."""

import functools
import http.server
import threading

import fsspec
import pytest

from pg.data.formats import shards

SUFFIXES = (".parquet", ".tfrecord")


def touch(root, *names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(name)


def find(root, path="."):
  """Returns splits and their files, relative to `root`."""
  found = shards.find(str(root / path), SUFFIXES)
  relative = lambda name: name[len(str(root)) + 1 :]
  return {k: [*map(relative, names)] for k, names in found.items()}


@pytest.mark.parametrize(
  ("name", "split"),
  [
    ("toy-train.tfrecord-00000-of-00001", "train"),
    ("toy-dev_de.tfrecord-00000-of-00001", "dev_de"),
    ("toy-train.parquet-00000-of-00001", "train"),
    ("train.tfrecord", "train"),
    ("data/test-00000-of-00001.parquet", "test"),
    ("data/train-00000-of-00001-a3cbb6a2ed1f6b0b.parquet", "train"),
    ("default/validation/0000.parquet", "validation"),
    ("val/data-00000-of-00001.parquet", "val"),
    ("val/part-00000-of-00001.tfrecord", "val"),
    ("0000.parquet", "train"),
    ("data/0000.parquet", "train"),
  ],
)
def test_a_file_belongs_to_the_split_in_its_name(tmp_path, name, split):
  touch(tmp_path, name, "README.md", f"{name}.part", f"{name}.incomplete")
  assert find(tmp_path, "") == {split: [name]}


def test_splits_and_files_come_in_order(tmp_path):
  names = [f"a-train.tfrecord-0000{i}-of-00003" for i in range(3)]
  others = ["a-x.tfrecord", "a-test.tfrecord", "a-validation.tfrecord"]
  touch(tmp_path, *others, *names[::-1])
  found = find(tmp_path, "")
  assert list(found) == ["train", "validation", "test", "x"]
  assert found["train"] == names


def test_a_pattern_a_file_a_list_or_a_mapping_can_be_given(tmp_path):
  touch(tmp_path, "a/train.parquet", "a/test.parquet", "b/train.parquet")
  assert find(tmp_path, "*/train.parquet") == {
    "train": ["a/train.parquet", "b/train.parquet"]
  }
  assert find(tmp_path, "a/test.parquet") == {"test": ["a/test.parquet"]}
  files = [str(tmp_path / "b/train.parquet"), str(tmp_path / "a/test.parquet")]
  assert shards.find(files[:1], SUFFIXES) == {"train": files[:1]}
  own = {"mine": str(tmp_path / "a/*.parquet"), "yours": files}
  found = shards.find(own, SUFFIXES)
  assert list(found) == ["mine", "yours"]
  assert len(found["mine"]) == 2 and found["yours"] == files


def test_a_split_in_several_folders_has_to_be_meant(tmp_path):
  touch(tmp_path, "en/train.parquet", "de/train.parquet", "de/test.parquet")
  match = "of the split train are in several folders, such as .*/de and .*/en"
  with pytest.raises(ValueError, match=match):
    find(tmp_path, "")
  assert list(find(tmp_path, "de")) == ["train", "test"]
  assert len(find(tmp_path, "*/*.parquet")["train"]) == 2


def test_a_missing_shard_is_named(tmp_path):
  names = [f"a-train.tfrecord-0000{i}-of-00004" for i in (0, 1, 3)]
  touch(tmp_path, *names)
  message = r"shard 2 of 4 of .*a-train.tfrecord\* is not there \(3 of 4 are\)"
  with pytest.raises(ValueError, match=message):
    find(tmp_path, "")
  assert find(tmp_path, names[0]) == {"train": names[:1]}


def test_a_folder_without_such_files_is_named(tmp_path):
  touch(tmp_path, "x.json")
  for path in ("", "none", "*.parquet"):
    with pytest.raises(ValueError, match="there is no file .*parquet or .tfr"):
      find(tmp_path, path)


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path / "home"))


def text(name):
  with open(shards.local(name).path) as f:
    return f.read()


def test_files_of_a_bucket_are_listed_and_downloaded(home):
  fs = fsspec.filesystem("memory")
  names = ["data/test.parquet", "data/train-00000-of-00001.parquet"]
  for name in names:
    fs.pipe(f"/bucket/{name}", b"PAR1" + name.encode())
  fs.pipe("/bucket/data/._test.parquet", b"of macOS")
  for path in ("memory://bucket", "memory://bucket/data/*.parquet"):
    found = shards.find(path, SUFFIXES)
    assert list(found) == ["train", "test"]
    assert text(found["test"][0]) == f"PAR1{names[0]}"
  assert found["train"][0].endswith("/bucket/" + names[1])
  with pytest.raises(ValueError, match="there is no file memory://none"):
    shards.find("memory://none", SUFFIXES)
  with pytest.raises(ValueError, match="cannot read memory://none/x.parquet"):
    shards.local("memory://none/x.parquet")
  with pytest.raises(ValueError, match="cannot list nothing://x"):
    shards.find("nothing://x", SUFFIXES)


def test_a_file_of_a_web_server_is_downloaded(home, tmp_path):
  touch(tmp_path / "web", "a/train.parquet")
  (tmp_path / "web/a/train.parquet").write_text("PAR1 and so on")
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=tmp_path / "web"
  )
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    url = f"{root}/a/train.parquet"
    for path in (url, f"{root}/a/", f"{url}?download=true"):
      found = shards.find(path, SUFFIXES)
      assert found == {"train": [url if path.endswith("/") else path]}
      assert text(found["train"][0]) == "PAR1 and so on"
    server.shutdown()


def test_rows_of_several_files_follow_each_other(tmp_path):
  touch(tmp_path, "ab", "cde")
  names = [str(tmp_path / name) for name in ("ab", "cde")]
  letters = lambda shard: list(text(shard.name))
  table = shards.Table(names, letters, lambda x: {"letter": x}, noun="letter")
  assert len(table) == 5
  assert [table[i]["letter"] for i in range(5)] == list("abcde")
  assert table.where(4) == f"{names[1]} letter 2"
  with pytest.raises(ValueError, match="cannot read .*nowhere: No such file"):
    shards.Table([str(tmp_path / "nowhere")], letters)
