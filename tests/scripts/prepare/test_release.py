"""Releases are found, counted and written; what is missing is listed."""

import bz2
import functools
import gzip
import json
import os
import pickle
import subprocess
import sys

import pytest

from pg.data.formats import prepared
from scripts.prepare import release, vqav2
from tests.support.releases import pictures
from tests.support.releases import vqav2 as made
from tests.support.tiny import ROOT

SITE = "train2014.zip from cocodataset.org"


@pytest.fixture
def raw(tmp_path):
  """A release of three images and a table of them."""
  folder = tmp_path / "raw"
  for i in range(3):
    pictures.write(folder / f"train2014/{i}.png", (4 + i, 5), i)
  (folder / "clip").mkdir()
  (folder / "clip/v_a_1.mp4").write_bytes(b"film")
  write(folder / "names.json", {"names": ["0", "1", "2"]})
  return folder


def write(path, content):
  path.write_text(json.dumps(content), encoding="utf-8")


def rows(raw):
  for i, name in enumerate(raw.json("names.json", want=("names",))["names"]):
    image = raw.image(f"train2014/{name}.png", SITE)
    yield dict(image=image, id=i, text="日本")


def splits(raw, num=3):
  raw.need({"names.json": "names.zip from example.org"})
  yield release.Split("train", functools.partial(rows, raw), num, "images")
  clip = lambda: iter(
    [dict(video=raw.video("a", ["{}.mkv", "clip/v_{}_*"], "c"))]
  )
  yield release.Split("clips", clip)
  pair = lambda: iter([dict(image=[r["image"] for r in rows(raw)][:2], id=7)])
  yield release.Split("test-dev", pair)


def prepare(raw, out, **options):
  return release.prepare(splits, raw, out, quiet=True, **options)


@pytest.mark.parametrize("format", release.FORMATS)
def test_rows_come_back_as_they_were_in_the_release(raw, tmp_path, format):
  prepare(raw, tmp_path / "data/it", format=format)
  source = prepared.find(tmp_path / "data/it", "train[1:] + test-dev")
  source = pickle.loads(pickle.dumps(source))
  png = [(raw / f"train2014/{i}.png").read_bytes() for i in range(3)]
  assert [source[i] for i in range(3)] == [
    dict(image=png[1], id=1, text="日本"),
    dict(image=png[2], id=2, text="日本"),
    dict(image=png[:2], id=7),
  ]
  source.check()


def test_a_text_file_names_images_and_videos_where_they_lie(raw, tmp_path):
  prepare(raw, tmp_path / "data/it")
  lines = (tmp_path / "data/it/train.jsonl").read_text().splitlines()
  assert json.loads(lines[0])["image"] == "../../raw/train2014/0.png"
  source = prepared.find(tmp_path / "data/it", "train + test-dev + clips")
  assert source.image_ref(2) == str(raw / "train2014/2.png")
  files = [str(raw / f"train2014/{i}.png") for i in (0, 1)]
  assert source.image_ref(3) == files
  assert source[4] == dict(video=str(raw / "clip/v_a_1.mp4"))
  assert source.where(4) == f"{tmp_path}/data/it/clips.jsonl:1"


def test_an_array_record_holds_the_film(raw, tmp_path):
  prepare(raw, tmp_path / "it", format="array_record")
  assert prepared.find(tmp_path / "it", "clips")[0] == dict(video=b"film")


def test_bytes_of_an_image_stay_in_a_text_file(raw, tmp_path):
  rows = lambda: iter([dict(image=b"bytes")])
  one = lambda raw: [release.Split("all", rows)]
  release.prepare(one, raw, tmp_path / "it", quiet=True)
  assert prepared.find(tmp_path / "it")[0] == dict(image=b"bytes")


def test_a_complete_split_is_kept_and_an_incomplete_one_made(raw, tmp_path):
  prepare(raw, tmp_path / "it")
  kept, lost = tmp_path / "it/train.jsonl", tmp_path / "it/clips.jsonl"
  kept.write_text("{}\n{}\n{}")
  lost.unlink()
  done = prepare(raw, tmp_path / "it")
  assert [d.num for d in done] == [None, 1, None]
  assert (kept.read_text(), lost.exists()) == ("{}\n{}\n{}", True)


@pytest.mark.parametrize("format", release.FORMATS)
def test_a_kept_split_that_was_incomplete_is_named(raw, tmp_path, format):
  four = functools.partial(splits, num=4)
  options = dict(format=format, quiet=True)
  release.prepare(four, raw, tmp_path, allow_incomplete=True, **options)
  with pytest.raises(ValueError, match="with 3 of 4 images: delete it"):
    release.prepare(four, raw, tmp_path, **options)
  release.prepare(four, raw, tmp_path, allow_incomplete=True, **options)
  release.prepare(splits, raw, tmp_path, **options)


def test_only_the_splits_that_are_asked_for_are_made(raw, tmp_path):
  prepare(raw, tmp_path / "it", only=["clips"])
  assert os.listdir(tmp_path / "it") == ["clips.jsonl"]
  with pytest.raises(ValueError, match='split "clip"; did you mean "clips"'):
    prepare(raw, tmp_path / "it", only=["clip"])


def test_a_split_of_another_size_is_not_written(raw, tmp_path):
  out = tmp_path / "it"
  four = functools.partial(splits, num=4)
  message = "split train has 3 images and 4 were published"
  with pytest.raises(ValueError, match=message):
    release.prepare(four, raw, out, quiet=True)
  assert sorted(os.listdir(out)) == ["clips.jsonl", "test-dev.jsonl"]
  release.prepare(four, raw, out, allow_incomplete=True, quiet=True)
  assert len(prepared.find(out, "train")) == 3


def test_missing_images_are_counted_by_archive(raw, tmp_path):
  (raw / "train2014/1.png").unlink()
  (raw / "clip/v_a_1.mp4").unlink()
  with pytest.raises(ValueError) as error:
    prepare(raw, tmp_path / "it")
  assert f"1 images or clips are missing; get {SITE}" in str(error.value)
  assert "1 images or clips are missing; get c\n" in str(error.value)
  assert not os.listdir(tmp_path / "it")
  done = prepare(raw, tmp_path / "it", allow_incomplete=True)
  assert [(d.num, d.num_absent) for d in done] == [(2, 1), (0, 1), (0, 1)]
  source = prepared.find(tmp_path / "it")
  assert [source[i]["id"] for i in range(len(source))] == [0, 2]


def test_all_missing_files_are_listed_with_where_to_get_them(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  (folder / "v2_Questions_Val_mscoco.zip").touch()
  with pytest.raises(ValueError) as error:
    release.prepare(vqav2.splits, folder, tmp_path / "it", quiet=True)
  lines = str(error.value).splitlines()
  assert len(lines) == 5
  assert "v2_OpenEnded_mscoco_train2014_questions.json is not in" in lines[0]
  assert "get v2_Questions_Train_mscoco.zip from visualqa.org" in lines[0]
  assert any("v2_Questions_Val_mscoco.zip is: unpack it" in x for x in lines)


def test_what_is_there_is_written_without_what_is_missing(tmp_path):
  folder = tmp_path / "raw"
  folder.mkdir()
  made.vqav2(folder)
  (folder / vqav2.ANSWERS.format("val2014")).unlink()
  options = dict(allow_incomplete=True, quiet=True)
  done = release.prepare(vqav2.splits, folder, tmp_path / "it", **options)
  assert [d.num for d in done] == [6, 0, 6]
  assert "val2014_annotations.json" in done[1].problems[0]


@pytest.mark.parametrize("pack, end", ((gzip.open, ".gz"), (bz2.open, ".bz2")))
def test_packed_files_in_folders_of_their_archives_are_found(
  raw, tmp_path, pack, end
):
  (raw / "names/names").mkdir(parents=True)
  with pack(raw / f"names/names/names.json{end}", "wt") as f:
    f.write((raw / "names.json").read_text())
  (raw / "names.json").unlink()
  assert prepare(raw, tmp_path / "it")[0].num == 3


def test_images_in_folders_of_their_archives_are_found(raw, tmp_path):
  (raw / "train").mkdir()
  (raw / "train2014").rename(raw / "train/train2014")
  assert prepare(raw, tmp_path / "it")[0].num == 3


def test_a_file_that_is_there_twice_is_refused(raw):
  for name in ("a", "b"):
    (raw / name).mkdir()
    (raw / name / "x.json").write_text("{}")
  with pytest.raises(ValueError, match="several x.json: .*/a/x.json, .*/b/x"):
    release.Raw(raw).json("x.json")


@pytest.mark.parametrize(
  "text, message",
  (
    ('{"nams": []}', "names.json has no 'names', only 'nams'; .* version"),
    ("[1]", "names.json: wanted an object with names, got int"),
    ("{", "names.json is not JSON"),
    ('{"names": 3}', "split train: row 0 .* not as expected: TypeError"),
  ),
)
def test_a_file_of_another_version_is_named(raw, tmp_path, text, message):
  (raw / "names.json").write_text(text)
  with pytest.raises(ValueError, match=message):
    prepare(raw, tmp_path / "it")


def test_broken_lines_have_a_number(raw):
  release_ = release.Raw(raw)
  (raw / "a.jsonl").write_text('{"x": 1}\n\n{"x": 2\n')
  with pytest.raises(ValueError, match="a.jsonl:3 is not JSON"):
    list(release_.lines("a.jsonl"))
  (raw / "a.jsonl").write_text('{"x": 1}\n{"y": 2}\n')
  with pytest.raises(ValueError, match="a.jsonl:2 has no 'x', only 'y'"):
    list(release_.lines("a.jsonl", want=("x",)))


def test_tables_give_rows_by_column(raw):
  (raw / "a.csv").write_text('q,a\n"one, two",1\n"x\ny",2\n')
  assert list(release.Raw(raw).csv("a.csv", want=("q", "a"))) == [
    dict(q="one, two", a="1"),
    dict(q="x\ny", a="2"),
  ]
  (raw / "a.csv").write_text("q,a\n1,2\n3\n")
  with pytest.raises(ValueError, match="a.csv:3 has not as many columns"):
    list(release.Raw(raw).csv("a.csv"))
  with pytest.raises(ValueError, match="a.csv has no 'b', only 'q', 'a'"):
    list(release.Raw(raw).csv("a.csv", want=("b",)))


def test_no_data_says_which_command_makes_them(tmp_path):
  message = "python -m scripts.prepare.gqa --raw DIR --out .*/data/gqa"
  with pytest.raises(prepared.Missing, match=message):
    prepared.find(tmp_path / "data/gqa", "train")
  assert issubclass(prepared.Missing, ValueError)


def test_an_unknown_split_names_the_known_ones(raw, tmp_path):
  prepare(raw, tmp_path / "it")
  with pytest.raises(prepared.Missing, match='"trian"; did you mean "train"'):
    prepared.find(tmp_path / "it", "trian")
  with pytest.raises(ValueError, match="is no split") as error:
    prepared.find(tmp_path / "it", "train[")
  assert "scripts.prepare" not in str(error.value)


@pytest.mark.parametrize("format", release.FORMATS)
def test_what_was_downloaded_since_is_added(raw, tmp_path, format):
  hidden = raw / "train2014/1.png"
  image, out = hidden.read_bytes(), tmp_path / "it"
  hidden.unlink()
  prepared_again = functools.partial(
    prepare, raw, out, format=format, allow_incomplete=True
  )
  assert prepared_again()[0].num == 2
  assert prepared_again()[0].num is None  # nothing new
  hidden.write_bytes(image)
  assert prepared_again()[0].num == 3
  assert len(prepared.find(out, "train")) == 3
  hidden.unlink()  # as where --raw is another folder
  assert prepared_again()[0].num is None
  assert len(prepared.find(out, "train")) == 3
  prepare(raw, out, format=format, only=["train"])


def test_missing_archives_are_named_also_where_they_are_allowed(
  raw, tmp_path, capsys
):
  (raw / "train2014/1.png").unlink()
  four = functools.partial(splits, num=4)
  release.prepare(four, raw, tmp_path / "it", allow_incomplete=True)
  said = capsys.readouterr().out
  assert f"\n1 images or clips are missing; get {SITE}\n" in said
  assert "\nsplit train has 3 images and 4 were published" in said
  (raw / "names.json").unlink()
  release.prepare(splits, raw, tmp_path / "none", allow_incomplete=True)
  assert "\nnames.json is not in" in capsys.readouterr().out


def test_a_slice_of_an_incomplete_split_has_the_rows_that_there_are(
  raw, tmp_path
):
  prepare(raw, tmp_path / "it")
  find = functools.partial(prepared.find, tmp_path / "it")
  cases = ("[-10240:]", 3), ("[:-10240] + test-dev", 1), ("[:5000]", 3)
  for text, num in cases:
    with pytest.warns(UserWarning, match="of 3 rows: .* is beyond the end"):
      assert len(find(f"train{text}")) == num
  with pytest.warns(UserWarning), pytest.raises(ValueError, match="no rows"):
    find("train[:-10240]")


def test_a_split_in_both_formats_is_refused(raw, tmp_path):
  for format in release.FORMATS:
    prepare(raw, tmp_path / "it", format=format)
  with pytest.raises(ValueError, match="has the split clips twice"):
    prepared.find(tmp_path / "it", "train")


def test_the_command_prints_a_table_or_one_error(raw, tmp_path):
  (raw / "names.json").unlink()
  made.pope(raw)
  command = [sys.executable, "-m", "scripts.prepare.pope", "--raw", str(raw)]
  command += ["--out", str(tmp_path / "pope")]
  run = functools.partial(
    subprocess.run, cwd=ROOT, capture_output=True, text=True
  )
  refused = run(command)
  assert refused.returncode == 1
  assert refused.stderr.startswith("error: the release is not complete")
  done = run([*command, "--allow-incomplete", "--splits", "random,popular"])
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout.count("pope/random.jsonl") == 1
  assert sorted(os.listdir(tmp_path / "pope")) == [
    "popular.jsonl",
    "random.jsonl",
  ]


def test_clips_that_no_one_has_any_more_are_left_out(raw, tmp_path, capsys):
  (raw / "train2014/1.png").unlink()

  def partial(raw):
    split = release.Split("train", lambda: rows(raw), 3, partial=True)
    return [split]

  (done,) = release.prepare(partial, raw, tmp_path / "it")
  assert (done.num, done.num_absent) == (2, 1)
  assert len(prepared.find(tmp_path / "it", "train")) == 2
  assert f"1 images or clips are missing; get {SITE}" in capsys.readouterr()[0]
  for i in (0, 2):
    (raw / f"train2014/{i}.png").unlink()
  with pytest.raises(ValueError, match="train: none of 3 examples is there"):
    release.prepare(partial, raw, tmp_path / "none", quiet=True)
  assert not os.listdir(tmp_path / "none")
