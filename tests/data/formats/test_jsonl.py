"""JSON-lines data is read by row, and what is wrong with it has a place."""

import base64
import io
import json
import pickle
import random
import re
import subprocess
import sys
import tarfile
import tracemalloc

import fsspec
import numpy as np
import pytest
from PIL import Image

from pg.data import source
from pg.data.formats import checks
from pg.data.formats import jsonl as jsonl_lib
from pg.data.storage import index
from tests.support import web


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))


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
  odd = folder / "a#b?c[d]*"
  (odd / "images").mkdir(parents=True)
  (odd / "images" / "1.png").write_bytes(png(9))
  assert jsonl(odd, row(1))[0]["image"] == png(9)
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


def test_lines_in_utf_16_are_refused_with_what_to_do(folder):
  for encoding in ("utf-16", "utf-16-le"):  # PowerShell's `>`, and without mark
    (folder / "x.jsonl").write_text(json.dumps(row(0)), encoding=encoding)
    with pytest.raises(ValueError, match="x.jsonl is in UTF-16.* as UTF-8"):
      jsonl_lib.Jsonl(folder / "x.jsonl")


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


def test_images_are_in_tar_files_or_in_the_lines_too(folder):
  with tarfile.open(folder / "photos.tar", "w") as tar:
    tar.add(folder / "images" / "1.png", "7.png")
  text = base64.b64encode(png(2)).decode()
  lines = (
    row(image="photos.tar/7.png"),
    row(image={"base64": text}),
    row(image=["images/0.png", f"data:image/png;base64,{text}"]),
    row(image="photos.tar/8.png"),
    row(image={"base64": "?"}),
  )
  found = jsonl(folder, *lines)
  assert found[0]["image"] == png(1)
  assert found[1]["image"] == png(2)
  assert found[2]["image"] == [png(0), png(2)]
  with pytest.raises(ValueError, match="l:4: .*there is no 8.png in .*s.tar"):
    found[3]
  with pytest.raises(ValueError, match="l:5: .*the image is no base64"):
    found[4]
  with pytest.raises(ValueError, match="l:4: .*8.png.*problem: 2 of 5"):
    found.check(limit=0)
  found = jsonl(folder, row(image="7.png"), image_root=folder / "photos.tar")
  assert found[0]["image"] == png(1)


@pytest.mark.parametrize(
  "image",
  ["../secret.png", "/etc/passwd", ["images/0.png", "file:///etc/fstab"]],
)
def test_a_line_cannot_name_a_file_outside_of_the_root(folder, image):
  found = jsonl(folder, row(0), row(image=image))
  for look in (lambda: found[1], lambda: found.check(0)):
    with pytest.raises(ValueError, match="l:2: .*(set image_root|may be at)"):
      look()


def numbered(folder, **numbers):
  """Writes files of so many rows, each with the name of its file."""
  for name, num in numbers.items():
    lines = [row(suffix=f"{name} {i}") for i in range(num)]
    text = "\n".join(map(json.dumps, lines))
    (folder / f"{name}.jsonl").write_text(text + "\n\n")


def texts(found):
  return [found[i]["suffix"] for i in range(len(found))]


def test_several_files_are_one_source_in_their_order(folder):
  numbered(folder, a=2, b=0, c=1)
  a, b, c = (str(folder / f"{name}.jsonl") for name in "abc")
  for path in (folder, f"{folder}/*.jsonl", [a, b, c], [f"{folder}/[ab]*", c]):
    found = jsonl_lib.Jsonl(path)
    assert texts(found) == ["a 0", "a 1", "c 0"]
    assert [found.where(i) for i in range(3)] == [f"{a}:1", f"{a}:2", f"{c}:1"]
    assert (found[-1]["suffix"], found.where(-3)) == ("c 0", f"{a}:1")
  assert texts(jsonl_lib.Jsonl([c, a])) == ["c 0", "a 0", "a 1"]
  with pytest.raises(ValueError, match="there is no file .*/d"):
    jsonl_lib.Jsonl(f"{folder}/d*.jsonl")
  with pytest.raises(IndexError):
    found[3]


def test_splits_are_named_by_files_or_a_mapping_and_can_be_cut(folder):
  numbered(folder, train=5, val=2, other=1)
  paths = {"train": f"{folder}/train.jsonl", "x": [f"{folder}/val.jsonl"]}
  split = lambda text, path=folder: texts(jsonl_lib.Jsonl(path, split=text))
  assert split("train[1:-1]") == ["train 1", "train 2", "train 3"]
  assert split("val + train[:20%]") == ["val 0", "val 1", "train 0"]
  assert split("x[1:]+train[4:]", paths) == ["val 1", "train 4"]
  assert split(None, paths) == split("train+x", paths)
  pair = [f"{folder}/train.jsonl", f"{folder}/val.jsonl"]
  both = {"both": pair}
  assert split("both[3:6]", both) == ["train 3", "train 4", "val 0"]
  found = jsonl_lib.Jsonl(both, split="both[4:6]")
  assert [found.where(i) for i in (0, 1)] == [f"{pair[0]}:5", f"{pair[1]}:1"]
  with pytest.raises(ValueError, match='unknown split "trian"; did you mean'):
    split("trian")
  with pytest.raises(ValueError, match="has no rows"):
    split("train[:0]")


def test_files_and_images_come_from_urls(folder):
  jsonl(folder, row(0), row(image="none.png"), row(image="slow.png"))
  (folder / "b.jsonl").write_text(json.dumps(row(1)))
  fs = fsspec.filesystem("memory")
  fs.pipe(
    {"/m/a.jsonl": json.dumps(row(2)).encode(), "/m/images/2.png": png(7)}
  )
  with web.serve(folder) as (url, asked):
    found = jsonl_lib.Jsonl(f"{url}/train.jsonl?a=b/c", timeout=0.1)
    found = pickle.loads(pickle.dumps(found))
    assert [found[0]["image"] for _ in range(2)] == [png(0)] * 2
    assert asked.count("/images/0.png") == 1
    found.check(limit=None)
    assert found.where(0) == f"{url}/train.jsonl?a=b/c:1"
    with pytest.raises(
      ValueError, match=r"^http.*b/c:2: .*cannot read .*none.p"
    ):
      found[1]
    with pytest.raises(
      ValueError, match=r"^http.*b/c:3: .*no answer .*in 0.1 s"
    ):
      found[2]
    found = jsonl_lib.Jsonl([f"{url}/b.jsonl", "memory://m/*.jsonl"])
    assert [found[i]["image"] for i in (0, 1)] == [png(1), png(7)]
    (folder / "local").mkdir()
    near = jsonl(folder / "local", row(1), image_root=url)
    assert near[0]["image"] == png(1)
    with pytest.raises(ValueError, match=f"cannot read {url}/c.jsonl"):
      jsonl_lib.Jsonl(f"{url}/c.jsonl")
  with pytest.raises(ValueError, match=f"cannot read {url}/train.jsonl"):
    jsonl_lib.Jsonl(f"{url}/train.jsonl")


def test_a_file_is_indexed_once_and_read_as_before(folder, monkeypatch):
  lines = row(0), "", row(1), "   ", row(2)
  small = jsonl(folder, *lines)
  monkeypatch.setattr(index, "SMALL", 0)
  for _ in range(2):
    found = pickle.loads(pickle.dumps(jsonl(folder, *lines)))
    assert list(found) == list(small)
    assert [found.where(i) for i in range(3)] == [
      small.where(i) for i in range(3)
    ]


def test_a_line_that_is_too_long_is_named(folder):
  long = row(1, note="x" * 1000)
  found = jsonl(folder, row(0), long, row(2), max_line_bytes=1000)
  assert found[0]["image"] == png(0) and found[2]["image"] == png(2)
  with pytest.raises(
    ValueError, match="l:2: .*more than max_line_bytes = 1000"
  ):
    found[1]
  found = jsonl(folder, long, row(0, note="x" * (16 << 20)))
  assert found[0]["image"] == png(1)
  with pytest.raises(ValueError, match="l:2: .*max_line_bytes = 16777216"):
    found[1]


def test_check_looks_at_a_part_of_a_long_file(folder, monkeypatch):
  monkeypatch.setattr(checks, "_LOOKED_AT", 10)
  lines = [row(i % 3) for i in range(50)] + ["{oops"] * 50
  with pytest.raises(ValueError, match="l:56 is not .*problem: 5 of 10"):
    jsonl(folder, *lines).check(limit=2)


JUNK = [None, True, -1, 1e400, [], {}, "", [None], {"base64": 7}, {"a": "b"}]
JUNK += [
  "\0",
  "../x",
  "\ud800",
  "http://",
  "://",
  "data:",
  "a.tar/b",
  [[]],
  "/",
]


def mutated(rng):
  """Returns a line that has been damaged in one of many ways."""
  line = row(rng.randrange(3), id=3, note=["é", {"a": 1.5}])
  for _ in range(rng.randrange(2)):
    line[rng.choice([*line])] = rng.choice(JUNK)
  if rng.random() < 0.1:
    del line[rng.choice([*line])]
  data = bytearray(
    json.dumps(line, ensure_ascii=rng.random() < 0.5).encode(
      errors="surrogatepass"
    )
  )
  for _ in range(rng.choice([0, 1, 1, 2, 20])):
    at = rng.randrange(len(data))
    what = rng.randrange(4)
    if what == 0:
      data[at] = rng.randrange(256)
    elif what == 1:
      del data[at : at + rng.randrange(9)]
    elif what == 2:
      data[at:at] = rng.choice([b'"', b"{", b"[" * 2000, b"9" * 5000, b"\\u"])
    else:
      data[at:at] = data[: rng.randrange(30)]
    data = data or bytearray(b"0")
  return bytes(data.replace(b"\n", b" ")) or b"0"


def test_a_damaged_line_is_a_row_or_a_value_error_that_names_it(folder):
  rng = random.Random(0)
  damaged = [mutated(rng) for _ in range(1000)]
  damaged = [line for line in damaged if line.strip()]
  (folder / "x.jsonl").write_bytes(b"\n\n".join(damaged))
  found = jsonl_lib.Jsonl(folder / "x.jsonl")
  good = 0
  for i in range(len(damaged)):
    assert found.where(i) == f"{folder}/x.jsonl:{2 * i + 1}"
    try:
      good += isinstance(found[i]["image"], bytes)
    except ValueError as e:
      assert str(e).startswith(found.where(i))
      assert len(str(e)) < 1000
  assert len(damaged) > 990 and 100 < good < 900


def test_every_named_source_gives_rows_with_an_image():
  for name, options in [
    ("shapes", dict(task="caption", split="train", res=48, size=2)),
    ("digits", dict(split="train", res=48)),
  ]:
    rows = source.SOURCES[name](**options)
    assert len(rows) > 1
    assert np.asarray(rows[1]["image"]).dtype == np.uint8
    assert rows.where(1)


def test_images_beside_the_folder_of_the_file_take_a_root_with_both(folder):
  inside = folder / "annotations"
  inside.mkdir()
  names = "../images/0.png", ["..\\images\\1.PNG", "../images/2.png"]
  texts = [json.dumps(row(image=name)) for name in names]
  (inside / "train.jsonl").write_text("\n".join(texts))
  with pytest.raises(ValueError, match="set image_root to a folder") as error:
    jsonl_lib.Jsonl(inside / "train.jsonl")[0]
  (cure,) = re.findall('such as "(.*?)"', str(error.value))
  assert cure == str(folder)
  for root in (cure, f"{cure}/", "/"):
    found = jsonl_lib.Jsonl(inside / "train.jsonl", image_root=root)
    found.check(None)
    assert found[0]["image"] == png(0)
    assert found[1]["image"] == [png(1), png(2)]
    assert found.image_ref(0) == str(folder / "images/0.png")
  elsewhere = jsonl_lib.Jsonl(inside / "train.jsonl", image_root=inside)
  with pytest.raises(ValueError, match="set image_root"):
    elsewhere[0]


def test_so_do_images_beside_the_folder_of_a_url(folder):
  (folder / "annotations").mkdir()
  line = json.dumps(row(image="../images/0.png"))
  (folder / "annotations/train.jsonl").write_text(line)
  with web.serve(folder) as (url, _):
    path = f"{url}/annotations/train.jsonl"
    with pytest.raises(ValueError, match=f'such as "{url}"'):
      jsonl_lib.Jsonl(path)[0]
    assert jsonl_lib.Jsonl(path, image_root=url)[0]["image"] == png(0)


COCO_FILE = dict(
  info={"year": 2017},
  images=[dict(id=1, file_name="1.jpg", height=48, width=64)],
  annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 9, 9])],
  categories=[dict(id=1, name="cat")],
)
WHOLE = [
  (COCO_FILE, "is a COCO file, no JSON lines: use source=.coco."),
  ([row(0), row(1)], "is a JSON array, .*write one item on each line"),
  ({"data": {"a": [1]}}, None),
]


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n \n"])
@pytest.mark.parametrize(("value", "message"), WHOLE)
def test_json_that_is_no_json_lines_is_one_complaint(
  value, message, start, indent, folder
):
  text = start + json.dumps(value, indent=indent)
  (folder / "x.json").write_text(text, encoding="utf-8")
  if message is None and indent is None:  # one line: a bad row
    assert len(jsonl_lib.Jsonl(folder / "x.json")) == 1
    return
  message = message or "is a JSON object over several lines"
  for path in (folder, folder / "x.json"):
    with pytest.raises(ValueError, match=f"x.json {message}"):
      jsonl_lib.Jsonl(path)


def test_an_array_is_made_lines_by_the_command_that_it_names(folder):
  (folder / "x.json").write_text(json.dumps([row(0), row(1)], indent=2))
  with pytest.raises(ValueError) as error:
    jsonl_lib.Jsonl(folder / "x.json")
  command = str(error.value).split("each line: python ")[1]
  subprocess.run(f"{sys.executable} {command}", shell=True, cwd=folder)
  assert jsonl_lib.Jsonl(folder / "rows.jsonl")[1]["image"] == png(1)


def test_rows_with_lists_of_a_coco_file_are_rows(folder):
  more = dict(images=[{"id": 1}], annotations=[{"bbox": [1, 2, 3, 4]}])
  assert len(jsonl(folder, row(0, **more), row(1))) == 2
  assert len(jsonl(folder, json.dumps(more | row(0)))) == 1
