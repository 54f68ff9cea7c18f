"""Intervals around scores, and the comparison of two sets of them."""

import warnings

import numpy as np
import pytest

from pg.evals import interval
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import caption, choice, meteor, statistics, vqa
from tests.support import metric_golden


def answers(right, wrong):
  return statistics.means({"acc": [1.0] * right + [0.0] * wrong})


def test_a_score_comes_with_its_number_of_examples():
  made = statistics.means({"acc": [1.0, 0.0, 1.0], "acc/x": [None, 0.0, 1.0]})
  found = interval.bootstrap(made)
  assert (found["acc"].value, found["acc"].num) == (pytest.approx(2 / 3), 3)
  assert (found["acc/x"].value, found["acc/x"].num) == (0.5, 2)


def test_the_interval_of_a_mean_is_the_normal_one():
  found = interval.bootstrap(answers(700, 300), resamples=4000)["acc"]
  half = 1.96 * (0.7 * 0.3 / 1000) ** 0.5
  assert found.low == pytest.approx(0.7 - half, abs=0.003)
  assert found.high == pytest.approx(0.7 + half, abs=0.003)
  narrow = interval.bootstrap(answers(700, 300), level=0.5)["acc"]
  assert found.low < narrow.low < 0.7 < narrow.high < found.high


def test_an_interval_holds_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  held = []
  for _ in range(150):
    made = statistics.means({"acc": rng.random(150)})
    found = interval.bootstrap(made, resamples=200, level=0.8)["acc"]
    held.append(found.low <= 0.5 <= found.high)
  assert np.mean(held) == pytest.approx(0.8, abs=0.09)


def test_the_interval_of_a_few_is_wider_as_student_s_is():
  scores = np.random.default_rng(3).normal(size=8)
  found = interval.bootstrap(statistics.means({"x": scores}), resamples=9000)
  half = 2.365 * scores.std(ddof=1) / 8**0.5  # of seven degrees of freedom
  assert found["x"].high - found["x"].low == pytest.approx(2 * half, rel=0.1)
  for num, want in [(6, 2.571), (11, 2.228), (31, 2.042), (10_000, 1.960)]:
    assert interval._quantile(0.95, num) == pytest.approx(want, abs=0.03)


def test_halves_come_in_pairs_that_are_all_examples():
  found = interval.halves(7, 6, 0)
  assert sorted(found.sum(axis=1)) == [3, 3, 3, 4, 4, 4]
  assert (found[::2] + found[1::2] == 1).all()
  assert interval.halves(7, 5, 0).shape == (5, 7)
  assert (interval.halves(1, 4, 0) == 1).all()  # there are no halves of one


def test_what_halves_score_more_is_taken_off():
  assert interval.around(0.5, np.array([0.5, 0.5]), 9) == (0.5, 0.5)
  low, high = interval.around(0.5, np.array([0.5, 0.6, 0.7]), 10_000)
  assert (low + high) / 2 == pytest.approx(0.4)
  assert (high - low) / 2 == pytest.approx(1.96 * (0.05 / 3) ** 0.5, rel=1e-3)
  assert interval.around(0.9, np.array([0.2, 0.9]), 5) == (0, 1)
  assert interval.around(0.5, np.array([np.nan]), 5) == (0.5, 0.5)


def test_the_same_seed_draws_the_same():
  scores = np.random.default_rng(0).random(50)
  made = statistics.means({"acc": scores})
  assert interval.bootstrap(made) == interval.bootstrap(made)
  assert interval.bootstrap(made) != interval.bootstrap(made, seed=1)
  first = paired(scores, scores[::-1])
  assert paired(scores, scores[::-1]) == first


def test_drawing_sums_of_kinds_is_drawing_examples():
  """Equal rows are drawn together; the spread is that of drawing each."""
  rng = np.random.default_rng(0)
  rows = rng.integers(0, 3, size=(60, 2)).astype(float)
  draws = interval._draw(rows, 20_000, 0)
  index = rng.integers(60, size=(20_000, 60))
  plain = rows[index].sum(axis=1)
  np.testing.assert_allclose(draws.mean(0), plain.mean(0), rtol=0.01)
  np.testing.assert_allclose(
    np.cov(draws.T), np.cov(plain.T), rtol=0.05, atol=1
  )


def test_quotients_and_bleu_are_computed_anew_of_every_draw():
  rows, _ = metric_golden.read("captions_coco_free")
  examples = [{"answers": row["references"]} for row in rows]
  predictions = [row["candidate"] for row in rows]
  made = caption.bleu(predictions, examples)
  found = interval.bootstrap(made, resamples=400)["bleu-4"]
  rng = np.random.default_rng(0)
  plain = []
  for _ in range(400):
    drawn = rng.integers(len(rows), size=len(rows))
    plain.append(made.finish(made.sums[drawn].sum(axis=0))["bleu-4"])
  low, high = np.quantile(plain, (0.025, 0.975))
  assert found.low == pytest.approx(low, abs=0.02)
  assert found.high == pytest.approx(high, abs=0.02)
  assert found.num == 51


def test_a_group_that_some_draws_miss_still_has_an_interval():
  made = statistics.means(
    {"acc": [1.0] * 9 + [0.0], "acc/x": [None] * 9 + [0.0]}
  )
  assert interval.bootstrap(made)["acc/x"] == (0.0, 0.0, 0.0, 1, 0.95)


def test_a_score_of_no_example_is_left_out():
  made = metrics_lib.METRICS["count"](["many"], [{"suffix": "2"}])
  found = interval.bootstrap(made)
  assert found.keys() == {"accuracy", "unparsable"}


def test_every_score_of_every_metric_has_an_interval_around_it():
  rows, _ = metric_golden.read("vqa_official")
  predictions = [row["pred"] for row in rows[:200]]
  found = interval.bootstrap(vqa.vqav2(predictions, rows[:200]))
  assert found.keys() == {"acc", "acc/yesno", "acc/number", "acc/other"}
  said = ["yes", "no", "no", "yes", "no", "yes"]
  kinds = ["random", "popular"] * 3
  truths = [{"suffix": s, "question_type": k} for s, k in zip(said, kinds)]
  made = choice.pope(["yes"] * 4 + ["no"] * 2, truths)
  found |= interval.bootstrap(made)
  assert {"precision", "recall", "f1", "yes_ratio", "acc/mean"} <= found.keys()
  for name, one in found.items():
    assert one.low <= one.value <= one.high, name


# Two models.


def paired(before, after, **options):
  both = (statistics.means({"x": list(x)}) for x in (before, after))
  return interval.paired(*both, **options)["x"]


def test_equal_scores_are_no_difference():
  scores = [0.0, 1.0, 1.0]
  found = paired(scores, scores)
  assert found == (0.0, 0.0, 0.0, 1.0, 3)


def test_the_p_of_a_paired_test_is_that_of_all_signs():
  before, after = [0, 0, 0, 0, 1, 0.5], [1, 1, 1, 0, 0, 1]
  differences = np.subtract(after, before)
  signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
  sums = np.abs(differences @ signs)
  want = np.mean(sums >= differences.sum())
  found = paired(before, after, resamples=50_000)
  assert found.mean == pytest.approx(differences.mean())
  assert found.p == pytest.approx(want, abs=0.01)


def test_p_is_even_where_neither_is_better():
  rng = np.random.default_rng(0)
  ps = [
    paired(rng.random(40), rng.random(40), resamples=500).p for _ in range(150)
  ]
  assert np.mean(np.less(ps, 0.1)) == pytest.approx(0.1, abs=0.07)


def test_a_clear_difference_is_found_and_has_its_sign():
  found = paired([0.0] * 40 + [1.0] * 60, [1.0] * 100, resamples=10_000)
  assert found.mean == 0.4
  half = 1.96 * (0.4 * 0.6 / 100) ** 0.5
  assert found.low == pytest.approx(0.4 - half, abs=0.01)
  assert found.high == pytest.approx(0.4 + half, abs=0.01)
  assert found.p == pytest.approx(1e-4, rel=1e-3)  # the least there is
  assert paired([1.0] * 100, [0.0] * 100).mean == -1


def test_other_lengths_and_scores_that_are_none_are_refused():
  with pytest.raises(ValueError, match="2 and 3 scores"):
    paired([0, 1], [0, 1, 1])
  with pytest.raises(ValueError, match="0 of 0 rows .* at least one row"):
    paired([], [])
  sums = np.array([[0.0], [float("nan")]])
  made = statistics.Sums(sums, lambda s: {"x": s[..., 0]}, {"x": 2})
  with pytest.raises(ValueError, match="first is row 1"):
    interval.paired(made, made)
  with pytest.raises(ValueError, match="acc.*example 1 is nan"):
    statistics.means({"acc": [0.0, float("nan")]})


# What METEOR 1.5 prints for five captions with one reference each, and the
# scores that it gives to each of them and to all.
ALIGNED = """
6 6 3 3 0 0 3 3 1 1 0 0 1 1 0 0 0 0 0 0 3 5 5
3 3 1 1 2 2 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 3 3
3 3 1 1 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1
0 3 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
9 8 4 2 0 0 2 2 0 0 0 0 2 2 0 0 2 2 1 0 3 7 6
"""
METEOR = (
  0.27496303747892364,
  1.0,
  0.05714285714285714,
  0.0,
  0.2566210169895467,
  0.24199226583233024,
)


def test_meteor_of_sums_is_that_of_its_program(monkeypatch):
  sums = [
    [float(n) for n in line.split()] for line in ALIGNED.split("\n") if line
  ]
  monkeypatch.setattr(meteor, "alignments", lambda p, e: sums)
  made = meteor.meteor([], [])
  assert made["meteor"] == pytest.approx(METEOR[-1], abs=1e-12)
  each = made.finish(made.sums)["meteor"]
  np.testing.assert_allclose(each, METEOR[:-1], atol=1e-12)
  found = interval.bootstrap(made)["meteor"]
  assert found.low < found.value < found.high
  assert found.num == 5


def test_boxes_found_are_drawn_with_their_images():
  """Of two kinds of images: two true boxes found, or one missed."""
  whole = "<loc0000><loc0000><loc1023><loc1023>"
  texts = [f"{whole} cat ; {whole} dog", f"{whole} cat ; x"] * 40
  truths = [
    {"suffix": f"{whole} cat ; {whole} dog"},
    {"suffix": f"{whole} cow"},
  ]
  scores = metrics_lib.score("detect", texts, truths * 40)
  found = interval.bootstrap(scores)
  assert scores["iou"] == scores["recall@.5"] == pytest.approx(2 / 3)
  assert scores["unparsable"] == 0.5
  assert found.keys() == scores.keys()
  assert {one.num for one in found.values()} == {80}
  share = np.random.default_rng(0).binomial(80, 0.5, size=4000) / 80
  low, high = np.quantile(2 * share / (1 + share), (0.025, 0.975))
  assert found["iou"].low == pytest.approx(low, abs=0.02)
  assert found["iou"].high == pytest.approx(high, abs=0.02)


def test_a_score_that_is_not_a_number_has_no_interval():
  scores = statistics.means({"a": [1.0, 0.0], "b": [None, None]})
  found = interval.bootstrap(scores)
  assert scores["a"] == found["a"].value == 0.5
  assert np.isnan(scores["b"])
  assert found.keys() == {"a"}  # nothing is said of what no example has


def test_scores_without_statistics_have_no_intervals():
  assert interval.bootstrap({"a": 0.5}) == {}


@pytest.mark.parametrize(
  "name", sorted(metrics_lib.METRICS.keys() - {"meteor"})
)
def test_every_metric_of_one_example_has_scores_and_no_wrong_ends(name):
  whole = "<loc0000><loc0000><loc1023><loc1023>"
  text = whole + "<seg001>" * 16 + " cat"
  texts = {"count": "1", "pope": "yes", "pope_equal": "yes"}
  answer = text if name in ("detect", "segment") else texts.get(name, "a cat")
  example = {"answers": [answer] * 2, "suffix": answer, "language": "en"}
  example |= {"pair": 1, "question_type": "t", "issimple": 1}
  example |= {"boxes": [[0, 0, 1, 1]], "labels": ["cat"], "height": 8}
  example |= {"width": 8, "mask": np.ones((8, 8), bool)}
  several = 2 if name == "mmvp" else 1
  boxes = name in ("coco_bbox", "coco_segm", "refcoco")
  prediction = text if boxes else answer
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # CIDEr of one image
    scores = metrics_lib.score(
      name, [prediction] * several, [example] * several
    )
  found = interval.bootstrap(scores)
  assert scores and np.isfinite(list(scores.values())).all()
  left_out = set()
  if isinstance(scores, statistics.Resampled):
    left_out = interval.UNMEASURED
  assert found.keys() == scores.keys() - left_out
  for key, one in found.items():
    assert one[:3] == pytest.approx([scores[key]] * 3), key
