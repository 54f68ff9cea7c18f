"""Video benchmarks: rows as they are written, clips that are gone or broken."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from pg.data.formats import prepared
from scripts.prepare import release
from tests.support.releases import video as made
from tests.support.tiny import ROOT


class Release:
  """A small release of a benchmark."""

  def __init__(self, name, root):
    self.name, self.raw, self.out = name, root / "raw", root / "data"
    self.splits = importlib.import_module(f"scripts.prepare.{name}").splits
    self.raw.mkdir()
    made.ROWS[name](self.raw)

  def prepare(self, **options):
    """Prepares it, whatever its size; returns {split: Prepared}."""
    options = dict(allow_incomplete=True, quiet=True) | options
    done = release.prepare(self.splits, self.raw, self.out, **options)
    return {one.split.name: one for one in done}

  def rows(self, split):
    """Returns the rows of a split, videos as they are in the release."""
    self.prepare()
    source = prepared.find(self.out, split)
    rows = [source[i] for i in range(len(source))]
    for row in rows:
      row["video"] = os.path.relpath(row["video"], self.raw)
    return rows

  def change(self, name, function):
    """Replaces what is in a JSON file by the function of it."""
    path = self.raw / name
    path.write_text(json.dumps(function(json.loads(path.read_text()))))


@pytest.fixture
def new(tmp_path):
  return lambda name: Release(name, tmp_path)


CAPTIONS = ["a man flies a kite", "somebody has a kite", "kite flying"]
ASKED = dict(question="what is a man flying?", answer="kite")


@pytest.mark.parametrize(
  ("name", "split", "row"),
  [
    (
      "msrvtt_cap",
      "val",
      dict(
        video="TrainValVideo/video6513.mp4",
        video_id="video6513",
        captions=CAPTIONS,
      ),
    ),
    (
      "msrvtt_qa",
      "test",
      dict(
        video="TrainValVideo/video2.mp4", video_id=2, question_id=4, **ASKED
      ),
    ),
    (
      "msvd_qa",
      "train",
      dict(
        video="YouTubeClips/abcdefghijk_10_20.avi",
        video_id=1,
        question_id=2,
        **ASKED,
      ),
    ),
    (
      "activitynet_cap",
      "val",
      dict(
        video="videos/v_-bcdefghij_.mp4",
        video_id="v_-bcdefghij_",
        id="v_-bcdefghij_[0.0-1.25]",
        start=0.0,
        end=1.25,
        captions=["A man unrolls a kite."],
      ),
    ),
    (
      "activitynet_qa",
      "test",
      dict(
        video="0bcdefghijk.mkv",
        video_id="0bcdefghijk",
        question_id="v_0bcdefghijk_0",
        question="what is a man flying",
        answer="kite",
        question_type=3,
      ),
    ),
    (
      "vatex_cap",
      "test",
      dict(
        video="0bcdefghijk_000000_000010.mp4",
        videoID="0bcdefghijk_000000_000010",
        captions=CAPTIONS,
      ),
    ),
  ],
)
def test_a_row_has_its_clip_texts_and_ids(name, split, row, new):
  rows = new(name).rows(split)
  assert (rows[0], len(rows)) == (row, 2)


def test_a_caption_loses_the_space_before_it(new):
  second = new("activitynet_cap").rows("train")[1]
  assert second["captions"] == ["He runs with it."]
  assert (second["start"], second["end"]) == (1.0, 9.0)


def test_the_private_test_of_vatex_has_no_captions(new):
  (row,) = new("vatex_cap").rows("private")
  name = "1bcdefghijk_000000_000010"
  assert row == dict(videoID=name, video=f"{name}.mp4")


def test_without_its_file_the_private_test_of_vatex_is_left_out(new):
  vatex = new("vatex_cap")
  os.remove(vatex.raw / "vatex_private_test_without_annotations.json")
  assert set(vatex.prepare()) == {"train", "val", "test"}


def test_videos_that_are_gone_are_counted(new):
  done = new("activitynet_cap").prepare()["train"]
  assert (done.num, done.num_absent) == (2, 1)


def test_a_clip_is_found_by_its_id_in_any_folder_and_format(new):
  msvd = new("msvd_qa")
  clips = msvd.raw / "clips/videos"
  clips.mkdir(parents=True)
  old = msvd.raw / "YouTubeClips/abcdefghijk_10_20.avi"
  old.rename(clips / "abcdefghijk_10_20.webm")
  name = "clips/videos/abcdefghijk_10_20.webm"
  assert msvd.rows("train")[0]["video"] == name


def test_broken_clips_are_found_when_asked(tmp_path, new):
  msrvtt = new("msrvtt_cap")
  clip = msrvtt.raw / "TrainValVideo/video1.mp4"
  clip.write_bytes(clip.read_bytes()[:500])
  assert msrvtt.prepare()["train"].num == 2
  command = [sys.executable, "-m", "scripts.prepare.msrvtt_cap", "--verify"]
  command += ["--raw", str(msrvtt.raw), "--out", str(tmp_path / "verified")]
  done = subprocess.run(
    [*command, "--allow_incomplete"], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert "video1.mp4: " in done.stderr and "video0.mp4" not in done.stderr
  assert "1 images or clips are missing; get whole copies" in done.stdout
  source = prepared.find(tmp_path / "verified", "train")
  assert [source[i]["video_id"] for i in range(len(source))] == ["video0"]


def test_another_number_of_questions_is_another_version(new):
  message = "train has 2 questions and 32,000 were published"
  with pytest.raises(ValueError, match=message):
    new("activitynet_qa").prepare(allow_incomplete=False)


def drop(*keys):
  """Returns a function that takes a key out of the first row of a list."""
  return lambda rows: [
    {k: v for k, v in rows[0].items() if k not in keys},
    *rows[1:],
  ]


@pytest.mark.parametrize(
  ("name", "file", "change", "message"),
  [
    (
      "activitynet_qa",
      "val_a.json",
      lambda rows: rows[1:],
      "question v_-bcdefghij__1 of val_q.json has no answer in val_a.json",
    ),
    (
      "activitynet_qa",
      "val_q.json",
      drop("video_name"),
      "val_q.json has no 'video_name', only 'question', 'question_id'",
    ),
    (
      "msrvtt_cap",
      "test_videodatainfo.json",
      lambda made: made | {"sentences": made["sentences"][:3]},
      "video7011 has no captions in test_videodatainfo.json",
    ),
    (
      "msrvtt_cap",
      "test_videodatainfo.json",
      lambda made: {"videos": []},
      "test_videodatainfo.json has no 'sentences', only 'videos'",
    ),
    (
      "msrvtt_qa",
      "test_qa.json",
      drop("answer"),
      "test_qa.json has no 'answer', only 'id', 'video_id', 'question'",
    ),
    (
      "activitynet_cap",
      "val_2.json",
      lambda made: {k: v | {"sentences": []} for k, v in made.items()},
      "val_2.json: v_0bcdefghijk has 2 timestamps and 0 sentences",
    ),
    (
      "vatex_cap",
      "vatex_validation_v1.0.json",
      drop("enCap"),
      "vatex_validation_v1.0.json has no 'enCap', only 'videoID', 'chCap'",
    ),
  ],
)
def test_a_release_of_another_version_is_named(
  name, file, change, message, new
):
  bad = new(name)
  bad.change(file, change)
  with pytest.raises(ValueError, match=message):
    bad.prepare()


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("a_1_2 vid2\n\nb_1_2 3\n", "youtube_mapping.txt:3: wanted .*'b_1_2 3'"),
    ("a_1_2 vid2\n", "vid1 is not in youtube_mapping.txt"),
  ],
)
def test_a_clip_that_is_not_in_the_mapping_of_msvd_is_named(text, message, new):
  msvd = new("msvd_qa")
  (msvd.raw / "youtube_mapping.txt").write_text(text)
  with pytest.raises(ValueError, match=message):
    msvd.prepare()


def test_all_that_is_missing_is_listed(new):
  vatex = new("vatex_cap")
  for path in vatex.raw.glob("*v1.0.json"):
    path.unlink()
  with pytest.raises(ValueError) as error:
    vatex.prepare(allow_incomplete=False)
  lines = str(error.value).splitlines()
  assert ["training" in lines[0], "validation" in lines[1]] == [True, True]
  assert len(lines) == 2 and "from eric-xw.github.io" in lines[0]
