"""A fingerprint is that of the bytes of a dataset, wherever they are."""

import datetime
import decimal
import functools
import json
import random
import shutil

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from pg.data import fingerprint, pipeline, source
from pg.data.formats import array_record
from tests.support import numbers

registered = numbers.registered
ROWS = 200


def image(shade, path):
  Image.fromarray(np.full((6, 8, 3), shade, np.uint8)).save(path)
  return path.read_bytes()


def lines(rows):
  return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
  """Rows in JSON lines, and images beside them."""
  made = tmp_path / "here"
  made.mkdir()
  rows = []
  for i in range(ROWS):
    image(i, made / f"{i:03}.png")
    row = {"image": f"{i:03}.png", "prefix": "say", "suffix": f"{i:03}"}
    rows.append(row)
  (made / "train.jsonl").write_text(lines(rows))
  return made


def take(path, **spec):
  spec = dict(source="jsonl", path=str(path / "train.jsonl")) | spec
  return fingerprint.take(pipeline.datasets(dict(a=spec), "decode"))["a"]


def test_a_moved_folder_has_the_same_fingerprint(folder, tmp_path):
  found = take(folder)
  assert found["len"] == ROWS and len(found["rows"]) == fingerprint.NUM_ROWS
  moved = shutil.move(folder, tmp_path / "there" / "data")
  assert take(moved) == found == json.loads(json.dumps(found))
  linked = tmp_path / "linked"
  linked.symlink_to(moved)
  assert take(linked, image_root=str(moved)) == found


def reorder(folder):
  rows = (folder / "train.jsonl").read_text().splitlines(keepends=True)
  random.Random(0).shuffle(rows)
  (folder / "train.jsonl").write_text("".join(rows))


def swap_two(folder):
  rows = (folder / "train.jsonl").read_text().splitlines(keepends=True)
  rows[100], rows[101] = rows[101], rows[100]
  (folder / "train.jsonl").write_text("".join(rows))


def replace_images(folder):
  for path in folder.glob("*.png"):
    image(255 - int(path.stem), path)


def flip_a_bit(folder):
  data = bytearray((folder / "train.jsonl").read_bytes())
  data[len(data) // 2 + 3] ^= 1
  (folder / "train.jsonl").write_bytes(data)


@pytest.mark.parametrize(
  "change, files, rows",
  [
    (reorder, True, True),
    (swap_two, True, False),
    (replace_images, False, True),
    (flip_a_bit, True, False),
  ],
)
def test_other_bytes_have_another_fingerprint(folder, change, files, rows):
  before = take(folder)
  change(folder)
  after = take(folder)
  assert (after["files"] != before["files"]) == files
  differ = [k for k in before["rows"] if before["rows"][k] != after["rows"][k]]
  assert (len(differ) > 60) == rows
  assert after["len"] == before["len"]


class Files:
  """A row, and files that it is made of."""

  def __init__(self, paths):
    self._paths = paths

  def __len__(self):
    return 1

  def __getitem__(self, i):
    return {"suffix": "s"}

  def where(self, i):
    return "the row"

  def parts(self):
    return self._paths


def of_files(*contents, folder):
  paths = []
  for number, content in enumerate(contents):
    paths.append(str(folder / f"{number}"))
    (folder / f"{number}").write_bytes(content)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(source.SOURCES, "files", Files)
    patch.setattr(fingerprint, "NUM_BLOCKS", 4)
    patch.setattr(fingerprint, "BLOCK", 3)
    data = pipeline.datasets(dict(source="files", paths=paths), "decode")
    return fingerprint.take(data)["files"]["files"]


def flipped(content):
  """Yields a content with each of its bytes another."""
  for k in range(len(content)):
    yield bytes([*content[:k], content[k] ^ 1, *content[k + 1 :]])


@pytest.mark.parametrize("sizes", [(12,), (1, 0, 11), (3, 4, 5), (2, 2)])
def test_every_byte_of_small_files_counts(sizes, tmp_path):
  contents = [bytes(size) for size in sizes]
  take = lambda *contents: of_files(*contents, folder=tmp_path)
  found = {take(*contents)}
  for k, content in enumerate(contents):
    for other in flipped(content):
      found.add(take(*contents[:k], other, *contents[k + 1 :]))
  assert len(found) == 1 + sum(sizes)


def test_of_large_files_blocks_count_and_the_sizes(tmp_path):
  take = lambda *contents: of_files(*contents, folder=tmp_path)
  whole = bytes(range(30))
  same = [take(other) == take(whole) for other in flipped(whole)]
  counted = [k for k in range(30) if not same[k]]
  assert counted == [0, 1, 2, 9, 10, 11, 18, 19, 20, 27, 28, 29]
  assert take(whole + b"0") != take(whole)
  assert take(whole, b"0") != take(b"0", whole)
  assert take(b"ab", b"c") != take(b"a", b"bc")


def test_rows_that_cannot_be_read_have_no_digest():
  rows = dict(source="numbers", size=9)
  good, bad = (
    fingerprint.take(numbers.datasets(dict(a=dict(rows, **more))))["a"]["rows"]
    for more in ({}, dict(bad=[3], gone=[4]))
  )
  assert bad == {k: v for k, v in good.items() if k not in "34"}
  assert len(set(good.values())) == 9


def test_arrays_bytes_and_lists_of_a_row_count(monkeypatch):
  mask = np.zeros((2, 2), bool)
  row = dict(image=[b"a", b"b"], mask=mask, boxes=[np.float32(0.5)], id=None)
  changes = (
    dict(image=[b"b", b"a"]),
    dict(mask=~mask),
    dict(mask=mask.astype(np.uint8)),
    dict(mask=mask.reshape(4)),
    dict(boxes=[np.float32(0.25)]),
    dict(id=0),
  )
  found = set()
  for change in ({}, *changes):
    rows = [row | change]
    monkeypatch.setitem(source.SOURCES, "rows", functools.partial(list, rows))
    data = pipeline.datasets(dict(source="rows"), "decode")
    found.add(fingerprint.take(data)["rows"]["rows"]["0"])
  assert len(found) == 1 + len(changes)


def test_a_video_is_its_bytes_and_not_its_path(tmp_path):
  found = []
  for place, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
    folder = tmp_path / place
    folder.mkdir()
    (folder / "x.mp4").write_bytes(content)
    row = {"video": "x.mp4", "prefix": "p", "suffix": "s"}
    (folder / "train.jsonl").write_text(lines([row]))
    found.append(take(folder)["rows"])
  assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("kind", ("array_record", "coco", "voc", "yolo"))
def test_sources_say_what_their_rows_are_made_of(kind, tmp_path):
  found = []
  for place in ("a", "b", "c"):
    folder = tmp_path / place
    folder.mkdir()
    spec = written(kind, folder, "cat" if place == "c" else "dog")
    data = pipeline.datasets(dict(source=kind, **spec), "decode")
    found.append(fingerprint.take(data)[kind])
  assert found[0] == found[1]
  assert found[0]["files"] != found[2]["files"]


def written(kind, folder, name):
  """Writes two images in a format; returns the spec's arguments."""
  (folder / "JPEGImages").mkdir()
  encoded = [image(k, folder / "JPEGImages" / f"{name}{k}.png") for k in (0, 1)]
  if kind == "array_record":
    rows = [{"image": x, "prefix": name, "suffix": "s"} for x in encoded]
    array_record.write(str(folder / "train.array_record"), rows)
    return dict(path=str(folder))
  if kind == "coco":
    images = [
      dict(id=k, file_name=f"{name}{k}.png", height=6, width=8) for k in (0, 1)
    ]
    text = json.dumps(dict(images=images, annotations=[], categories=[]))
    (folder / "x.json").write_text(text)
    root = str(folder / "JPEGImages")
    return dict(path=str(folder / "x.json"), image_root=root)
  if kind == "voc":
    (folder / "Annotations").mkdir()
    for k in (0, 1):
      text = "<annotation></annotation>"
      (folder / "Annotations" / f"{name}{k}.xml").write_text(text)
    return dict(path=str(folder))
  (folder / "JPEGImages").rename(folder / "images")
  (folder / "labels").mkdir()
  (folder / "labels" / f"{name}0.txt").write_text("")
  (folder / "classes.txt").write_text("dog\ncat")
  return dict(path=str(folder))


def test_rows_with_dates_and_decimals_are_compared(tmp_path):
  def rows(day, amount):
    columns = dict(prefix=["say"], suffix=["a"])
    columns |= dict(day=[datetime.date(2026, 1, day)])
    columns |= dict(at=[datetime.datetime(2026, 1, 1)])
    columns |= dict(amount=[decimal.Decimal(amount)])
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    spec = dict(source="parquet", path=str(tmp_path / "a.parquet"))
    data = pipeline.datasets(dict(a=spec), "decode")
    return fingerprint.take(data)["a"]["rows"]

  assert set(rows(1, "1.5")) == {"0"}
  assert len({str(rows(*x)) for x in ((1, "1.5"), (2, "1.5"), (1, "2"))}) == 3


def test_a_row_that_json_cannot_say_is_left_out(monkeypatch):
  rows = [{"prefix": "a"}, {"prefix": "b", "boxes": {1: 2, "a": 3}}]
  monkeypatch.setitem(source.SOURCES, "odd", lambda: rows)
  data = pipeline.datasets(dict(a=dict(source="odd")), "decode")
  assert set(fingerprint.take(data)["a"]["rows"]) == {"0"}
