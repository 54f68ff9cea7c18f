"""The page to look through predictions."""

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pg.codecs import boxes, masks
from pg.log.pages import predictions

EVIL = "</script><script>document.title='evil'</script><img src=x onerror=1>"
CHROMIUM = shutil.which("chromium")


def record(index=0, **more):
  made = dict(
    index=index, where=f"val:{index}", id={}, prompt="q", truth="a",
    prediction="b", logp=-1.0,
  )  # fmt: skip
  return made | more


def png(side=8):
  out = io.BytesIO()
  Image.new("RGB", (side, side), (9, 9, 9)).save(out, "PNG")
  return base64.b64encode(out.getvalue()).decode()


def page(tmp_path, **evaluators):
  path = predictions.write(str(tmp_path / "run/page.html"), evaluators)
  return open(path, encoding="utf-8").read()


def rows(text):
  """Returns the data in a page, as its script reads it."""
  (data,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>', text, re.S
  )
  return json.loads(data)


@pytest.fixture(autouse=True)
def folder(tmp_path):
  (tmp_path / "run").mkdir()


def test_every_prediction_is_in_the_page(tmp_path):
  more = dict(score=0.5, answers=["a", "ä"], scores=[0.25], kind="k")
  text = page(tmp_path, val=[record(1, **more)], test=[record(2), record(3)])
  found = rows(text)
  assert [(r["evaluator"], r["index"]) for r in found] == [
    ("val", 1),
    ("test", 2),
    ("test", 3),
  ]
  assert more.items() <= found[0].items()
  assert "score" not in found[1] and "id" not in found[1]
  assert "Predictions of run" in text


def test_texts_cannot_become_markup(tmp_path):
  keys = ("prompt", "truth", "prediction", "where", "kind", "image_ref")
  evil = record(**dict.fromkeys(keys, EVIL), answers=[EVIL])
  text = page(tmp_path, **{EVIL: [evil]})
  assert rows(text)[0]["prediction"] == EVIL
  assert "<script>document" not in text and "<img" not in text
  name = tmp_path / "<b>&"
  name.mkdir()
  predictions.write(str(name / "page.html"), {"val": [record()]})
  text = (name / "page.html").read_text()
  assert text.count("Predictions of &lt;b&gt;&amp;<") == 2  # title and heading


def test_the_script_writes_no_html():
  script = predictions.__file__.replace(".py", ".js")
  words = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write")
  text = open(script).read()
  assert not [word for word in (*words, "eval(", "fetch(") if word in text]


def test_the_page_needs_nothing_else(tmp_path):
  text = page(tmp_path, val=[record(image=png())])
  assert not re.search(r"<link|<script src|@import|url\(|<img", text)
  assert rows(text)[0]["image"].startswith("data:image/png;base64,")


def test_boxes_of_prompt_truth_and_prediction_are_told_apart(tmp_path):
  place = boxes.encode([0, 0.25, 0.5, 1])
  texts = dict(prompt=f"what {place}", truth=f"{place} a", prediction=place)
  (row,) = rows(page(tmp_path, val=[record(**texts)]))
  want = [("prompt", ""), ("true", "a"), ("predicted", "")]
  assert [(s["kind"], s["label"]) for s in row["shapes"]] == want
  assert row["shapes"][1]["box"] == pytest.approx([0, 0.25, 0.5, 1], abs=1e-3)


def disk():
  """Returns the text of an object whose mask is a disk, and the mask."""
  y, x = np.mgrid[:64, :64] / 31.5 - 1
  codec = masks.load(masks.NANO)
  mask = y**2 + x**2 < 0.8
  codes = masks.encode(codec, mask, [0, 0, 1, 1])
  text = boxes.detect([[0, 0, 1, 1]], ["disk"], [codes])
  return text, masks.decode(codec, codes) > 0


def test_masks_are_drawn_where_there_is_an_image(tmp_path):
  text, inside = disk()
  one = dict(truth=text, prediction=text)
  shown, bare = rows(
    page(tmp_path, val=[record(0, **one, image=png()), record(1, **one)])
  )
  for shape, color in zip(shown["shapes"], ((0, 147, 107), (224, 108, 0))):
    data = base64.b64decode(shape["mask"].partition("base64,")[2])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] > 0, inside)
    assert tuple(pixels[32, 32, :3]) == color and pixels[32, 32, 3] < 255
  assert not any("mask" in shape for shape in bare["shapes"])


def test_the_file_that_a_row_names_is_its_picture(tmp_path, monkeypatch):
  place = boxes.encode([0, 0.25, 0.5, 1])
  photo, small = tmp_path / "a.jpg", tmp_path / "b.png"
  Image.new("RGB", (900, 600), (200, 9, 9)).save(photo)
  Image.new("RGB", (8, 6), (9, 9, 9)).save(small)
  refs = [str(photo), str(small), [str(photo), str(small)]]
  refs += ["nowhere.jpg", "https://example.org/a.jpg", __file__]
  many = [record(i, image_ref=r, truth=place) for i, r in enumerate(refs)]
  text = page(tmp_path, val=many)
  assert "3 images are named, not shown" in text
  found = rows(text)
  assert ["image" in row for row in found] == [True] * 3 + [False] * 3
  sizes = []
  for row in found[:3]:
    data = base64.b64decode(row["image"].partition("base64,")[2])
    sizes.append(Image.open(io.BytesIO(data)).size)
  assert sizes[0] == (256, 171) and sizes[1] == (8, 6)
  assert sizes[2][0] == 2 * sizes[2][1]
  assert all(row["shapes"] for row in found)
  # Where there are too many, the worst have theirs.
  monkeypatch.setattr(predictions, "NUM_FILES", 1)
  pair = [record(i, image_ref=str(photo), score=1.0 - i) for i in range(2)]
  text = page(tmp_path, val=pair)
  assert ["image" in row for row in rows(text)] == [False, True]
  assert "1 images are named, not shown" in text


def test_a_mask_is_of_the_codec_that_its_row_names(tmp_path):
  text, _ = disk()
  lost = {"codec": str(tmp_path / "nowhere.npz")}
  one = dict(truth=text, image=png())
  known, unknown = rows(
    page(tmp_path, val=[record(0, **one), record(1, **one, id=lost)])
  )
  assert "mask" in known["shapes"][0] and "mask" not in unknown["shapes"][0]


def test_a_number_that_json_lacks_becomes_none(tmp_path):
  nan, inf = float("nan"), float("inf")
  found = rows(page(tmp_path, val=[record(logp=nan, scores=[inf, 0.5])]))
  assert found[0]["logp"] is None and found[0]["scores"] == [None, 0.5]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(predictions.jax, "process_index", lambda: 1)
  predictions.write(str(tmp_path / "run/page.html"), {"val": [record()]})
  assert not list((tmp_path / "run").iterdir())


def test_an_image_that_cannot_be_read_is_named(tmp_path):
  with pytest.raises(ValueError, match="val, val:7: cannot read its image"):
    page(tmp_path, val=[record(7, image="AAAA")])
  assert not list((tmp_path / "run").iterdir())


def in_chromium(path, script):
  """Opens a page, runs a script in it and returns the page it has become."""
  text = path.read_text().replace(
    "</html>", f"<script>{script}</script></html>"
  )
  path.write_text(text)
  command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu"]
  command += ["--virtual-time-budget=1000", "--dump-dom", f"file://{path}"]
  done = subprocess.run(command, capture_output=True, text=True, timeout=120)
  return done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_the_worst_first_and_turns_pages(tmp_path):
  many = [record(i, score=0.5, logp=-i / 100) for i in range(100)]
  many[40] |= dict(score=0.0, prediction=EVIL)
  many[41] |= dict(score=1.0, truth="a red kite", prediction="the red kite")
  many[42] |= dict(score=0.1, truth="a red kite", prediction="the red kite")
  page(tmp_path, val=many, test=[record(7, kind="other")])
  script = """
    const key = (k) =>
      document.dispatchEvent(new KeyboardEvent("keydown", { key: k }));
    const told = [];
    const tell = () => told.push(count.value + " "
      + [...document.querySelectorAll(".meta")].slice(0, 3)
        .map((e) => e.textContent.match(/:(\\d+)/)[1]).join(" "));
    tell();
    const third = document.querySelectorAll("#cards figure")[2];
    told.push([...third.querySelectorAll("del, ins")]
      .map((e) => e.tagName + e.textContent).join(" "));
    key("ArrowRight"); key("ArrowRight"); tell();
    key("ArrowRight"); tell();
    order.value = "by index"; update(); key("k"); key("j"); tell();
    told.push(document.activeElement.textContent.includes("val:1 "));
    key("ArrowRight"); key("k"); key("k");
    told.push(document.activeElement.textContent.includes("val:47 "));
    kind.value = "other"; update(); tell();
    kind.value = ""; words.value = "ONERROR"; update(); tell();
    document.title += JSON.stringify(told);
  """
  text = in_chromium(tmp_path / "run/page.html", script)
  title = html.unescape(re.search("<title>(.*?)</title>", text)[1])
  assert json.loads(title.removeprefix("Predictions of run")) == [
    # Without a score, 7 of "test" is wrong since it is no word of the truth.
    "1–48 of 101 7 40 42",
    "DELa INSthe",
    "97–101 of 101 3 2 1",
    "97–101 of 101 3 2 1",
    "1–48 of 101 0 1 2",
    True,
    True,
    "1–1 of 1 7",
    "1–1 of 1 40",
  ]
