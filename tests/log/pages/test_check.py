"""The page of a check shows findings, lengths and a batch, and only that."""

import html.parser
import json
import re

import pytest
from PIL import Image

from pg.codecs import boxes
from pg.inspect import inspection
from pg.log.pages import check
from tests.support import checks

row = checks.row


@pytest.fixture
def folder(tmp_path):
  return checks.Folder(tmp_path)


class Page(html.parser.HTMLParser):
  """The texts of a page, and its tags."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.texts, self.sources = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.sources += [v for k, v in attrs if k in ("src", "href")]

  def handle_data(self, data):
    self.texts.append(data.strip())


def test_the_page_shows_findings_lengths_and_a_batch(folder):
  box = row("<loc0512><loc0000><loc0000><loc1023> cat", "detect cat")
  val = folder.write("val.jsonl", *checks.some(2))
  out = folder.path / "new" / "check.html"
  result = folder.train(box, row(image="nowhere.png"), val=val, out=out)
  assert f"page: {out}" in result.out
  text = out.read_text("utf-8")
  page = Page(text)
  assert "boxes with y2 < y1 or x2 < x1" in page.texts
  assert any(t.endswith("train.jsonl:4") for t in page.texts)
  assert "nowhere.png" in " ".join(page.texts)
  assert "0512" not in "".join(page.texts[:5])
  # Its image is shown with the box, then those of the batch, twice.
  (image, *_) = re.findall('<rect class="true" (.*?)>', text)
  assert 'height="0.5005"' in image
  num_rows = len(result.report.batch)
  assert page.tags.count("img") == 2 * num_rows + 1
  assert page.texts.count("mask_image 1") == num_rows
  for name in ("piece", *inspection.MASKS):
    assert page.texts.count(name) == num_rows
  assert text.count('<svg class="bars"') == 6
  assert all(source.startswith("data:image") for source in page.sources)
  assert list(out.parent.iterdir()) == [out]


def test_texts_of_people_are_only_text_on_the_page(folder):
  bad = "<script>alert('&')</script>"
  out = folder.path / "check.html"
  file = folder.write("<b>.jsonl", row(bad + " ", bad), row(bad, "x"))
  result = checks.run("--train", file, "--res=16", "--out", out)
  page = Page(out.read_text("utf-8"))
  assert "script" not in page.tags
  assert page.texts.count(f"Check of {file}") == 2
  places = [p for _, _, places in result.found.values() for p in places]
  places += [shown.where.split("/")[-1] for shown in result.report.batch]
  named = [t for t in page.texts if t.startswith(str(file) + ":")]
  assert len(named) == len(places) == 3
  assert sum(bad in text for text in page.texts) >= 3


def test_a_card_has_only_the_images_that_are_shown(folder):
  two = row("same", "same?", image=["a.png", "b.png"])
  for name in two["image"]:
    Image.new("RGB", (9, 9)).save(folder.path / name)
  file = folder.write("a.jsonl", *checks.GOOD, two)
  out = folder.path / "check.html"
  for blind, expected, hidden in (
    ("False", {"16", "32"}, len(checks.GOOD)),
    ("True", {"16"}, 2 * len(checks.GOOD) + 2),
  ):
    more = f"c.num_images, c.blind = 2, {blind}"
    path = folder.config(checks.jsonl(file), more=more)
    checks.run("--config", path, "--out", out)
    text = out.read_text("utf-8")
    assert set(re.findall('<img src="[^"]*" width="(.*?)"', text)) == expected
    assert text.count('class="sharp hidden"') == hidden


def test_masks_are_drawn_however_long_their_codes(folder):
  codes = [list(range(16))] * 3
  text = boxes.detect([[0, 0, 0.5, 0.5]] * 3, ["a", "b", "c"], codes)
  file = folder.write("a.jsonl", row(text, "segment all"))
  out = folder.path / "check.html"
  checks.run("--train", file, "--res=16", "--out", out)
  text = out.read_text("utf-8")
  assert len(re.findall('<rect class="true"', text)) == 3
  assert text.count("<image ") == text.count("&lt;seg&gt;×16") == 3


def test_padding_is_one_column_and_a_number(folder):
  out = folder.path / "check.html"
  result = folder.train(text_len=40, out=out)
  page = Page(out.read_text("utf-8"))
  tok = result.report.tok
  assert page.texts.count("<pad>") == len(result.report.batch) == 3
  for sample in result.report.batch:
    tokens = sample.row["tokens"]
    real = int((tokens != tok.pad).sum())
    assert f"and {len(tokens) - real - 1} more <pad>" in page.texts
  # A text that fills the row has no padding to tell of.
  result = folder.train(row("cat " * 30), text_len=9, out=out)
  pads = [(s.row["tokens"] == tok.pad).sum() for s in result.report.batch]
  page = Page(out.read_text("utf-8"))
  assert page.texts.count("<pad>") == sum(n > 0 for n in pads) < len(pads)


def test_a_histogram_has_a_bar_for_each_length_and_the_limit():
  svg = check.histogram([0, 2, 4], limit=3)
  heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', svg)]
  assert len(heights) == 4
  assert heights[2] == pytest.approx(2 * heights[1]) and heights[0] == 0
  places = [float(x) for x in re.findall('<rect x="([0-9.]+)"', svg)]
  assert places == [44, 116, 188, 260]  # side by side over the whole width
  assert 'class="limit"' in svg
  assert 'class="limit"' not in check.histogram([1])
  # Many lengths share bars, none is lost.
  svg = check.histogram([0] * 999 + [7])
  assert len(re.findall("<rect", svg)) <= check.NUM_BINS
  assert float(re.findall(r'height="([\d.]+)"/>', svg)[-1]) > 0


def test_data_without_one_good_row_is_reported(folder):
  file, out = folder.write("a.jsonl", "{]", "["), folder.path / "check.html"
  result = checks.run("--train", file, "--out", out)
  assert result.found == {
    "row": ("error", 2, ["a.jsonl:1", "a.jsonl:2"]),
    "nothing": ("error", 1, ["train"]),
  }
  assert result.code == 1
  assert not {"text_len", "input:", "as the model"} & set(result.out.split(" "))
  assert "img" not in Page(out.read_text("utf-8")).tags


def test_the_report_is_kept_short(folder):
  lines = [row(" ", prefix="x" * 3000)] * 99
  out = folder.path / "check.html"
  result = folder.train(*lines, text_len=9, out=out)
  lines = result.out.splitlines()
  assert len(lines) < 70 and max(map(len, lines)) < 160
  text = out.read_text("utf-8")
  assert "x" * 300 in text and "x" * 301 not in text
  places = json.dumps(result.found["empty"][2])
  assert places.count("train.jsonl") == 5
