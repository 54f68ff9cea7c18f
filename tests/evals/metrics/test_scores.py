"""Metrics of one right answer, against the reference codes."""

import numpy as np
import pytest

from pg.evals import metrics as metrics_lib
from pg.evals.metrics import anls, choice, exact, numbers
from tests.support import metric_golden


def suffixes(*texts, **fields):
  """Returns an example for each text; fields are lists of as many values."""
  columns = [dict(zip(fields, values)) for values in zip(*fields.values())]
  columns = columns or [{}] * len(texts)
  return [{"suffix": t, **more} for t, more in zip(texts, columns)]


# ANLS.


def test_similarity_is_zero_from_half_the_letters_on():
  assert anls.similarity("abcx", "abcd") == 0.75
  assert anls.similarity("abxx", "abcd") == 0
  assert anls.similarity("abc", "abcdef") == 0
  assert anls.similarity("", "") == 1
  assert anls.similarity("", "a") == anls.similarity("a", "") == 0


def plain_distance(a, b):
  row = list(range(len(b) + 1))
  for i, x in enumerate(a):
    last, row[0] = row[0], i + 1
    for j, y in enumerate(b):
      change = last + (x != y)
      last, row[j + 1] = row[j + 1], min(change, row[j] + 1, row[j + 1] + 1)
  return row[-1]


def test_distance_is_that_of_the_plain_dynamic_program():
  rng = np.random.default_rng(0)
  for _ in range(500):
    a, b = (
      "".join(rng.choice(list("abé"), size=rng.integers(0, 90)))
      for _ in range(2)
    )
    assert anls.distance(a, b) == plain_distance(a, b)


def test_anls_is_the_reference_on_1000_answers():
  rows, summary = metric_golden.read("anls")
  assert len(rows) == 1000
  for row in rows:
    cased = max(anls.similarity(row["pred"], a) for a in row["answers"])
    assert cased == pytest.approx(row["bv"])
  scores = metrics_lib.METRICS["anls"]([row["pred"] for row in rows], rows)
  assert scores.each == pytest.approx([row["bv_lower"] for row in rows])
  assert scores["anls"] == pytest.approx(summary["bv_lower"])


# ChartQA.


@pytest.mark.parametrize(
  "target, prediction, want",
  [
    ("100", "95", True),
    ("100", "94.9", False),
    ("-100", "-105", True),
    ("100%", "0.96", True),
    ("100%", "96", False),
    ("0", "0.0", False),
    ("0", "0", True),
    ("2010", "2019", True),  # years are numbers like others
    ("1,000", "1000", False),
    ("1e3", "1_000", True),
    ("nan", "nan", False),
    ("red", "red", True),
    ("10", "ten", False),
    ("", "", True),
  ],
)
def test_relaxed_accuracy_lets_numbers_be_five_percent_off(
  target, prediction, want
):
  assert numbers.matches(target, prediction) == want


def test_relaxed_accuracy_is_the_reference_on_500_answers():
  rows, summary = metric_golden.read("chartqa_relaxed")
  for row in rows:
    same = numbers.matches(row["target"], row["pred"])
    assert same == row["relaxed"]
  scores = metrics_lib.METRICS["relaxed"](
    [row["pred"] for row in rows], suffixes(*(row["target"] for row in rows))
  )
  assert scores.each == [row["relaxed_lower"] for row in rows]
  assert scores == {
    "relaxed": pytest.approx(summary["bv_lower"]["relaxed_acc"]),
    "exact": pytest.approx(summary["bv_lower"]["acc"]),
  }


def test_chartqa_is_the_mean_of_human_and_augmented():
  kinds = ["human", "augmented", "augmented", "augmented"]
  examples = suffixes("10", "10", "10", "10", question_type=kinds)
  scores = metrics_lib.METRICS["relaxed"](["3", "10", "10", "3"], examples)
  assert scores["relaxed"] == 0.5
  assert scores["relaxed/human"] == 0
  assert scores["relaxed/augmented"] == pytest.approx(2 / 3)
  assert scores["relaxed/mean"] == pytest.approx(1 / 3)


# POPE and MMVP.


def test_pope_is_the_official_score_and_that_of_big_vision():
  parts, _ = metric_golden.read("pope")
  predictions, examples, accuracies = [], [], []
  for part in parts:
    said = [e["answer"] for e in part["examples"]]
    mapped = [e["official_mapped"] for e in part["examples"]]
    assert [choice.yes_or_no(text) for text in said] == mapped
    truths = suffixes(*(e["label"] for e in part["examples"]))
    scores = metrics_lib.METRICS["pope"](said, truths)
    for name, score in scores.items():
      assert score == pytest.approx(part["official"][name])
    assert metrics_lib.METRICS["pope_equal"](said, truths) == {
      "acc": pytest.approx(part["bv"]["acc"]),
      "valid": pytest.approx(part["bv"]["valid_percent"]),
    }
    predictions += said
    examples += [e | {"question_type": part["name"]} for e in truths]
    accuracies.append(part["official"]["acc"])
  scores = metrics_lib.METRICS["pope"](predictions, examples)
  assert scores["acc/mean"] == pytest.approx(sum(accuracies) / 3)
  assert scores["acc/popular"] == pytest.approx(accuracies[1])


def test_pope_without_any_yes_has_no_f1_but_a_number():
  scores = metrics_lib.METRICS["pope"](["no", "no"], suffixes("no", "no"))
  assert scores["acc"] == 1
  assert scores["precision"] == scores["recall"] == scores["f1"] == 0


def test_pope_refuses_other_true_answers():
  with pytest.raises(ValueError, match=r"example 1: .*\['maybe'\]"):
    metrics_lib.METRICS["pope"](["yes", "no"], suffixes("yes", "maybe"))


def test_mmvp_counts_a_pair_where_both_answers_are_right():
  examples = suffixes("(a)", "(b)", "(a)", "(b)", pair=[0, 0, 1, 1])
  scores = metrics_lib.METRICS["mmvp"](["(a)", "(b)", "(A)", "(a)"], examples)
  assert scores == {"acc": 0.75, "acc/pairs": 0.5}
  with pytest.raises(ValueError, match="pair 1 has 1 examples; wanted 2"):
    metrics_lib.METRICS["mmvp"](["(a)"] * 3, examples[:3])


def test_nlvr2_is_consistent_where_all_examples_of_a_sentence_are_right():
  examples = suffixes("True", "False", "True", pair=["s", "s", "t"])
  made = choice.nlvr2(["true", "True", "TRUE"], examples)
  assert made.num == {"acc": 3, "consistency": 2}
  scores = metrics_lib.METRICS["nlvr2"](["true", "True", "TRUE"], examples)
  assert scores == {"acc": pytest.approx(2 / 3), "consistency": 0.5}
  with pytest.raises(ValueError, match='"pair"'):
    metrics_lib.METRICS["nlvr2"](["True"], suffixes("True"))


# TallyQA, ScienceQA, RSVQA.


def test_tallyqa_is_the_reference():
  rows, summary = metric_golden.read("tallyqa")
  for row in rows:
    assert numbers.digits(row["pred"]) == row["parsed"]
  examples = suffixes(
    *(row["answer"] for row in rows), issimple=[r["issimple"] for r in rows]
  )
  made = metrics_lib.METRICS["tallyqa"]([row["pred"] for row in rows], examples)
  scores = metrics_lib.METRICS["tallyqa"](
    [row["pred"] for row in rows], examples
  )
  want = {k: v for k, v in summary.items() if k.startswith("acc")}
  assert scores == {k: pytest.approx(v) for k, v in want.items()}
  assert made.num["acc/simple"] == summary["num/simple"]


def test_tallyqa_knows_any_count():
  truths = suffixes("16", "100", "20")
  scores = metrics_lib.METRICS["tallyqa"](["16", "99", "Twenty"], truths)
  assert scores["acc"] == pytest.approx(2 / 3)
  assert scores["acc/count_100"] == 0
  assert scores["acc/count_20"] == 1


def test_scienceqa_is_the_reference():
  rows, summary = metric_golden.read("scienceqa")
  for row in rows:
    assert (choice.letter(row["pred"]) or "failed") == row["bv_parse"]
  scores = metrics_lib.METRICS["scienceqa"](
    [row["pred"] for row in rows], suffixes(*(row["answer"] for row in rows))
  )
  assert scores["acc"] == pytest.approx(summary["acc"])
  assert scores["parsefail"] == pytest.approx(summary["parsefail"])


def test_rsvqa_is_the_reference_by_type_and_in_the_mean():
  parts, _ = metric_golden.read("rsvqa")
  for first, lower in zip(parts[::2], parts[1::2]):
    rows, want = first["examples"], lower["expected"]
    scores = metrics_lib.METRICS["rsvqa"]([row["pred"] for row in rows], rows)
    assert scores["acc"] == pytest.approx(want["acc_any"])
    assert scores["acc/mean"] == pytest.approx(want["acc_avg"])
    types = {row["question_type"] for row in rows}
    for kind in types:
      assert scores[f"acc/{kind}"] == pytest.approx(want[f"acc_{kind}"])
    # Not the reference's number for rsvqa_lr, whose last type is forgotten.
    words = [want[f"acc_{kind}"] for kind in types - {"count", "area"}]
    mean = sum(words) / len(words)
    assert scores["acc/mean_nonum"] == pytest.approx(mean)


# Exact match and languages.


def test_exact_match_without_case():
  assert exact.equal_lower(" Cat", {"answers": ["dog", "cAT"]}) == 1
  truths = suffixes("Cat", "dog", "ox")
  scores = metrics_lib.METRICS["exact_lower"](["cat", "DOG", "cow"], truths)
  assert scores == {"exact": pytest.approx(2 / 3)}


def test_languages_count_alike_with_and_without_english():
  languages = ["en", "de", "de", "de", "de", "ta"]
  examples = suffixes(*"aaaaaa", language=languages)
  made = metrics_lib.METRICS["exact_languages"](list("aabbbb"), examples)
  scores = metrics_lib.METRICS["exact_languages"](list("aabbbb"), examples)
  assert scores == {
    "exact/en": 1,
    "exact/de": 0.25,
    "exact/ta": 0,
    "exact/mean": pytest.approx(1.25 / 3),
    "exact/mean_no_en": pytest.approx(0.25 / 2),
  }
  assert made.num["exact/de"] == 4
  assert made.num["exact/mean"] == 6
  assert made.num["exact/mean_no_en"] == 5


def test_without_english_there_is_one_mean():
  examples = suffixes("a", "a", language=["de", "ta"])
  scores = metrics_lib.METRICS["exact_languages"](["a", "b"], examples)
  assert scores.keys() == {"exact/de", "exact/ta", "exact/mean"}


def test_a_bad_row_is_named_with_its_language():
  examples = [{"suffix": "a", "language": "de"}, {"language": "ta"}]
  with pytest.raises(ValueError, match="language 'ta': example 0: .*answers"):
    metrics_lib.METRICS["exact_languages"](["a", "b"], examples)
