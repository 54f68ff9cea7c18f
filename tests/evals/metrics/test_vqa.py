"""Accuracy of answers that several people gave, against the reference codes."""

import pytest

from pg.evals import metrics as metrics_lib
from pg.evals.metrics import vqa
from tests.support import metric_golden


def ten(*answers):
  """Returns ten answers: those given, and others that nobody repeats."""
  return [*answers, *(f"other{i}" for i in range(10 - len(answers)))]


@pytest.mark.parametrize(
  "matches, want", [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)]
)
def test_vqa_accuracy_leaves_each_person_out_in_turn(matches, want):
  answers = ten(*["cat"] * matches)
  assert vqa.accuracy("cat", answers) == pytest.approx(want)


def test_annotations_without_ids_are_left_out_together():
  answers = ten("cat", "cat", "cat")
  assert vqa.accuracy("cat", answers, distinct=False) == pytest.approx(0.7)
  assert vqa.accuracy("cat", ["cat"] * 10, distinct=False) == 0


def test_answers_are_normalized_only_where_they_differ():
  assert vqa.accuracy("the cat", ["cat"] * 10) == 0
  assert vqa.accuracy("the cat", [*["cat"] * 9, "dog"]) == 1
  # White space is no difference.
  assert vqa.accuracy("a dog", [*["dog"] * 9, "dog\n"]) == 0
  assert vqa.accuracy(" a\tdog ", ["a dog"] * 10) == 1


@pytest.mark.parametrize(
  "text, want",
  [
    ("Two dogs, and a cat!", "2 dogs and cat"),
    ("none", "0"),
    ("dont", "don't"),
    ("shed've somebody'd", "she'd've somebodyd"),
    ("Im", "im"),  # the official entry is never met
    ("red/blue", "red blue"),
    ("red /blue", "red blue"),
    ("e-mail", "e mail"),
    ("- e-mail", "email"),  # touches a space once: removed everywhere
    ("1,000 (red/blue)", "1000 redblue"),  # a comma in a number removes all
    ("3.5 mr. x", "3.5 mr x"),
    (".5", ".5"),
    ("the a an", ""),
  ],
)
def test_normalization_has_the_official_peculiarities(text, want):
  assert vqa.normalize(text) == want


def test_only_the_first_32_full_stops_are_removed():
  assert vqa.normalize("x. " * 40) == " ".join(["x"] * 32 + ["x."] * 8)


def test_textvqa_drops_commas_and_splits_possessives_first():
  assert vqa.normalize_textvqa("Joe's, 1,000?") == "joe 's 1000"


def test_textvqa_always_normalizes():
  assert vqa.accuracy_textvqa("The Cat", ["cat"] * 10) == 1


def test_vqa_accuracy_is_the_official_one_on_2000_questions():
  rows, _ = metric_golden.read("vqa_official")
  assert len(rows) == 2000
  for row in rows:
    pred, answers = row["pred"], row["answers"]
    assert vqa.accuracy(pred, answers) == pytest.approx(row["acc"], abs=1e-9)
    alone = vqa.accuracy(pred, answers, distinct=False)
    assert alone == pytest.approx(row["acc_without_answer_id"], abs=1e-9)
    assert vqa.normalize(vqa.strip(pred)) == row["pred_normalized"]
    if len({vqa.strip(a) for a in answers}) > 1:
      normalized = [vqa.normalize(vqa.strip(a)) for a in answers]
      assert normalized == row["answers_scored"]


def test_vqa_accuracy_by_answer_type_is_the_official_one():
  rows, summary = metric_golden.read("vqa_official")
  scores = metrics_lib.METRICS["vqav2"]([row["pred"] for row in rows], rows)
  want = summary["big_vision_vqav2"]
  assert scores.keys() == {"acc", "acc/yesno", "acc/number", "acc/other"}
  for name, score in scores.items():
    assert score == pytest.approx(want[name], abs=1e-6)
  num = metrics_lib.METRICS["vqav2"]([row["pred"] for row in rows], rows).num
  assert num["acc"] == 2000
  assert num["acc/number"] == want["num/number"]


def test_vizwiz_is_the_official_code_on_annotations_without_ids():
  rows, _ = metric_golden.read("vqa_official")
  score = metrics_lib.METRICS["vizwiz"]([row["pred"] for row in rows], rows)[
    "acc"
  ]
  want = sum(row["acc_without_answer_id"] for row in rows) / len(rows)
  assert score == pytest.approx(want, abs=1e-9)


def test_textvqa_accuracy_is_the_official_one_on_2000_questions():
  questions = {
    r["question_id"]: r for r in metric_golden.read("vqa_official")[0]
  }
  rows, summary = metric_golden.read("textvqa_m4c")
  examples = [questions[row["question_id"]] for row in rows]
  for row, example in zip(rows, examples):
    assert vqa.normalize_textvqa(example["pred"]) == row["pred_normalized"]
    score = vqa.accuracy_textvqa(example["pred"], example["answers"])
    assert score == pytest.approx(row["acc"], abs=1e-9)
  score = metrics_lib.METRICS["textvqa"](
    [e["pred"] for e in examples], examples
  )
  assert score == {"acc": pytest.approx(summary["acc"], abs=1e-9)}


def test_soft_accuracy_is_the_reference_with_and_without_case():
  rows, summary = metric_golden.read("okvqa_soft")
  predictions = [row["pred"] for row in rows]
  each = metrics_lib.METRICS["soft"](predictions, rows).each
  assert each == pytest.approx([row["acc"] for row in rows])
  for metric, reference in (("soft", "bv"), ("soft_lower", "bv_lower")):
    scores = metrics_lib.METRICS[metric](predictions, rows)
    assert scores["acc"] == pytest.approx(summary[reference]["acc"])
    assert scores["acc_any"] == pytest.approx(summary[reference]["acc_any"])


def test_one_answer_cannot_be_left_out():
  for metric in ("vqav2", "textvqa", "vizwiz"):
    with pytest.raises(ValueError, match="example 0: got 1 answer.*two"):
      metrics_lib.METRICS[metric](["cat"], [{"answers": ["cat"]}])


def test_an_answer_type_is_given_by_all_or_none():
  examples = [{"answers": ["a", "b"], "answer_type": "other"}] * 2
  with pytest.raises(ValueError, match="1 of 3 examples.*example 2"):
    metrics_lib.METRICS["vqav2"]("abc", [*examples, {"answers": ["a", "b"]}])
