"""The check names every problem and its place, and nothing else."""

import re
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.inspect import findings
from pg.weights import hub
from tests.support import checks

row = checks.row
CAT = "<loc0000><loc0256><loc0512><loc1023> cat"


@pytest.fixture
def folder(tmp_path):
  return checks.Folder(tmp_path)


def test_nothing_is_wrong_with_good_data(folder):
  detect = row(f"{CAT} ; {CAT}", "detect cat"), row("on <seg003>", "segment x")
  val = folder.write("val.jsonl", row("a fox"), row("red", "red or blue?"))
  result = folder.train(*detect, val=val, step_time=1000)
  assert result.found == {}
  assert result.code == 0
  assert "0 errors, 0 warnings, 0 notes" in result.out
  assert "keeps up" in result.out


CASES = [
  ("empty", "warning", row(" "), ""),
  ("echo", "error", row("caption en"), "caption en"),
  ("leak", "warning", row("on the mat", "say on the mat now"), "on the mat"),
  ("leak", "warning", row("Mat", "answer en mat"), "Mat"),
  ("edges", "warning", row(prefix="caption en "), "en "),
  ("edges", "warning", row(prefix="caption en\n"), r"en\n"),
  ("edges", "warning", row(prefix=" caption en"), "' cap"),
  ("edges", "warning", row(prefix=r"caption en\n"), r"en\\n"),
  ("edges", "warning", row(prefix="\ufeffcaption en"), "feffcap"),
  ("edges", "warning", row(prefix=f"caption {'e' * 60}\u200b"), r"e\u200b"),
  ("control", "warning", row(prefix="<image>caption"), "<image>"),
  ("control", "warning", row("a cat<eos>"), "<eos>"),
  ("control", "warning", row("<start_of_turn>a cat"), "<start_of_turn>"),
  ("control", "warning", row("a <mask>"), "<mask>"),
  ("loc", "error", row(f"<loc1024>{CAT[9:]}"), "<loc1024>"),
  ("loc", "error", row("<loc12> cat"), "<loc12>"),
  ("loc", "error", row("<loc 0012> cat"), "<loc 0012>"),
  ("loc", "error", row("<LOC0012> cat"), "<LOC0012>"),
  ("loc", "error", row("<loc0.25> cat"), "<loc0.25>"),
  ("loc", "error", row("<loc0012 cat"), "<loc0012 "),
  ("loc", "error", row("loc0012 cat"), "loc0012"),
  ("loc", "error", row("<seg128> cat"), "<seg128>"),
  ("loc", "error", row(prefix="what is at <loc00001>"), "<loc00001>"),
  ("loc_count", "warning", row("<loc0001><loc0002> cat"), "2 in"),
  ("loc_count", "warning", row(CAT[:36] * 2 + " cats"), "8 in"),
  ("inverted", "error", row("<loc0512><loc0001><loc0256><loc0002>"), "0512"),
  ("inverted", "error", row("<loc0001><loc0512><loc0002><loc0256>"), "0512"),
  ("inverted", "error", row(prefix=f"is <loc0009>{CAT[9:27]}<loc0001>"), "9>"),
  ("flat", "warning", row("<loc0001><loc0002><loc0001><loc0009>"), "0009"),
]


@pytest.mark.parametrize(("kind", "severity", "line", "detail"), CASES)
def test_what_is_wrong_with_a_text_is_named(
  folder, kind, severity, line, detail
):
  result = folder.train(line, row("a fox"))
  assert result.found[kind] == (severity, 1, ["train.jsonl:4"])
  assert set(result.found) == {kind}
  assert detail in result.detail(kind)
  assert result.code == (severity == "error")
  assert "train.jsonl:4" in result.out
  assert findings.KINDS[kind].title.split()[0] in result.out


@pytest.mark.parametrize(
  "line",
  [
    row("a cat", "is it a cat or a dog?"),
    row("cat", "concat"),
    row("<location> <segment> local <b>", "what does it say?"),
    row("seg 4 of loc 3", "what does it say?"),
  ],
)
def test_what_only_looks_wrong_is_left_alone(folder, line):
  assert folder.train(line).found == {}


def test_missing_and_corrupt_images_are_named(folder):
  lines = row(image="nowhere.png"), row(image="broken.png"), row("a fox")
  (folder.path / "broken.png").write_bytes(b"\x89PNG\r\n no picture")
  result = folder.train(*lines)
  places = ["train.jsonl:4", "train.jsonl:5"]
  assert result.found == {"image": ("error", 2, places)}
  assert result.code == 1
  said = " ".join(result.out.split())
  assert "nowhere.png" in said and "cannot decode" in said
  assert "No such file" in result.detail("image")
  assert re.search(r"/broken\.png: decode\S+ cannot decode", said)


def test_a_row_that_breaks_does_not_hide_the_others(folder, monkeypatch):
  lines = '{"oops', row(5), row(image=["0.png", "1.png"]), row(" "), "[]"
  result = folder.train(*lines)
  places = [f"train.jsonl:{n}" for n in (4, 5, 6, 8)]
  assert result.found["row"] == ("error", 4, places)
  assert result.found["empty"] == ("warning", 1, ["train.jsonl:7"])
  assert result.code == 1
  assert "is not JSON" in result.detail("row")
  assert "num_images" in result.out
  counts = result.report.inspection.datasets[0].counts
  assert counts == {"good": 4, "bad": 4, "skipped": 0}


def test_an_op_that_crashes_is_a_bad_row(folder, monkeypatch):
  def crash(example):
    return {} if example["suffix"] != "bad" else 1 / 0

  monkeypatch.setitem(pp.OPS, "crash", crash)
  file = folder.write("a.jsonl", *checks.GOOD, row("bad"))
  spec = checks.jsonl(file, pp="decode | resize(16) | crash")
  result = checks.run("--config", folder.config(spec))
  assert result.found == {"row": ("error", 1, ["a.jsonl:4"])}
  assert "ZeroDivisionError" in result.detail("row")


def test_bad_rows_that_training_skips_are_no_error(folder):
  file = folder.write("a.jsonl", *checks.GOOD, "{}")
  path = folder.config(checks.jsonl(file), more='c.bad.policy = "skip"')
  result = checks.run("--config", path, "--config.bad.max_fraction=0.3")
  assert (result.code, result.found["row"][0]) == (0, "warning")
  result = checks.run("--config", path, "--config.bad.max_fraction=0.2")
  assert (result.code, result.found["row"][0]) == (1, "error")


def test_a_dataset_that_an_op_empties_is_an_error(folder, monkeypatch):
  def refuse(example):
    raise pp.Skip("not mine")

  monkeypatch.setitem(pp.OPS, "refuse", refuse)
  file = folder.write("a.jsonl", *checks.GOOD)
  data = {
    "a": checks.jsonl(file),
    "b": checks.jsonl(file, pp="decode | refuse"),
  }
  result = checks.run("--config", folder.config(data))
  assert result.found == {"nothing": ("error", 1, ["b"])}
  assert result.detail("nothing") == "0 bad, 3 skipped"
  assert result.code == 1


def test_rows_that_repeat_or_contradict_others_are_named(folder):
  lines = row("one", "how many?", image="0.png"), row("two", "how many?")
  again = row("one", "how many?", image="0.png")
  other = row("six", "how many?", image="0.png")
  result = folder.train(*lines, again, other)
  assert result.found == {
    "duplicate": ("warning", 1, ["train.jsonl:6"]),
    "contradiction": ("warning", 1, ["train.jsonl:7"]),
    "repeated_suffix": ("note", 2, ["train.jsonl:4"]),
  }
  assert result.detail("duplicate").endswith("train.jsonl:4")
  assert result.detail("contradiction").endswith("train.jsonl:4")
  assert result.detail("repeated_suffix") == "2 rows"
  assert result.code == 0


def test_what_training_and_evaluation_share_is_named(folder):
  val = folder.write(
    "val.jsonl",
    row("a fox"),
    row("a bird", "who is it?", image="4.png"),
    row("anything", "caption en", image="5.png"),
    row("more", "caption en"),
  )
  # The images of the training data are numbered on from those of val.
  result = folder.train(val=val)
  assert result.found == {
    "shared_question": ("error", 1, ["val.jsonl:3"]),
    "shared_image": ("warning", 1, ["val.jsonl:2"]),
  }
  assert result.detail("shared_question").endswith("train.jsonl:2")
  assert result.detail("shared_image").endswith("train.jsonl:1")
  assert result.code == 1


def test_an_evaluator_that_says_it_was_seen_is_no_error(folder):
  data = checks.jsonl(folder.write("a.jsonl", row("a fox"), row("a bird")))
  evals = dict(seen_val=data | dict(metric="exact"))
  result = checks.run("--config", folder.config(data, evals))
  assert result.found["seen"][:2] == ("note", 2)
  assert result.code == 0
  evals["val"] = evals.pop("seen_val")
  result = checks.run("--config", folder.config(data, evals))
  assert result.found["shared_question"][:2] == ("error", 2)
  assert result.code == 1


def test_images_without_a_file_are_compared_by_their_pixels(folder):
  data = dict(source="shapes", task="caption", size=5, res=16)
  evals = dict(val=dict(data, metric="exact", size=3))
  result = checks.run("--config", folder.config(data, evals))
  severity, count, places = result.found["shared_question"]
  assert (severity, count) == ("error", 3)
  assert places[0] == "train[0]"


def test_a_long_text_is_cut_exactly_where_the_check_says(folder):
  long = row("a cat on a mat in a house by the sea"), row("a fox")
  need = folder.train(*long).report.inspection.min_text_len
  assert folder.train(*long, text_len=need).found == {}
  result = folder.train(*long, text_len=need - 1)
  assert result.found == {"cut": ("error", 1, ["train.jsonl:4"])}
  assert f"{need} is the smallest that loses none" in result.out
  assert "1 of 5 rows" in result.out
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  text = long[0]["prefix"], long[0]["suffix"], tok
  assert prefix_lm.is_cut(prefix_lm.make(*text, need - 1))
  assert not prefix_lm.is_cut(prefix_lm.make(*text, need))


def test_few_cut_rows_are_a_warning_and_many_an_error(folder):
  long = row("a cat on a mat in a house by the sea where the wind blows")
  for count, severity in ((1, "warning"), (2, "error")):
    result = folder.train(*checks.some(120), *[long] * count, text_len=30)
    assert result.found["cut"][:2] == (severity, count)
    assert result.code == (severity == "error")


def test_a_prompt_without_room_for_an_answer_is_an_error(folder):
  prompt = "what is there in the picture to be seen?"
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  room = 1 + len(tok.encode(prompt)) + len(tok.sep)
  line = row("it", prompt)
  result = folder.train(line, text_len=room - 1)
  assert result.found == {"no_target": ("error", 1, ["train.jsonl:4"])}
  rows = prefix_lm.make(prompt, "it", tok, room - 1)
  assert not rows["mask_loss"].any()
  result = folder.train(line, text_len=room)
  assert set(result.found) == {"cut"}


def test_what_a_metric_cannot_read_is_named_before_it_evaluates(folder):
  good = dict(boxes=[[0, 0, 1, 1]], labels=["cat"], height=16, width=20)
  wrong = row("x", **good, area=["big"])
  val = folder.write("val.jsonl", row("x", **good, area=[None]), wrong)
  file = folder.write("a.jsonl", *checks.GOOD)
  evals = dict(val=checks.jsonl(val, metric="coco_bbox"))
  result = checks.run("--config", folder.config(checks.jsonl(file), evals))
  assert result.found["unscored"] == ("error", 1, ["val.jsonl:2"])
  assert "coco_bbox: 'area' should be pixels" in result.detail("unscored")
  assert result.code == 1


def test_rows_without_an_answer_that_a_metric_wants_are_named(folder):
  val = folder.write("val.jsonl", dict(prefix="what?"), row("yes"))
  file = folder.write("a.jsonl", *checks.GOOD)
  spec = checks.jsonl(val, metric="exact", keys=["prefix"])
  result = checks.run(
    "--config", folder.config(checks.jsonl(file), dict(val=spec))
  )
  assert result.found["unscored"] == ("error", 1, ["val.jsonl:1"])


OBJECTS = dict(
  boxes=[[0, 0, 1, 1], [0, 0.5, 0.5, 1], [0.2, 0.2, 0.4, 0.4]],
  labels=["cat", "dog", "cat"],
)


def detection(folder, num, *rows, tokens=512):
  pp = f"decode | resize(16) | detect_all({num}, '<unused0>')"
  file = folder.write("a.jsonl", *rows)
  spec = checks.jsonl(file, keys=[], pp=pp)
  more = f"c.text_len = {tokens}"
  return checks.run("--config", folder.config(spec, more=more))


def test_boxes_of_noise_are_nobodys_mistake(folder):
  # Of 64 random boxes some have no height in thousandths.
  flat = np.zeros((64, 2, 2))
  draw = mock.Mock(wraps=np.random.default_rng(0), random=lambda _: flat)
  with mock.patch.object(pp.Turn, "rng", lambda self, *more: draw):
    result = detection(folder, 67, OBJECTS, tokens=2048)
  assert result.found == {}


def test_true_boxes_and_texts_beside_noise_are_still_looked_at(folder):
  flat = dict(OBJECTS, labels=["cat", "dog", "<eos>"])
  flat["boxes"] = [*OBJECTS["boxes"][:2], [0.2, 0.2, 0.2, 0.4]]
  result = detection(folder, 9, flat)
  assert result.found.keys() == {"control", "flat"}
  assert result.detail("control") == "'<eos>'"


def test_images_that_lose_objects_are_named(folder):
  result = detection(folder, 2, OBJECTS, {"boxes": [], "labels": []})
  assert result.found["left_out"] == ("warning", 1, ["a.jsonl:1"])
  assert result.detail("left_out") == "1 of 3 objects"
  assert detection(folder, 3, OBJECTS).found == {}


def test_a_tokenizer_that_is_not_here_is_said_and_the_rest_is_checked(
  folder, monkeypatch
):
  def fail(name):
    raise OSError(f"cannot reach the hub for {name}")

  monkeypatch.setattr(hub, "resolve", fail)
  file = folder.write("a.jsonl", *checks.GOOD, row("a cat " * 99), row("<loc1"))
  for init in ("hf://google/paligemma-3b-pt-224", "runs/none"):
    path = folder.config(checks.jsonl(file), more=f"c.init = {init!r}")
    result = checks.run("--config", path)
    assert result.found["tokenizer"][:2] == ("warning", 1)
    assert init in result.detail("tokenizer")
    assert result.found.keys() == {"tokenizer", "loc"}
    assert "text_len 32 is not judged" in result.out
    assert result.code == 1


def test_a_root_of_images_can_be_said_without_a_config(folder):
  (folder.path / "annotations").mkdir()
  line = row(image="../0.png")
  folder.write("0.jsonl", row())
  folder.write("annotations/train.jsonl", line, row("a", image="../0.png"))
  file = folder.path / "annotations/train.jsonl"
  assert checks.run("--train", file, "--res=16").code == 1
  root = f"--image_root={folder.path}"
  assert checks.run("--train", file, "--res=16", root).code == 0


def test_boxes_in_images_that_stay_turned_are_named(folder):
  def photo(orientation, size=(20, 16)):
    shade = len(list(folder.path.iterdir()))  # no two are the same
    exif, name = Image.Exif(), f"{shade}.jpg"
    exif[0x0112] = orientation
    pixels = Image.new("RGB", size, (30 * shade, 0, 0))
    pixels.save(folder.path / name, exif=exif)
    return name

  stored, upright = dict(height=16, width=20), dict(height=20, width=16)
  lines = [
    dict(OBJECTS, image=photo(1)),
    dict(OBJECTS, image=photo(3), **stored),  # which way up nobody says
    dict(OBJECTS, image=photo(6)),
    dict(OBJECTS, image=photo(8, (20, 20)), height=20, width=20),
    dict(OBJECTS, image=photo(6), **stored),  # of the stored image
    dict(boxes=[], labels=[], image=photo(6)),
    dict(OBJECTS, image=photo(6), **upright),
  ]
  file = folder.write("a.jsonl", *lines)
  kinds = {}
  for exif in (False, True):
    pp = f"decode(exif={exif}) | resize(16) | detect_all(9, '<unused0>')"
    spec = checks.jsonl(file, keys=[], pp=pp)
    path = folder.config(spec, more="c.text_len = 512")
    kinds[exif] = checks.run("--config", path).found
  named = {kind: found[2] for kind, found in kinds[False].items()}
  turned = [f"a.jsonl:{n}" for n in (2, 3, 4)]
  assert named == {"turned": turned, "row": ["a.jsonl:7"]}
  assert {k: v[2] for k, v in kinds[True].items()} == {"row": ["a.jsonl:5"]}


def test_a_box_in_a_text_is_a_box_of_an_image_that_stays_turned(folder):
  exif = Image.Exif()
  exif[0x0112] = 4
  Image.new("RGB", (20, 16)).save(folder.path / "turned.jpg", exif=exif)
  name = dict(image="turned.jpg")
  lines = row(CAT, "detect cat", **name), row("a fox", **name)
  file = folder.write("a.jsonl", *lines)
  assert checks.run("--train", file, "--res=16").found == {}
  spec = checks.jsonl(file, pp="decode | resize(16)")
  result = checks.run("--config", folder.config(spec, more="c.text_len = 99"))
  assert result.found["turned"] == ("warning", 1, ["a.jsonl:1"])
