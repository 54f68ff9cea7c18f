"""The report: one page from the files of a run."""

import base64
import html.parser
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from pg.codecs import boxes, masks
from pg.log import metrics
from pg.log.pages import cards, report

BOX = "<loc0000><loc0256><loc0512><loc1023> dot"


def png(height=48, width=48):
  buffer = io.BytesIO()
  image = np.random.default_rng(0).integers(0, 255, (height, width, 3))
  Image.fromarray(image.astype(np.uint8)).save(buffer, "PNG")
  return base64.b64encode(buffer.getvalue()).decode()


def example(prompt="detect dot", truth=BOX, prediction=BOX, **more):
  return dict(
    index=0, prompt=prompt, truth=truth, prediction=prediction, **more
  )


def write_predictions(workdir, name, rows):
  (workdir / "predictions").mkdir(exist_ok=True)
  lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
  path = workdir / "predictions" / f"{name}.jsonl"
  path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def run(tmp_path):
  """A folder with all files that a run leaves."""
  workdir = tmp_path / "nano"
  with metrics.MetricWriter(workdir) as writer:
    for step in (10, 20, 30):
      values = {"train/loss": 10.0 / step, "speed/examples_per_second": 183.2}
      values |= {"data/a/examples": step * 64, "data/a/epoch": step / 16}
      writer.write(step, values | {"time/train": step * 6.0})
    for step, value in ((20, 0.5), (30, 0.9)):
      writer.write(step, {"digits/exact": value})
    writer.write(30, {"caption/cider": 1.25})
  config = {"batch_size": 64, "model": {"width": 128}, "pp": "decode | <b>"}
  config["init"] = "https://me:secret@host/a.npz?key=secret"
  (workdir / "config.json").write_text(json.dumps(config))
  scores = {
    "digits": {
      "exact": {"value": 0.9414, "blind": 0.1055, "n": 1024},
      "mae": {"value": 0.1, "blind": 0.35, "n": 1024},
    },
    "caption": {"cider": {"value": 1.25}, "bleu": {"value": math.nan}},
  }
  (workdir / "scores.json").write_text(json.dumps(scores))
  write_predictions(workdir, "digits-000000030", [example(image=png())])
  return workdir


class Page(html.parser.HTMLParser):
  """Collects tags, references and text, and checks that tags are closed."""

  void = {"meta", "img", "br", "link", "wbr"}

  def __init__(self, text):
    super().__init__()
    self.tags, self.references, self.texts, self.open = [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.references += [v for k, v in attrs if k in ("src", "href", "srcset")]
    if tag not in self.void:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def read(workdir):
  text = report.write(workdir).read_text(encoding="utf-8")
  return Page(text), text


def table_rows(text):
  """Returns the cells of the score table's rows."""
  body = re.search(r"<tbody>(.*?)</tbody>", text)[1]
  rows = re.findall("<tr.*?</tr>", body)
  return [
    re.findall(r"<t[hd](?: class=soft)?>(.*?)</t[hd]>", row) for row in rows
  ]


def test_the_header_has_the_last_command_and_its_commit(run):
  lines = (
    dict(step=0, command="python -m pg.train --config a.py", commit="1"),
    dict(step=20, command="python -m pg.train --config '<b>.py'", commit="2-x"),
  )
  file = run / "history.jsonl"
  # A kill tore a line, before and after the last one.
  torn = '{"step": 3, "comm'
  file.write_text(f"\n{torn}\n".join(map(json.dumps, lines)) + f"\n{torn}")
  text = report.write(run).read_text()
  head = text[text.index("<header>") : text.index("</header>")]
  assert "commit 2-x" in head and "a.py" not in head
  assert "<code>python -m pg.train --config &#x27;&lt;b&gt;.py&#x27;" in head


def test_the_page_needs_no_other_file_and_no_script(run):
  page, text = read(run)
  assert page.open == []
  assert page.references
  assert all(
    ref.startswith("data:image/png;base64,") for ref in page.references
  )
  assert not {"script", "link", "iframe", "object"} & set(page.tags)
  assert "url(" not in text and "@import" not in text
  assert "prefers-color-scheme: dark)" in text


def test_the_score_table_has_the_blind_score_and_the_difference(run):
  _, text = read(run)
  assert table_rows(text) == [
    ["digits", "exact", "0.941", "0.105", "+0.836", "1,024"],
    ["", "mae", "0.100", "0.350", "−0.250", "1,024"],
    ["caption", "cider", "1.250", "–", "–", "–"],
    ["", "bleu", "–", "–", "–", "–"],
  ]


def test_the_score_table_has_intervals_and_what_is_published(run):
  score = {"value": 0.7, "low": 0.65, "high": 0.75, "published": 0.8319}
  scores = {"val": {"acc": {**score, "n": 300}, "b": {"value": 0.5, "n": 3}}}
  few = {"value": 0.5, "low": 0.2, "high": 0.8, "level": 0.8}
  scores["val"]["AP"] = few
  (run / "scores.json").write_text(json.dumps(scores))
  _, text = read(run)
  assert table_rows(text) == [
    ["val", "acc", "0.700", "0.650 to 0.750", "–", "–", "0.832", "300"],
    ["", "b", "0.500", "–", "–", "–", "–", "3"],
    ["", "AP", "0.500", "0.200 to 0.800 (80 %)", "–", "–", "–", "–"],
  ]


def test_texts_of_people_and_models_are_only_text(run):
  bad = '<script>alert("&")</script>'
  row = example(prompt=bad, truth=bad, prediction=bad, task=bad)
  write_predictions(run, f"{bad[:8]}-000000030", [row])
  (run / "scores.json").write_text(json.dumps({bad: {bad: {"value": 1}}}))
  (run / "config.json").write_text(json.dumps({bad: bad}))
  with metrics.MetricWriter(run) as writer:
    for step in (40, 50):
      writer.write(step, {bad: 1.0})
  page, _ = read(run)
  assert "script" not in page.tags
  # Prompt, truth, prediction, task; two each in scores, config and curves.
  assert sum(bad in text for text in page.texts) == 10


def test_an_image_cannot_carry_markup(run):
  small = png()
  rows = [example(image='"><!--' + small)]
  write_predictions(run, "digits-000000030", rows)
  page, _ = read(run)
  assert page.references == [f"data:image/png;base64,{small}"]


def test_only_the_last_step_of_an_evaluator_is_shown(run):
  write_predictions(run, "digits-000000020", [example(prompt="old")])
  write_predictions(run, "my-digits-000000020", [example(prompt="other")])
  page, text = read(run)
  assert "old" not in text
  assert "The first 1 of 1 at step 30." in "".join(page.texts)
  assert "Examples: my-digits" in page.texts


def test_as_many_examples_as_fit_are_shown_the_worst_first(run):
  rows = [example(prompt=f"question-{i}") for i in range(40)]
  write_predictions(run, "digits-000000030", rows)
  page, text = read(run)
  assert "The first 12 of 40 at step 30." in "".join(page.texts)
  rows = [dict(row, score=1.0) for row in rows]
  rows[30]["score"], rows[20]["score"] = 0.5, 0.0
  write_predictions(run, "digits-000000030", rows)
  page, text = read(run)
  assert "The 12 worst of 40 at step 30." in "".join(page.texts)
  shown = [int(i) for i in re.findall(r"question-([0-9]+)", text)]
  assert shown == [20, 30, *range(10)]


def test_scores_before_the_first_step_stand_beside_those_after(run):
  assert "Before" not in read(run)[0].texts
  with metrics.MetricWriter(run) as writer:
    writer.write(0, {"digits/exact": 0.125})
    writer.write(30, {"time/total": 100.0})
  page, _ = read(run)
  assert page.texts[page.texts.index("Before") :].count("0.125") == 1
  assert any("01:40 of training" in text for text in page.texts)


def test_a_text_with_strange_line_ends_is_one_example(run):
  row = example(prediction="one\u2028two\x85three")
  write_predictions(run, "digits-000000030", [row])
  assert "one\u2028two\x85three" in report.write(run).read_text("utf-8")


@pytest.mark.parametrize(
  "kept, title",
  [
    ("config.json", "Config"),
    ("metrics.jsonl", "Curves"),
    ("scores.json", "Scores"),
    ("predictions", "Examples: digits"),
  ],
)
def test_each_file_alone_makes_a_page(run, tmp_path, kept, title):
  alone = tmp_path / "alone"
  alone.mkdir()
  (run / kept).rename(alone / kept)
  page, _ = read(alone)
  assert title in page.texts
  others = {"Config", "Curves", "Scores", "Examples: digits"} - {title}
  assert not others & set(page.texts)


def test_an_empty_folder_is_refused(tmp_path):
  with pytest.raises(ValueError, match="nothing to report .*workdir"):
    report.write(tmp_path)
  assert list(tmp_path.iterdir()) == []


def test_a_final_score_alone_is_no_curve(run):
  _, text = read(run)
  assert "<code>digits/exact</code>" in text
  assert "<code>caption/cider</code>" not in text


def test_speed_time_and_what_was_read_are_facts_and_not_curves(run):
  page, text = read(run)
  assert re.findall("<code>(.*?)</code>", text) == [
    "train/loss",
    "digits/exact",
  ]
  facts = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", text))
  assert facts["examples per second"] == "183"
  assert facts["train"] == "03:00"
  assert (facts["a/examples"], facts["a/epoch"]) == ("1,920", "1.88")
  assert facts["model.width"] == "128"
  assert facts["init"] == "https://***@host/a.npz?***"
  assert "30 steps · 1,920 examples · batch size 64" in page.texts


def test_what_a_run_cost_is_said_in_its_units(tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    for step in (1, 2, 3):
      values = {
        "speed/data_wait": 0.012 * step,
        "time/chip_hours": 1.2345 * step,
      }
      values |= {"memory/host": 2.0 if step == 2 else 1.0}
      writer.write(step, values)
  _, text = read(tmp_path)
  facts = dict(re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td></tr>", text))
  assert facts["data wait"] == "2.4%"  # the median
  assert facts["chip hours"] == "3.700"  # the last
  assert facts["memory, host"] == "2 GiB"  # the most


def test_a_score_curve_has_the_blind_level(run):
  _, text = read(run)
  loss, digits = re.findall(r"<svg viewBox=.0 0 340.*?</svg>", text)
  assert "blind" in digits and "blind" not in loss


def test_of_two_values_of_a_step_the_later_counts():
  rows = [{"step": 2, "a": 1.0}, {"step": 1, "a": 0.0}, {"step": 2, "a": 3.0}]
  assert report.collect(rows) == {"a": [(1, 0.0), (2, 3.0)]}


def test_a_curve_tells_where_it_is_not_finite(tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    for step, value in enumerate([1.0, math.nan, 2.0, math.inf, 3.0, 4.0]):
      writer.write(step, {"loss": value, "all": math.nan})
  page, text = read(tmp_path)
  assert "Not finite from step 1, in 2 of 6 points." in page.texts
  assert text.count("<polyline") == 3
  assert "nan over steps" not in text


def test_cards_draw_the_boxes_of_prompt_truth_and_prediction():
  moved = "<loc1023><loc1023><loc0512><loc0512> dot"
  row = example("caption <loc0000>" + BOX, prediction=moved, image=png())
  card = cards.grid([row], "Some.")
  assert '<rect class="prompt"' not in card  # five locations are no box
  true = re.search('<rect class="true" (.*?)>', card)[1]
  assert true == 'x="0.2502" y="0" width="0.7498" height="0.5005"'
  # Corners in the wrong order are put right.
  predicted = re.search('<rect class="predicted" (.*?)>', card)[1]
  assert predicted == 'x="0.5005" y="0.5005" width="0.4995" height="0.4995"'
  assert "truth" in card and "prediction." in card.split("</p>")[0]


def test_cards_have_no_drawing_without_boxes():
  row = example("count", "3", "4", image=png())
  assert "<svg" not in cards.grid([row], "")
  assert "Boxes" not in cards.grid([row], "")
  assert "<img" not in cards.grid([example()], "")


@pytest.mark.parametrize(
  "row, mark",
  [
    (example(truth="cat", prediction=" cat\n"), "✓"),
    (example(truth="cat", prediction="dog"), "✗"),
    (example(truth="cat", prediction="dog", answers=["ox", "dog"]), "✓"),
    (example(truth="cat", prediction="cat", score=0.0), "✗"),
    (example(truth="cat", prediction="dog", score=0.25), "0.25"),
  ],
)
def test_cards_mark_right_and_wrong(row, mark):
  card = cards.grid([row], "")
  assert re.findall(r"<b .*?>(.*?)</b>", card) == [mark]


def test_an_empty_prediction_is_said_to_be_empty():
  assert "(nothing)" in cards.grid([example(prediction=" ")], "")


def test_large_images_are_shrunk_and_small_ones_kept():
  small = png()
  assert f"base64,{small}" in cards.grid([example(image=small)], "")
  large = cards.grid([example(image=png(300, 900))], "")
  assert 'width="448" height="149"' in large
  assert 'class="sharp"' not in large


def disk():
  """Returns the codes of a disk's mask, and the mask that is read from them."""
  y, x = np.mgrid[:64, :64] / 31.5 - 1
  codec = masks.load(masks.NANO)
  codes = masks.encode(codec, y**2 + x**2 < 0.8, [0, 0, 1, 1])
  return codes, masks.decode(codec, codes) > 0


def test_cards_draw_masks_and_do_not_fill_with_codes():
  codes, inside = disk()
  text = boxes.detect([[0, 0.25, 0.5, 1]], ["disk"], [codes])
  row = example("segment disk", text, text, image=png(), id={"codec": "nano"})
  card = cards.grid([row], "")
  truth, predicted = re.findall("<image (.*?)>", card)
  assert truth.startswith('x="0.2502" y="0" width="0.7498" height="0.5005" ')
  for drawn, color in ((truth, (0, 147, 107)), (predicted, (224, 108, 0))):
    data = base64.b64decode(re.search('base64,(.*?)"', drawn)[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] > 0, inside)
    assert tuple(pixels[32, 32, :3]) == color
  assert "seg0" not in card and card.count("&lt;seg&gt;×16") == 2
  assert " disk" in card and "0 256 512 1023" in card


def test_a_codec_that_cannot_be_had_leaves_the_boxes(tmp_path):
  text = boxes.detect([[0, 0, 1, 1]], ["disk"], [disk()[0]])
  lost = {"codec": str(tmp_path / "nowhere.npz")}
  card = cards.grid([example(truth=text, image=png(), id=lost)], "")
  assert "<image" not in card and '<rect class="true"' in card


def test_a_text_is_cut_by_what_is_shown_of_it():
  codes = disk()[0]
  text = boxes.detect([[0, 0, 1, 1]] * 3, ["disk"] * 3, [codes] * 3)
  row = example(truth=text, prediction="x" * 99 + "&", image=png())
  card = cards.grid([row], "", longest=99)
  assert card.count('<rect class="true"') == 3
  assert card.count("disk</title>") == 3 and card.count("&lt;seg&gt;×16") == 3
  assert "x" * 99 + " …" in card and "&amp;" not in card


def test_a_card_shows_the_file_that_its_row_names(tmp_path):
  Image.new("RGB", (48, 32)).save(tmp_path / "a.png")
  card = cards.grid([example(image_ref=str(tmp_path / "a.png"))], "")
  assert 'width="48" height="32"' in card and '<rect class="true"' in card
  assert "<img" not in cards.grid([example(image_ref="nowhere.png")], "")
  inside = [str(tmp_path / "a.png"), None]  # its second image is in the data
  assert "<img" not in cards.grid([example(image_ref=inside)], "")
