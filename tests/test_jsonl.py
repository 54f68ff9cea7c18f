"""JSON-lines data is read by row, and what is wrong with it has a place."""

import io
import json
import pickle
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from pg.data import jsonl as jsonl_lib
from pg.data import source


def png(shade):
  f = io.BytesIO()
  Image.new("RGB", (5, 4), (shade, 0, 0)).save(f, "PNG")
  return f.getvalue()


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "images").mkdir()
  for i in range(3):
    (tmp_path / "images" / f"{i}.png").write_bytes(png(i))
  (tmp_path / "images" / "bad.png").write_bytes(png(0)[:40])
  return tmp_path


def row(i=0, **changes):
  return {
    "image": f"images/{i}.png",
    "prefix": "caption en",
    "suffix": f"shade {i}",
    **changes,
  }


def jsonl(folder, *lines, **options):
  """A source of lines, given as text or as what becomes JSON."""
  lines = [x if isinstance(x, str) else json.dumps(x) for x in lines]
  (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
  return jsonl_lib.Jsonl(folder / "train.jsonl", **options)


def test_rows_are_read_in_any_order_with_their_images(folder):
  rows = jsonl(folder, row(0), row(1, id=7, suffix="日本"), row(2))
  assert len(rows) == 3
  assert rows[2]["image"] == png(2)
  assert rows[1] == row(1, id=7, suffix="日本", image=png(1))
  assert rows[-1]["suffix"] == "shade 2"
  assert [x["image"] for x in rows] == [png(0), png(1), png(2)]


def test_a_row_may_have_several_images(folder):
  rows = jsonl(folder, row(image=["images/0.png", "images/2.png"]))
  assert rows[0]["image"] == [png(0), png(2)]


def test_image_paths_are_relative_to_the_file_or_to_image_root(folder):
  rows = jsonl(folder, row(image="1.png"), image_root=folder / "images")
  assert rows[0]["image"] == png(1)
  rows = jsonl(folder, row(image=str(folder / "images" / "2.png")))
  assert rows[0]["image"] == png(2)
  with pytest.raises(ValueError, match="l:1: cannot read an image.*/1.png"):
    jsonl(folder, row(image="1.png"))[0]


def test_blank_lines_are_skipped_and_line_numbers_stay_true(folder):
  lines = "", row(0), "  \t", "\r", row(1), "{oops", "", ""
  rows = jsonl(folder, *lines)
  assert len(rows) == 3
  assert rows[1]["suffix"] == "shade 1"
  assert rows.where(0).endswith("train.jsonl:2")
  assert rows.where(1).endswith("train.jsonl:5")
  with pytest.raises(ValueError, match="train.jsonl:6 is not JSON"):
    rows[2]


def test_windows_line_ends_and_a_byte_order_mark_are_read(folder):
  text = "\ufeff" + json.dumps(row(0)) + "\r\n" + json.dumps(row(1)) + "\r\n"
  (folder / "x.jsonl").write_text(text, encoding="utf-8", newline="")
  rows = jsonl_lib.Jsonl(folder / "x.jsonl")
  assert [x["suffix"] for x in rows] == ["shade 0", "shade 1"]


BROKEN = [
  ("{'image': 1}", "is not JSON"),
  ('{"image": "a.png"', "is not JSON"),
  ("[" * 100000, "is not JSON"),
  ("[1, 2]", "wanted an object .* got list"),
  ("null", "wanted an object .* got NoneType"),
  ("{}", 'no key "image", only an empty object'),
  ({"image": "images/0.png", "prefix": ""}, 'no key "suffix", only image, pr'),
  (row(suffix=["a"]), r'"suffix" should be Unicode text, got \[.a.\]'),
  (row(prefix=None), '"prefix" should be Unicode text, got None'),
  (row(suffix="\ud83d"), '"suffix" should be Unicode text'),
  (row(image=7), "a path or a list of paths, got 7"),
  (row(image=[]), r"a path or a list of paths, got \[\]"),
  (row(image=""), "a path or a list of paths"),
  (row(image=["images/0.png", 3]), "a path or a list of paths"),
  (row(image="images/9.png"), "image.*images/9.png"),
  (row(image="images"), "image.*/images"),
  (row(image="a\0b"), "image.*(null byte|a.b)"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN)
def test_a_broken_line_is_named_when_it_is_read_and_by_check(
  folder, line, message
):
  rows = jsonl(folder, row(0), "", line)
  assert rows[0]["image"] == png(0)
  for read in (lambda: rows[1], lambda: rows.check(limit=0)):
    with pytest.raises(ValueError, match=f"train.jsonl:3.*{message}"):
      read()


def test_a_line_that_is_not_utf8_is_named(folder):
  (folder / "x.jsonl").write_bytes(b'{"image": "\xff"}\n')
  with pytest.raises(ValueError, match="x.jsonl:1 is not JSON"):
    jsonl_lib.Jsonl(folder / "x.jsonl")[0]


def test_check_passes_sound_data(folder):
  rows = jsonl(folder, row(0), row(1), row(image=["images/2.png"]))
  for limit in (0, 1, 2, 100, None):
    rows.check(limit)


def test_check_names_the_first_problem_and_counts_all(folder):
  lines = row(0), row(1), row(image="images/9.png"), "{}", row(2)
  with pytest.raises(ValueError, match=r"jsonl:3: .*9.png.*problem: 2 of 5\)"):
    jsonl(folder, *lines).check()


def test_check_finds_an_image_that_does_not_decode_within_its_limit(folder):
  rows = jsonl(folder, row(0), row(image=["images/0.png", "images/bad.png"]))
  with pytest.raises(ValueError, match="jsonl:2: .*bad.png: cannot decode"):
    rows.check(limit=2)
  rows.check(limit=1)


def test_check_decodes_rows_spread_over_the_file(folder):
  lines = [row(i % 3) for i in range(50)] + [row(image="images/bad.png")] * 50
  with pytest.raises(ValueError, match="problem: 5 of 100"):
    jsonl(folder, *lines).check(limit=10)


def test_other_keys_can_be_asked_for_instead_of_prefix_and_suffix(folder):
  line = {"image": "images/0.png", "question": "?", "answers": ["a"]}
  rows = jsonl(folder, line, {"image": "x"}, keys=("question", "answers"))
  assert rows[0]["answers"] == ["a"]
  with pytest.raises(ValueError, match='jsonl:2: no key "question"'):
    rows[1]


def test_a_missing_or_empty_file_is_named(folder):
  with pytest.raises(ValueError, match="nowhere.jsonl: No such file"):
    jsonl_lib.Jsonl(folder / "nowhere.jsonl")
  with pytest.raises(ValueError, match="has no rows"):
    jsonl(folder, "", " ")


def test_a_source_can_be_pickled(folder):
  rows = pickle.loads(pickle.dumps(jsonl(folder, row(0), row(1))))
  assert rows[1]["image"] == png(1)


def test_the_text_of_the_file_is_not_kept_in_memory(folder):
  lines = [row(i % 3, note="x" * 10000) for i in range(300)]
  tracemalloc.start()
  rows = jsonl(folder, row(0))
  (folder / "big.jsonl").write_text("\n".join(map(json.dumps, lines)))
  tracemalloc.clear_traces()
  rows = jsonl_lib.Jsonl(folder / "big.jsonl")
  kept, _ = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert len(rows) == 300
  assert kept < 100_000


def test_every_named_source_gives_rows_with_an_image():
  for name, options in [
    ("shapes", dict(task="caption", split="train", res=48, size=2)),
    ("digits", dict(split="train", res=48)),
  ]:
    rows = source.SOURCES[name](**options)
    assert len(rows) > 1
    assert np.asarray(rows[1]["image"]).dtype == np.uint8
    assert rows.where(1)
