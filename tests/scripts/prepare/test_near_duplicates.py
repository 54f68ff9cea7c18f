"""Images of evaluation are taken out of what is trained on, and listed."""

import json

import pytest
from PIL import Image

from pg.data.formats import prepared
from scripts.prepare import near_duplicates, release
from tests.inspect import test_near


@pytest.fixture
def data(tmp_path):
  """Prepared data of five photos, and evaluation data with two of them."""
  rows = []
  for i in range(5):
    path = tmp_path / f"raw/{i}.png"
    path.parent.mkdir(exist_ok=True)
    test_near.photo(i).save(path)
    rows.append(dict(image=str(path), caption=f"photo {i}"))
  write(tmp_path / "data/mine/train.jsonl", rows)
  write(tmp_path / "data/mine/val.jsonl", rows[2:])
  copies = {1: ((60, 45), "JPEG"), 3: ((200, 200), "WEBP"), 7: ((9, 9), "PNG")}
  for i, (size, kind) in copies.items():
    path = tmp_path / f"eval/{i}.{kind.lower()}"
    path.parent.mkdir(exist_ok=True)
    test_near.photo(i).resize(size).save(path, kind)
  paths = sorted((tmp_path / "eval").iterdir())
  write(
    tmp_path / "data/vqa/val.jsonl", [dict(image=str(p)) for p in paths[:1]]
  )
  write(
    tmp_path / "data/vqa/test.jsonl", [dict(image=[str(p) for p in paths[1:]])]
  )
  return tmp_path


def write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(data, *names, format="jsonl"):
  """Returns the captions of each split that is left."""
  index = near_duplicates.read([f"{data}/data/{name}" for name in names])
  out = data / "clean/mine"
  near = lambda raw: near_duplicates.splits(raw, index, out)
  release.prepare(near, data / "data/mine", out, format, quiet=True)
  found = {}
  for split in ("train", "val"):
    source = prepared.find(out, split)
    found[split] = [source[i]["caption"] for i in range(len(source))]
    assert Image.open(test_near.io.BytesIO(source[0]["image"])).size[0] == 120
  return found


@pytest.mark.parametrize("format", release.FORMATS)
def test_copies_of_images_of_evaluation_are_left_out(data, format):
  found = run(data, "vqa:val+test", format=format)
  assert found == dict(
    train=["photo 0", "photo 2", "photo 4"], val=["photo 2", "photo 4"]
  )
  lines = (data / "clean/mine/train.left_out.tsv").read_text().splitlines()
  assert [line.split("\t") for line in lines] == [
    [f"{data}/data/mine/train.jsonl:2", f"{data}/data/vqa/val.jsonl:1"],
    [f"{data}/data/mine/train.jsonl:4", f"{data}/data/vqa/test.jsonl:1"],
  ]


def test_only_the_splits_that_are_named_are_compared(data):
  assert run(data, "vqa:val")["val"] == ["photo 2", "photo 3", "photo 4"]


def test_a_row_that_cannot_be_read_is_left_out_and_named(data):
  (data / "raw/2.png").write_bytes(b"no image")
  assert run(data, "vqa")["train"] == ["photo 0", "photo 4"]
  lines = (data / "clean/mine/train.left_out.tsv").read_text()
  assert "train.jsonl:3\tcannot be read: " in lines


def test_evaluation_data_that_are_not_there_are_named(data):
  with pytest.raises(ValueError, match="unknown split"):
    near_duplicates.read([f"{data}/data/vqa:vall"])
  with pytest.raises(ValueError, match="there is no data in .*data/none"):
    near_duplicates.read([f"{data}/data/none"])


def test_a_folder_without_prepared_data_is_named(data):
  (data / "data/empty").mkdir()
  near = lambda raw: near_duplicates.splits(raw, None, data / "clean")
  with pytest.raises(ValueError, match="data/empty has no splits that"):
    release.prepare(near, data / "data/empty", data / "clean", quiet=True)


def test_evaluation_images_that_cannot_be_read_are_named(data):
  (data / "eval/1.jpeg").write_bytes(b"no image")
  with pytest.raises(ValueError, match="val.jsonl:1 cannot be read: cannot d"):
    near_duplicates.read([f"{data}/data/vqa:val"])
