"""The verb `predict` on folders, files of questions, and in conversation."""

import errno
import io
import json
import os
import resource
import types

import av
import numpy as np
import pytest
from PIL import Image

from pg import predict
from pg.ask import answer as answer_lib
from pg.ask import load as load_lib
from tests.ask import test_adapters, test_model

pytestmark = pytest.mark.usefixtures("one_device")
photo = test_model.photo


@pytest.fixture
def ask(monkeypatch):
  """Runs the verb with a small model: (image=..., prompt=..., ...)."""
  names = "image data prompt num_images tokenizer dtype res pp mask_codec out"
  names += " max_len length_penalty constrain options regex mesh adapter"
  names += " quantize"
  defaults = dict.fromkeys(names.split())
  defaults |= dict(json=True, batch_size=2, beams=1, samples=1, seed=0)
  defaults |= dict(temperature=0.0, top_k=0, top_p=1.0, start="")
  monkeypatch.setattr(load_lib, "load", lambda *_, **__: test_model.model())

  def run(**options):
    args = dict(defaults, checkpoint="x", **options)
    return predict.main(types.SimpleNamespace(**args))

  return run


@pytest.fixture
def photos(tmp_path):
  """Three photos, and what is no image between them."""
  folder = tmp_path / "photos"
  folder.mkdir()
  for name, seed in (("a.png", 0), ("c.png", 1), ("d.JPG.png", 2)):
    Image.fromarray(photo(seed)).save(folder / name)
  (folder / "b.jpg").write_bytes(b"no image")
  (folder / "notes.txt").write_text("nothing to see")
  return folder


def rows(text):
  return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_answered_but_for_what_is_no_image(ask, photos, capsys):
  with pytest.raises(
    ValueError, match="2 of 8 have no answer:\n  /[^:]*/b.jpg: decode"
  ):
    ask(image=[str(photos)], prompt=["ocr", "detect cat"])
  found = rows(capsys.readouterr().out)
  names = [str(photos / x) for x in ("a.png", "c.png", "d.JPG.png")]
  asked = [(row["image"], row["prompt"]) for row in found]
  assert asked == [([n], p) for n in names for p in ("ocr", "detect cat")]
  (want,) = test_model.model().predict(photo(1), "ocr")
  assert found[2]["text"] == want.text
  ask(image=[str(photos / "?.png")], prompt=["ocr"])
  assert len(rows(capsys.readouterr().out)) == 2
  bad = {"*.gif": "no images in", "x.png": "there is no image"}
  for name, error in bad.items():
    with pytest.raises((ValueError, OSError), match=error):
      ask(image=[str(photos / name)], prompt=["ocr"])


def test_a_file_of_answers_is_continued(
  ask, photos, tmp_path, capsys, monkeypatch
):
  out = tmp_path / "answers.jsonl"
  how = dict(image=[str(photos)], prompt=["ocr"], out=str(out), json=False)
  with pytest.raises(ValueError, match="1 of 4 have no answer"):
    ask(**how)
  complete = out.read_bytes()
  assert [row["image"] for row in rows(complete.decode())] == [
    [str(photos / x)] for x in ("a.png", "c.png", "d.JPG.png")
  ]
  lines = complete.splitlines(keepends=True)
  out.write_bytes(lines[0] + lines[1][:40])  # as a kill leaves it
  Image.fromarray(photo(3)).save(photos / "b.jpg")
  ask(**how)
  again = rows(out.read_text())
  assert len(again) == 4 and out.read_bytes().startswith(lines[0])
  before = out.read_bytes()
  capsys.readouterr()
  with monkeypatch.context() as m:
    m.setattr(load_lib, "load", None)  # nothing is left to ask
    ask(**how)
  assert out.read_bytes() == before
  assert "4 of 4 are in" in capsys.readouterr().err
  out.write_text('{"prefix": "ocr"}\n')
  with pytest.raises(ValueError, match="holds other lines than answers"):
    ask(**how)


def test_questions_name_their_adapters(ask, tmp_path, monkeypatch, capsys):
  one, merged = test_adapters.models()
  loaded = []
  load = lambda name, **how: loaded.append(how["adapters"]) or one
  monkeypatch.setattr(load_lib, "load", load)
  Image.fromarray(photo(1)).save(tmp_path / "a.png")
  lines = [
    dict(image="a.png", prefix="what is it?", adapter="dora"),
    dict(image="a.png", prefix="what is it?", adapter=None),
    dict(image="a.png", prefix="what is it?"),
  ]
  data = tmp_path / "asked.jsonl"
  data.write_text("".join(json.dumps(x) + "\n" for x in lines))
  named = ["all=runs/all", "dora=runs/dora"]
  out = tmp_path / "out.jsonl"
  how = dict(data=str(data), adapter=named, out=str(out), max_len=4)
  ask(**how, json=False)
  assert loaded == [{"all": "runs/all", "dora": "runs/dora"}]
  found = rows(out.read_text())
  assert [x.get("adapter") for x in found] == ["dora", None, "all", "dora"]
  for row in found:
    own = merged[row.get("adapter")]
    (want,) = own.predict(photo(1), "what is it?", max_len=4)
    assert row["tokens"] == want.tokens
  ask(**how, json=False)
  assert "4 of 4 are in" in capsys.readouterr().err
  for bad in (["x"], ["a=1", "a=2"], ["=x"]):
    with pytest.raises(ValueError, match="wanted NAME=PATH, each name once"):
      ask(**how | dict(adapter=bad))


def test_a_folder_gets_answers_and_a_picture_of_each(
  ask, photos, tmp_path, monkeypatch
):
  out = tmp_path / "answers"
  how = dict(image=[str(photos)], prompt=["ocr", "detect cat"], json=False)
  drawn, draw = [], answer_lib.Answer.draw

  def dies(answer):
    drawn.append(draw(answer))
    if len(drawn) == 4:
      raise KeyboardInterrupt
    return drawn[-1]

  with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
    m.setattr(answer_lib.Answer, "draw", dies)
    ask(**how, out=f"{out}/")
  assert len(rows((out / "answers.jsonl").read_text())) == 3
  (photos / "b.jpg").unlink()
  ask(**how, out=str(out))  # it is a folder now
  found = rows((out / "answers.jsonl").read_text())
  names = [f"0000{i}-{x}.png" for i, x in enumerate("aaccdd", start=1)]
  names = [x.replace("-d", "-d.JPG") for x in names]
  assert [row["picture"] for row in found] == names
  assert sorted(os.listdir(out)) == sorted([*names, "answers.jsonl"])
  with Image.open(out / names[2]) as picture:
    np.testing.assert_array_equal(picture, drawn[2])
  ask(prompt=["hello"], out=str(out))
  assert "picture" not in rows((out / "answers.jsonl").read_text())[-1]


def test_a_file_of_questions(ask, photos, tmp_path, capsys):
  data = tmp_path / "q.jsonl"
  questions = [
    {"image": "photos/a.png", "prefix": "ocr"},
    {"image": ["photos/a.png", "photos/c.png"], "prefix": "what differs?"},
    {"prefix": "hello"},
  ]
  data.write_text("".join(json.dumps(q) + "\n\n" for q in questions))
  ask(data=str(data))
  found = rows(capsys.readouterr().out)
  assert [row["prompt"] for row in found] == [q["prefix"] for q in questions]
  two = [[photo(0), photo(1)]]
  (want,) = test_model.model().predict(two, "what differs?")
  assert found[1]["text"] == want.text
  data.write_text('{"image": "photos/a.png", "prefix": 3}\n')
  with pytest.raises(ValueError, match='q.jsonl:1: wanted {"image"'):
    ask(data=str(data))
  data.write_bytes('\n{"prefix": "café"}\n'.encode("latin-1"))
  with pytest.raises(ValueError, match='q.jsonl:2: wanted {"image"'):
    ask(data=str(data))
  data.write_text("\n")
  with pytest.raises(ValueError, match="q.jsonl has no lines"):
    ask(data=str(data))
  with pytest.raises(ValueError, match="--image or --data"):
    ask(data=str(data), image=["a.png"])


def test_several_images_are_one_example_if_one_says_so(ask, photos, capsys):
  names = [str(photos / x) for x in ("a.png", "c.png")]
  ask(image=names, prompt=["what differs?"], num_images=2)
  (row,) = rows(capsys.readouterr().out)
  assert row["image"] == names
  (want,) = test_model.model().predict([[photo(0), photo(1)]], row["prompt"])
  assert row["text"] == want.text


def test_of_a_video_frames_are_seen(ask, tmp_path, capsys):
  path = tmp_path / "a.mkv"
  with av.open(str(path), "w") as video:
    stream = video.add_stream("ffv1", rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv444p"
    for level in range(0, 250, 25):
      image = np.full((16, 32, 3), level, np.uint8)
      video.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
    video.mux(stream.encode())
  found = [int(frame.mean()) for frame in predict.frames(str(path), 4)]
  np.testing.assert_allclose(found, [0, 75, 150, 225], atol=2)
  ask(image=[str(path)], prompt=["what happens?"], num_images=3)
  (row,) = rows(capsys.readouterr().out)
  want = [predict.frames(str(path), 3)]
  assert row["text"] == test_model.model().predict(want, row["prompt"])[0].text


def test_without_a_prompt_lines_are_answered(ask, photos, monkeypatch, capsys):
  prompts = "ocr\n\n" + "where" + " where" * 1200 + "\ndetect cat\n"
  monkeypatch.setattr("sys.stdin", io.StringIO(prompts))
  ask(image=[str(photos / "a.png")])
  said = capsys.readouterr()
  assert [row["prompt"] for row in rows(said.out)] == ["ocr", "detect cat"]
  assert "error: the prompt has" in said.err
  with pytest.raises(ValueError, match="a --prompt is wanted for several"):
    ask(image=[str(photos / "a.png"), str(photos / "c.png")])


def test_one_picture_is_drawn_and_several_are_refused(ask, photos, tmp_path):
  out = str(tmp_path / "out.png")
  how = dict(prompt=["detect cat"], constrain="boxes", out=out, max_len=12)
  ask(image=[str(photos / "a.png")], **how)
  assert Image.open(out).size[0] >= 384
  with pytest.raises(ValueError, match="is one picture, and there are 2"):
    ask(image=[str(photos / "a.png"), str(photos / "c.png")], **how)


def test_what_is_said_cannot_work_the_terminal(ask, photos, capsys):
  ask(image=[str(photos / "a.png")], prompt=["a\x1b[2Jb"], json=False)
  assert "\x1b" not in capsys.readouterr().out


def test_a_file_of_answers_loses_nothing_that_was_there(ask, photos, tmp_path):
  out = tmp_path / "answers.jsonl"
  how = dict(image=[str(photos / "a.png")], prompt=["ocr"], out=str(out))
  for other in ("a note of mine", '{"image": ["a.png"], "prefix": "ocr"}'):
    out.write_text(other)  # without the end of a line
    with pytest.raises(ValueError, match="holds other lines than answers"):
      ask(**how)
    assert out.read_text() == other
  out.unlink()
  ask(**how)
  complete = out.read_text()
  out.write_text(complete.rstrip("\n"))
  ask(**how | dict(prompt=["ocr", "detect cat"]))
  assert out.read_text().startswith(complete)
  assert [row["prompt"] for row in rows(out.read_text())] == [
    "ocr",
    "detect cat",
  ]


def test_a_full_disk_names_the_file_of_answers(tmp_path):
  out = tmp_path / "answers.jsonl"
  lines, limits = (
    predict.Lines(str(out)),
    resource.getrlimit(resource.RLIMIT_FSIZE),
  )
  row = {"image": ["a.png"], "prompt": "ocr", "text": "x" * 100}
  lines.write(row)
  size = out.stat().st_size
  for more in (0, 20):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, limits[1]))
    try:
      with pytest.raises(OSError, match="answers.jsonl"):
        lines.write(row)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.stat().st_size == size


def test_a_full_disk_leaves_the_picture_that_was_there(
  ask, photos, tmp_path, monkeypatch
):
  out = tmp_path / "out.png"
  out.write_bytes(b"mine")

  def save(self, path, *_):
    with open(path, "wb"):
      raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(Image.Image, "save", save)
  with pytest.raises(OSError, match="No space left on device: .*out.png"):
    ask(image=[str(photos / "a.png")], prompt=["ocr"], out=str(out))
  assert out.read_bytes() == b"mine"


def test_a_name_that_is_no_utf_8_is_in_the_answers(
  ask, photos, tmp_path, capsys
):
  name = os.fsdecode(os.fsencode(photos) + b"/caf\xe9 'a\" \x1b.png")
  os.rename(photos / "a.png", name)
  out = tmp_path / "answers.jsonl"
  for _ in range(2):
    ask(image=[name], prompt=["ocr"], out=str(out))
  (row,) = rows(capsys.readouterr().out)
  assert row["image"] == [name] == rows(out.read_text())[0]["image"]


def test_answers_of_a_conversation_are_written(
  ask, photos, tmp_path, monkeypatch
):
  out = tmp_path / "answers.jsonl"
  monkeypatch.setattr("sys.stdin", io.StringIO("ocr\ndetect cat\n"))
  ask(image=[str(photos / "a.png")], out=str(out))
  assert [x["prompt"] for x in rows(out.read_text())] == ["ocr", "detect cat"]


def test_what_cannot_be_is_said_before_the_model_is_loaded(
  ask, photos, tmp_path, monkeypatch
):
  monkeypatch.setattr(load_lib, "load", None)
  with pytest.raises(ValueError, match="a --prompt is wanted for several"):
    ask(image=[str(photos)])
  with pytest.raises(ValueError, match="there is no image to draw on"):
    ask(prompt=["ocr"], out=str(tmp_path / "a.png"))
  monkeypatch.setattr(load_lib, "load", lambda *_, **__: test_model.model())
  with pytest.raises(ValueError, match="--regex: one of them"):
    ask(prompt=["ocr"], options=["yes"], constrain="boxes")
