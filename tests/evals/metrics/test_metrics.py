"""Metrics against numbers computed by hand, and the blind baseline."""

import math

import numpy as np
import pytest

from pg.evals import blind
from pg.evals import metrics as metrics_lib
from pg.evals.metrics import exact

# Locations that are round fractions: 341/1023 = 1/3, 682/1023 = 2/3.
LEFT_THIRD = "<loc0000><loc0000><loc1023><loc0341>"
LEFT_TWO_THIRDS = "<loc0000><loc0000><loc1023><loc0682>"
WHOLE = "<loc0000><loc0000><loc1023><loc1023>"


def suffixes(*texts):
  return [{"suffix": text} for text in texts]


count = metrics_lib.METRICS["count"]


def overlap(prediction, truth):
  """Returns the score that detect gives to one example."""
  other = {"suffix": f"{WHOLE} other"}  # one without objects has no mean
  return metrics_lib.METRICS["detect"]([prediction, ""], [truth, other]).each[0]


def test_exact_is_the_share_of_equal_texts():
  score = metrics_lib.METRICS["exact"](
    ["cat", "dog", "cow"], suffixes("cat", "dog", "ox")
  )
  assert score == {"exact": pytest.approx(2 / 3)}


def test_exact_minds_case_and_not_outer_white_space():
  assert exact.equal(" cat\n", {"suffix": "cat "}) == 1.0
  assert exact.equal("Cat", {"suffix": "cat"}) == 0.0
  assert exact.equal("black  cat", {"suffix": "black cat"}) == 0.0


def test_exact_accepts_any_of_several_answers_instead_of_the_suffix():
  example = {"answers": ["cat", "kitten"], "suffix": "dog"}
  assert exact.equal("kitten", example) == 1.0
  assert exact.equal("dog", example) == 0.0
  for none in ([], None):
    assert exact.equal("dog", {"answers": none, "suffix": "dog"}) == 1.0


def test_answers_that_are_missing_or_one_text_are_refused():
  with pytest.raises(ValueError, match=r"\['image'\]"):
    exact.equal("cat", {"image": b""})
  with pytest.raises(ValueError, match="wanted a list"):
    exact.equal("c", {"answers": "cat"})


def test_count_gives_accuracy_mean_error_and_share_unparsable():
  predictions = ["3", "5", "many", "2.5"]
  score = count(predictions, suffixes("3", "4", "2", "4"))
  # Errors 0, 1 and 1.5 of the three numbers.
  assert score == {
    "accuracy": 0.25,
    "mae": pytest.approx(2.5 / 3),
    "unparsable": 0.25,
  }


def test_count_reads_only_plain_numbers():
  texts = ["nan", "inf", "1e3", "1_0", "3 cats", "", "three"]
  assert count(texts, suffixes(*"1" * len(texts)))["unparsable"] == 1.0
  assert count([" +3 ", "-1"], suffixes("3", "-1"))["accuracy"] == 1.0


def test_count_without_any_number_has_no_mean_error():
  assert math.isnan(count(["many"], suffixes("2"))["mae"])


def test_count_takes_the_nearest_of_several_answers():
  example = {"answers": ["2", "5"]}
  assert count(["4"], [example])["mae"] == 1.0
  assert count(["5"], [example]).each == [1.0]
  assert count(["5 or so"], [example]).each == [0.0]


def test_count_refuses_true_answers_that_are_words():
  with pytest.raises(ValueError, match='"exact"'):
    count(["2"], suffixes("two"))


score_detect = metrics_lib.METRICS["detect"]


def test_detect_is_the_overlap_of_one_box():
  score = score_detect([f"{LEFT_TWO_THIRDS} cat"], suffixes(f"{WHOLE} cat"))
  assert score == {
    "iou": pytest.approx(2 / 3),
    "recall@.5": 1.0,
    "precision@.5": 1.0,
    "unparsable": 0.0,
  }


def test_detect_pools_boxes_and_counts_missed_ones_as_zero():
  predictions = [f"{LEFT_THIRD} cat", "nothing here", f"{WHOLE} cat"]
  truths = suffixes(
    f"{LEFT_TWO_THIRDS} cat ; {WHOLE} dog", f"{WHOLE} cat", f"{WHOLE} cat"
  )
  score = score_detect(predictions, truths)
  # Of four true boxes: 1/2, missed, missed, 1.
  assert score["iou"] == pytest.approx(1.5 / 4)
  assert score["recall@.5"] == 2 / 4
  assert score["precision@.5"] == 2 / 2
  assert score["unparsable"] == pytest.approx(1 / 3)


def test_detect_matches_only_boxes_of_the_same_label():
  assert overlap(f"{WHOLE} dog", {"suffix": f"{WHOLE} cat"}) == 0.0


def test_detect_gives_each_box_one_partner_best_pair_first():
  truth = {"suffix": f"{LEFT_TWO_THIRDS} cat ; {LEFT_THIRD} cat"}
  # The whole overlaps the two by 2/3 and 1/3, the two thirds by 1 and 1/2: the
  # pair with 1 is taken, and leaves the whole to the third.
  prediction = f"{WHOLE} cat ; {LEFT_TWO_THIRDS} cat"
  assert overlap(prediction, truth) == pytest.approx((1 + 1 / 3) / 2)
  # One prediction cannot serve two true boxes.
  twice = {"suffix": f"{WHOLE} cat ; {WHOLE} cat"}
  assert overlap(f"{WHOLE} cat", twice) == 0.5


def test_writing_many_boxes_costs_precision():
  many = f"{WHOLE} cat ; {LEFT_THIRD} cat ; {LEFT_THIRD} dog ; {WHOLE} cow"
  score = score_detect([many], suffixes(f"{WHOLE} cat"))
  assert score["recall@.5"] == 1.0
  assert score["precision@.5"] == 0.25


def test_an_image_without_true_boxes_wants_none():
  assert overlap("", {"suffix": ""}) == 1.0
  assert overlap(f"{WHOLE} cat", {"suffix": ""}) == 0.0
  with pytest.raises(ValueError, match="none of the 1 examples"):
    score_detect([""], suffixes(""))


def test_detect_refuses_a_truth_that_does_not_parse():
  with pytest.raises(ValueError, match="'<loc0001> cat'"):
    score_detect([""], suffixes("<loc0001> cat"))
  with pytest.raises(ValueError, match="suffix"):
    score_detect([""], [{"answers": ["cat"]}])


@pytest.mark.parametrize("name", metrics_lib.METRICS)
def test_every_metric_refuses_unequal_or_empty_lists(name):
  with pytest.raises(ValueError, match="2 predictions for 1 examples"):
    metrics_lib.METRICS[name](["1", "2"], suffixes("1"))
  with pytest.raises(ValueError, match="at least one"):
    metrics_lib.METRICS[name]([], [])


@pytest.mark.parametrize(
  "name, metric", [("exact", "exact"), ("count", "accuracy"), ("detect", "iou")]
)
def test_the_mean_over_examples_is_the_score(name, metric):
  truths = suffixes("1", "2") if name != "detect" else suffixes(WHOLE, WHOLE)
  texts = ["1", "3"] if name != "detect" else [LEFT_THIRD, WHOLE]
  scores = metrics_lib.METRICS[name](texts, truths)
  assert 0 < sum(scores.each) < 2
  assert sum(scores.each) / 2 == pytest.approx(scores[metric])


PAIRS = [
  ("how many dots?", "2"),
  ("how many dots?", "3"),
  ("how many dots?", "3"),
  ("how many red dots?", "1"),
  ("how large?", "very"),
  ("how large?", "very"),
  ("how large?", "very"),
  ("what color?", "red"),
]


@pytest.mark.parametrize(
  "prefix, answer",
  [
    ("how many dots?", "3"),  # known
    ("how many red dots?", "1"),
    ("how many red stars?", "1"),  # begins with "how many red"
    ("how many stars?", "3"),  # "how many": 3 twice
    ("how come?", "very"),  # "how": very three times
    ("where?", "very"),  # of all
    ("", "very"),
  ],
)
def test_blind_backs_off_to_prompts_with_the_longest_common_start(
  prefix, answer
):
  assert blind.Majority(PAIRS).predict([prefix]) == [answer]


def test_blind_tells_a_prompt_from_the_beginning_of_a_longer_one():
  pairs = [("caption", "a"), ("caption en", "b"), ("caption en", "b")]
  model = blind.Majority(pairs)
  assert model.predict(["caption", "caption en", "caption de"]) == [
    "a",
    "b",
    "b",
  ]


def test_blind_breaks_ties_the_same_way_in_any_order():
  pairs = [("q", "b"), ("q", "a"), ("q", "c")]
  for order in (pairs, pairs[::-1]):
    assert blind.Majority(order).predict(["q"]) == ["a"]


def test_blind_needs_training_pairs():
  with pytest.raises(ValueError, match="at least one"):
    blind.Majority([])


# Any text.

SLOW = pytest.mark.slow
BOXES = ("coco_bbox", "coco_segm", "detect", "refcoco", "segment")
TEXTS = [name for name in metrics_lib.METRICS if name not in BOXES]
ANY = [name for name in TEXTS if name not in ("count", "meteor")]
PIECES = (
  "cat the a no Yes not None two 3 1,000 3.5% 0 nan inf -1 1e400 U.S. don't 's"
  " ; / , . .. ... ! ? ( [ { < > @ # & &amp; -- - _ * \\ \" ' `` “ ’ <loc0001>"
  " <seg001> \n \t \r \u2028 \xa0 \xad \u200b é ß İ 猫 ี \U0001f642 \x00 \ud800"
  " ㏂ ½ The_answer_is_B. http://x.y/z a@b.c Mr. No."
).split(" ")


def random_texts(n, seed):
  rng = np.random.default_rng(seed)
  for _ in range(n):
    pieces = rng.choice(PIECES, size=rng.integers(0, 8))
    yield rng.choice(["", " "]).join(pieces).replace("_", " ")


def truths_of(name, texts):
  """Returns examples as a metric wants them with any texts as answers."""
  fields = {"pair": "p", "question_type": "t", "language": "en"}
  for i, text in enumerate(texts):
    fields |= {"pair": i // 2, "issimple": i % 2, "answer_type": i % 3}
    if name.startswith("pope"):
      yield {"suffix": ["yes", "no"][i % 2]} | fields
    else:
      yield {"answers": [text, "cat", text[::-1]]} | fields


@pytest.mark.parametrize("n", [400, pytest.param(10_000, marks=SLOW)])
@pytest.mark.parametrize("name", ANY)
def test_any_text_has_a_score(name, n):
  """Texts both as predictions and as truths, through every metric.

  The number of examples stays, and scores are numbers within their bounds.
  """
  if name == "tallyqa":  # which has a score for each answer there is
    n = min(n, 2000)
  predictions = list(random_texts(n, seed=len(name)))
  examples = list(truths_of(name, random_texts(n, seed=99)))
  made = metrics_lib.METRICS[name](predictions, examples)
  for score, value in metrics_lib.METRICS[name](predictions, examples).items():
    assert 0 <= value <= (10 if "cider" in score else 1), score
    assert 0 < made.num[score] <= n
  right = [e.get("suffix") or e["answers"][0] for e in examples]
  for score, value in metrics_lib.METRICS[name](right, examples).items():
    assert 0 <= value <= (10 if "cider" in score else 1), score


@pytest.mark.parametrize("name", TEXTS)
def test_a_prediction_or_an_answer_that_is_no_text_is_named(name):
  examples = [{"answers": ["1"], "pair": 0, "language": "en"}] * 2
  with pytest.raises(ValueError, match="prediction 1 is None.*text"):
    metrics_lib.METRICS[name](["1", None], examples)
  bad = {"answers": [7], "pair": 0, "language": "en", "question_type": "t"}
  with pytest.raises(ValueError, match="example 0.*(7 is no text|1 answer)"):
    metrics_lib.METRICS[name](["1", "1"], [bad, bad])
  with pytest.raises(ValueError, match="example 0.*answers"):
    metrics_lib.METRICS[name](["1", "1"], [{"language": "en", "pair": 0}] * 2)


# Captions are scored as a set: an image has no score of its own.
SETS = ("bleu", "captions", "cider", "cider_languages", "rouge")


@pytest.mark.parametrize("name", ANY)
def test_scores_of_examples_are_what_the_first_mean_is_of(name):
  predictions = list(random_texts(60, seed=1))
  examples = list(truths_of(name, random_texts(60, seed=1)))
  scores = metrics_lib.METRICS[name](predictions, examples)
  if name in SETS:
    assert scores.each is None
  else:
    assert {type(score) for score in scores.each} == {float}
    first = next(iter(scores.values()))
    assert first == pytest.approx(np.mean(scores.each))


def test_scores_of_examples_keep_their_order_among_languages():
  examples = [{"suffix": "a", "language": x} for x in ("en", "de", "en", "de")]
  scores = metrics_lib.score("exact_languages", list("abba"), examples)
  assert scores.each == [1, 0, 0, 1]


# A metric of one's own.


def test_a_function_that_returns_a_dict_is_a_metric(monkeypatch):
  shares = lambda p, e: {"short": np.mean([len(text) < 2 for text in p])}
  monkeypatch.setitem(metrics_lib.METRICS, "short", shares)
  scores = metrics_lib.score("short", ["x", "yes"], [{}, {}])
  assert scores == {"short": 0.5} and type(scores["short"]) is float


@pytest.mark.parametrize("found", [0.5, None, {"short": "x"}, {"short": None}])
def test_a_metric_that_returns_no_numbers_is_named(monkeypatch, found):
  monkeypatch.setitem(metrics_lib.METRICS, "short", lambda p, e: found)
  with pytest.raises(ValueError, match='the metric "short" returned .*dict'):
    metrics_lib.score("short", ["x"], [{}])


def test_an_unknown_metric_names_the_nearest():
  with pytest.raises(ValueError, match='did you mean "vqav2"'):
    metrics_lib.score("vqa2", ["x"], [{}])
