"""Text ops write what was published; choices are fair, complete, repeatable."""

import collections
import itertools

import numpy as np
import pytest

from pg import pp
from pg.codecs import tokenizer
from pg.data import prefix_lm
from pg.pp import parse

TOK = tokenizer.Tokenizer(tokenizer.NANO)


def apply(string, turn=None, **example):
  return parse.build(string)(example, turn or pp.Turn())


def turns(num, **kw):
  return [pp.Turn(row=i, **kw) for i in range(num)]


# What was published, character by character.

OPTIONS = "join('choices', ' \\t ', out='options') | "
CHOOSE = OPTIONS + (
  "fmt('answer en  {question} choose from: {options}', out='prefix')"
)
PUBLISHED = [
  ("fmt('caption en', out='prefix')", "caption en"),
  ("fmt('caption {language}', out='prefix')", "caption de"),
  ("fmt('answer en {question}', out='prefix')", "answer en Which is a solid?"),
  ("fmt('{question}', out='prefix')", "Which is a solid?"),
  ("fmt('question en {word}', out='prefix')", "question en rock"),
  (CHOOSE, "answer en  Which is a solid? choose from: milk \t rock"),
  ("ocr('choices')", "ocr"),
  (
    "science_qa()",
    "Question: Which is a solid?\nContext: N/A\n"
    "Options: (A) milk, (B) rock\nAnswer:",
  ),
  (
    "science_qa('CQM')",
    "Context: N/A\nQuestion: Which is a solid?\n"
    "Options: (A) milk, (B) rock\nAnswer:",
  ),
  (
    "science_qa('QM')",
    "Question: Which is a solid?\nOptions: (A) milk, (B) rock\nAnswer:",
  ),
  (
    "science_qa('simple')",
    "Which is a solid?\nOptions: (A) milk, (B) rock",
  ),
]
ROW = dict(
  question="Which is a solid?",
  language="de",
  word="rock",
  choices=["milk", "rock"],
  answer=1,
  hint="",
  lecture="Solids keep their shape.",
  solution="A rock does.",
)


@pytest.mark.parametrize(("string", "prefix"), PUBLISHED)
def test_prompts_equal_the_published_ones(string, prefix):
  assert apply(string, **ROW)["prefix"] == prefix


@pytest.mark.parametrize(
  ("form", "suffix"),
  [
    ("simple", "B"),
    ("A", "The answer is B."),
    ("AL", "The answer is B. BECAUSE: A rock does."),
    ("AE", "The answer is B. BECAUSE: Solids keep their shape."),
    (
      "ALE",
      "The answer is B. BECAUSE: Solids keep their shape. A rock does.",
    ),
  ],
)
def test_science_answers_equal_the_published_ones(form, suffix):
  assert apply(f"science_qa(answer='{form}')", **ROW)["suffix"] == suffix


def test_science_qa_writes_a_hint_and_needs_only_what_its_form_has():
  row = {k: ROW[k] for k in ("question", "choices", "answer")}
  prefix = apply("science_qa()", hint="Look {up}.", **row)["prefix"]
  assert "\nContext: Look {up}.\n" in prefix
  assert apply("science_qa('QM')", **row)["suffix"] == "The answer is B."
  with pytest.raises(ValueError, match='unknown key of the example "hint"'):
    apply("science_qa()", **row)
  with pytest.raises(ValueError, match='unknown key of the example "lecture"'):
    apply("science_qa('QM', 'AE')", **row)
  with pytest.raises(ValueError, match="'choices' should be 1 to 26, got 27"):
    apply("science_qa()", **{**ROW, "choices": ["x"] * 27})
  with pytest.raises(ValueError, match="'QCX' is not allowed"):
    parse.build("science_qa('QCX')")


# Texts.


def test_fmt_fills_keys_with_texts_and_numbers():
  example = dict(q="how many?", n=3, m=np.int64(4))
  out = apply("fmt('answer en {q} {n} {m} {{}}', out='prefix')", **example)
  assert out["prefix"] == "answer en how many? 3 4 {}"


@pytest.mark.parametrize(
  ("template", "message"),
  [
    ("{quesion}", 'did you mean "question"'),
    ("{}", 'unknown key of the example ""'),
    ("{question.upper}", "unknown key"),
    ("{question", "expected '}'"),
    ("question}", "Single '}'"),
    ("{question:>9}", "write plain {question}"),
    ("{question!r}", "write plain {question}"),
    ("{answers}", "text or a number, but is list"),
    ("{image}", "text or a number, but is bytes"),
  ],
)
def test_fmt_refuses_what_it_cannot_fill(template, message):
  example = dict(question="q", answers=["a"], image=b"")
  with pytest.raises(ValueError, match=message):
    apply(f"fmt('{template}', out='x')", **example)


@pytest.mark.parametrize(
  ("string", "before", "after"),
  [
    ("lower('x')", "Ein Haus", "ein haus"),
    ("lower('x')", ["A", "B"], ["a", "b"]),
    ("lower('x')", np.array(["A", "B"]), ["a", "b"]),
    ("strip('x')", " a b\n", "a b"),
    ("strip('x')", ["a ", "\tb"], ["a", "b"]),
    ("replace('x', '[0-9]+', 'n')", "a 12 b 3", "a n b n"),
    ("replace('x', '(.)/(.)', r'\\2/\\1')", ["a/b"], ["b/a"]),
    ("join('x', ', ', out='x')", ["a", 2, "c"], "a, 2, c"),
    ("join('x', ', ', out='x')", [], ""),
    ("first_sentence('x')", "One. Two.", "One."),
  ],
)
def test_an_op_changes_a_text_or_each_of_a_list(string, before, after):
  assert apply(string, x=before)["x"] == after


@pytest.mark.parametrize(
  ("text", "first"),
  [
    ("Loss at 3.5 steps, see e.g. Fig. 2. Then more.", None),
    ("J. Doe et al. show it! Really? Yes.", "J. Doe et al. show it!"),
    ('He said "no." Then left.', 'He said "no."'),
    ("No end", "No end"),
    (" loss against steps . ", "loss against steps ."),
    ("一つ。二つ。", "一つ。"),
    ("", ""),
  ],
)
def test_a_first_sentence_ends_at_no_abbreviation(text, first):
  first = "Loss at 3.5 steps, see e.g. Fig. 2." if first is None else first
  assert apply("first_sentence('x')", x=text)["x"] == first


def test_a_regex_that_is_none_is_a_value_error():
  for string in ("replace('x', '(', '')", r"replace('x', 'a', '\\2')"):
    with pytest.raises(ValueError, match="pattern '.*' by"):
      apply(string, x="a")


@pytest.mark.parametrize(
  ("string", "bad", "message"),
  [
    ("lower('x')", 3, "'x' should be text, but is int"),
    ("lower('x')", ["a", b"b"], "'x'.* item 1 is bytes"),
    ("strip('x')", None, "'x' should be text, but is NoneType"),
    ("join('x', '', out='y')", "abc", "'x' should be a list, but is str"),
    ("join('x', '', out='y')", [None], "item 0 of 'x' should be text"),
    ("first_sentence('x')", ["a"], "'x' should be text, but is list"),
    ("majority('x', out='y')", [1, 2], "'x'.* item 0 is int"),
    ("choice('x', out='y')", [], "'x' should be a list of at least one"),
    ("choice('x', out='y')", "text", "'x' should be a list, but is str"),
    ("cycle('x', out='y')", [], "'x' should be a list of at least one"),
    ("cycle('x', out='y')", {}, "'x' should be a list, but is dict"),
    ("pick('x', 'x', out='y')", [1], "'x' should be a place.*is list"),
    ("pick('x', 2, out='y')", ["a", "b"], "2 is 2, and the list has 2 items"),
    ("pick(['a'], 'x', out='y')", -1, "'x' is -1, and the list has 1 items"),
    ("pick(['a'], 'x', out='y')", 0.0, "'x' should be a place.*is float"),
    ("ocr('x')", ["a", 1], "'x'.* item 1 is int"),
    ("rename('y', out='z')", 0, 'unknown key of the example "y"'),
    ("drop(['x', 'y'])", 0, 'unknown key of the example "y"'),
    ("gather(['x', 'y'], 'z')", 0, 'unknown key of the example "y"'),
    ("keep_if('y', 1)", 0, 'unknown key of the example "y"'),
    ("keep_if('x', 1)", [1], "'x' should be text or a number, but is list"),
  ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_key(
  string, bad, message
):
  with pytest.raises(ValueError, match=message):
    apply(string, x=bad)


@pytest.mark.parametrize(
  "string",
  ["lower(['x'])", "choice(3, out='x')", "pick('x', 0.5, out='y')", "ocr(x=1)"]
  + ["drop(None)", "ocr(text_len='8')", "keep_if()", "science_qa(answer='B')"],
)
def test_arguments_of_another_type_are_refused_before_any_data(string):
  with pytest.raises(ValueError, match="wanted "):
    parse.build(string)


# Choices.


def test_choice_picks_each_of_a_list_about_as_often():
  picks = [apply("choice('a', 'b')", t, a=["x", "y"]) for t in turns(1000)]
  counts = collections.Counter(pick["b"] for pick in picks)
  assert sorted(counts) == ["x", "y"]
  assert 400 < counts["x"] < 600


@pytest.mark.parametrize("op", ["choice", "cycle"])
def test_lists_of_keys_are_picked_at_one_place(op):
  example = dict(a=list("abc"), b=np.eye(3))
  places = set()
  for turn in turns(20):
    out = apply(f"{op}(['a', 'b'], out=['c', 'd'])", turn, **example)
    places.add("abc".index(out["c"]))
    assert out["d"].tolist() == np.eye(3)["abc".index(out["c"])].tolist()
  assert places == {0, 1, 2}
  with pytest.raises(ValueError, match="'b' has 2 items and 'a' 3"):
    apply(f"{op}(['a', 'b'], out=['c', 'd'])", a=[1, 2, 3], b=[1, 2])
  with pytest.raises(ValueError, match=r"got 2 keys .* for 1 out"):
    apply(f"{op}(['a', 'b'], out='c')", **example)


@pytest.mark.parametrize("num", [1, 2, 5])
def test_cycle_takes_all_before_any_twice_in_a_new_order_each_time(num):
  orders = collections.defaultdict(list)
  for row, cycle in itertools.product(range(40), range(3)):
    order = []
    for epoch in range(cycle * num, (cycle + 1) * num):
      turn = pp.Turn((7, 0), row, epoch)
      order.append(apply("cycle('a', out='b')", turn, a=list(range(num)))["b"])
    assert sorted(order) == list(range(num))
    orders[row].append(tuple(order))
  assert num == 1 or len({tuple(cycles) for cycles in orders.values()}) > 5
  assert num < 5 or all(len(set(cycles)) > 1 for cycles in orders.values())


def test_two_cycles_of_one_row_do_not_go_hand_in_hand():
  string = "cycle('a', out='x') | cycle('b', out='y')"
  example = dict(a=[0, 1, 2], b=[0, 1, 2])
  seen = set()
  for turn in turns(100):
    out = apply(string, turn, **example)
    seen.add((out["x"], out["y"]))
  assert len(seen) == 9


@pytest.mark.parametrize(
  ("values", "wanted"),
  [(["b", "a", "a"], "a"), (["b", "a", "a", "b"], "b"), (["c"], "c")],
)
def test_majority_is_the_most_frequent_or_the_first_of_equals(values, wanted):
  assert apply("majority('x', out='y')", x=values)["y"] == wanted


@pytest.mark.parametrize(
  ("string", "wanted"),
  [
    ("pick('choices', 'place', out='y')", "b"),
    ("pick('choices', 0, out='y')", "a"),
    ("pick(['False', 'True'], 'label', out='y')", "True"),
    ("pick(['no', 'yes'], 'numpy', out='y')", "no"),
  ],
)
def test_pick_takes_a_place_or_the_key_of_one(string, wanted):
  row = dict(choices=("a", "b"), place=1, label=True, numpy=np.bool_(False))
  assert apply(string, **row)["y"] == wanted


def test_shuffled_options_keep_the_right_answer():
  choices, orders = ["milk", "rock", "air", "ice"], set()
  for turn in turns(200):
    for answer in range(4):
      out = apply(
        "shuffle_options('choices', 'answer')",
        turn,
        choices=choices,
        answer=answer,
      )
      assert sorted(out["choices"]) == sorted(choices)
      assert out["choices"][out["answer"]] == choices[answer]
    orders.add(tuple(out["choices"]))
    text = apply(
      "shuffle_options('choices', 'answer')",
      turn,
      choices=choices,
      answer="ice",
    )
    assert text["answer"] == "ice" and sorted(text["choices"]) == sorted(
      choices
    )
  assert len(orders) == 24
  for bad, message in (("fire", "'fire' is not in 'choices'"), (4, "is 4")):
    with pytest.raises(ValueError, match=message):
      apply("shuffle_options('choices', 'answer')", choices=choices, answer=bad)


def test_shuffled_science_options_are_lettered_as_they_stand():
  letters = set()
  for turn in turns(30):
    out = apply(
      "shuffle_options('choices','answer') | science_qa()", turn, **ROW
    )
    letter = out["suffix"][-2]
    assert f"({letter}) rock" in out["prefix"]
    letters.add(letter)
  assert letters == {"A", "B"}


# Keys and rows.


def test_keys_are_copied_renamed_dropped_and_flattened():
  out = apply(
    "flatten | copy('a', out='b') | rename('a', out='c') | drop(['n', 'm/k'])",
    a=1,
    n=2,
    m={"k": 3, "l": {"x": 4}},
  )
  assert out == {"b": 1, "c": 1, "m/l/x": 4}
  assert apply("rename('a', out='a')", a=1) == {"a": 1}
  out = apply("gather(['b', 'a'], out='c')", a=1, b="x")
  assert out == {"a": 1, "b": "x", "c": ["x", 1]}


@pytest.mark.parametrize(
  ("condition", "kept", "skipped"),
  [
    (
      "'x'",
      [["a"], ("a",), "a", b"a", 0, False, {"a": 1}, np.zeros(1), np.array(0)],
      [None, "", b"", [], (), {}, np.zeros(0), np.zeros((0, 4))],
    ),
    ("'x', 'yes'", ["yes", np.str_("yes")], ["no", "", None, 1]),
    ("'x', True", [True, np.bool_(True), 1], [False, np.bool_(False), "True"]),
    ("'x', ['yes', 2]", ["yes", 2, np.int64(2)], ["no", 1, None]),
    ("'x', None", [None], [0, "", False]),
  ],
)
def test_rows_are_kept_by_what_they_have(condition, kept, skipped):
  for values, keep, skip in ((kept, "keep", "skip"), (skipped, "skip", "keep")):
    for value in values:
      assert apply(f"{keep}_if({condition})", x=value)["x"] is value
      with pytest.raises(pp.Skip, match="'x' is"):
        apply(f"{skip}_if({condition})", x=value)


def test_a_row_without_the_key_has_nothing_there():
  with pytest.raises(pp.Skip):
    apply("keep_if('image')", text="x")
  assert apply("skip_if('image')", text="x") == {"text": "x"}


# Texts of an image.


def test_ocr_writes_all_texts_in_their_order():
  out = apply("ocr()", texts=["STOP", "", "Main", "St"])
  assert out["prefix"] == "ocr" and out["suffix"] == "STOP Main St"
  assert apply("ocr(sep='\\n')", texts=["a", "b"])["suffix"] == "a\nb"
  with pytest.raises(pp.Skip, match="'texts' has no text"):
    apply("ocr()", texts=["", ""])


def test_ocr_reads_boxes_in_raster_order():
  out = apply(
    "objects('raster') | ocr()",
    texts=["Street", "STOP", "Main"],
    boxes=[[0.52, 0.5, 0.7, 0.9], [0, 0.3, 0.2, 0.7], [0.5, 0.1, 0.68, 0.4]],
  )
  assert out["suffix"] == "STOP Main Street"


def fits(out, text_len):
  row = prefix_lm.make(out["prefix"], out["suffix"], TOK, text_len)
  return not prefix_lm.is_cut(row)


def test_ocr_leaves_out_random_texts_until_the_row_is_not_cut():
  texts = [f"w{i:02}" for i in range(40)]
  string = f"ocr(text_len=80, tokenizer='{tokenizer.NANO}')"
  assert not fits(apply("ocr()", texts=texts), 80)
  kept = []
  for turn in turns(20):
    out = apply(string, turn, texts=texts)
    words = out["suffix"].split(" ")
    assert words == sorted(set(words) & set(texts))
    assert fits(out, 80)
    kept.append(out["suffix"])
    more = dict(out, suffix=f"{out['suffix']} w39")
    assert not fits(more, 80)
  assert len(set(kept)) == 20
  few = apply(string, texts=texts[:4])
  assert few["suffix"] == "w00 w01 w02 w03"


def test_ocr_never_gives_up_because_of_one_long_text():
  string = f"ocr(text_len=20, tokenizer='{tokenizer.NANO}')"
  for turn in turns(20):
    assert apply(string, turn, texts=["a", "b" * 99])["suffix"] == "a"
  with pytest.raises(pp.Skip, match="or none that fits"):
    apply(string, texts=["b" * 99])


def test_a_text_len_wants_a_tokenizer():
  with pytest.raises(ValueError, match="text_len=80 needs the tokenizer"):
    apply("ocr(text_len=80)", texts=["a"])


# All of them.


def test_the_same_turn_gives_the_same_text():
  string = (
    "choice('a', out='b') | cycle('a', out='c')"
    " | shuffle_options('choices', 'answer') | science_qa()"
    f" | ocr('a', text_len=30, tokenizer='{tokenizer.NANO}')"
  )
  example = dict(ROW, a=[f"t{i}" for i in range(20)])
  outs = [
    apply(string, pp.Turn((3,), row, epoch), **example)
    for row, epoch in [(0, 0), (0, 0), (1, 0), (0, 1)]
  ]
  assert outs[0] == outs[1]
  assert outs[0] != outs[2] and outs[0] != outs[3]


STRINGS = [
  "fmt('{a} {b}', out='x')",
  "lower('a')",
  "strip('a')",
  "replace('a', 'a', 'b')",
  "join('a', ' ', out='x')",
  "first_sentence('a')",
  f"ocr('a', text_len=20, tokenizer='{tokenizer.NANO}')",
  "choice('a', out='x')",
  "choice(['a', 'b'], out=['x', 'y'])",
  "cycle('a', out='x')",
  "majority('a', out='x')",
  "pick('a', 'b', out='x')",
  "shuffle_options('a', 'b')",
  "copy('a', out='question') | rename('b', out='choices')"
  " | rename('c', out='answer') | science_qa('QM')",
  "rename('a', out='labels') | ask(names='b')",
  "copy('a', out='x')",
  "rename('a', out='x')",
  "drop('a')",
  "gather(['a', 'b'], out='x')",
  "flatten",
  "keep_if('a')",
  "keep_if('a', ['a', 1])",
  "skip_if('a', 'a')",
]


def wild(random, depth=0):
  """Draws a value of any type."""
  kinds = ["a", "", "B. c", "\ud800", "<loc0001>", b"a", b"", None, True, 0, 1]
  kinds += [-3, 10**30, 0.5, float("nan"), float("inf"), 1j, np.int64(1), {}]
  kinds += [np.float32(2), np.bool_(True), np.str_("a"), object(), {1}, dict]
  kinds += [np.zeros((0, 4)), np.array(["a", "b"]), np.array(1.5), np.eye(2)]
  kinds += [np.array([None, "a"]), np.array([[0, 0, 1, 1]]), ["a", "b"], ["a"]]
  pick = random.integers(len(kinds) + 12 * (depth < 2))
  if pick < len(kinds):
    return kinds[pick]
  items = [wild(random, depth + 1) for _ in range(random.integers(4))]
  if pick % 3 == 0:
    return dict(zip("abcd", items))
  return tuple(items) if pick % 3 == 1 else items


@pytest.mark.parametrize("string", STRINGS)
def test_any_example_gives_a_result_a_skip_or_a_value_error(string):
  random, pipeline = np.random.default_rng(0), parse.build(string)
  outcomes = collections.Counter()
  for _ in range(1000):
    keys = "abc"[: random.integers(4)]
    example = {key: wild(random) for key in keys}
    try:
      outcomes[type(pipeline(example, pp.Turn()))] += 1
    except (ValueError, pp.Skip) as e:
      outcomes[type(e)] += 1
  assert outcomes[dict] > 0
  assert outcomes.total() == 1000


def test_no_text_op_is_left_out_of_the_test_with_any_example():
  modules = ("text", "answers", "keys", "ask")
  names = {
    name
    for name, function in pp.OPS.items()
    if function.__module__.removeprefix("pg.pp.") in modules
  }
  steps = [step for s in STRINGS for step in parse.build(s).args[0]]
  assert names == {step.function.__name__ for step in steps} & names
