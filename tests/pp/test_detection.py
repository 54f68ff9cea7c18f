"""Objects are written whole, in the published form, and can be read back."""

import collections
import re

import numpy as np
import pytest

from pg import pp
from pg.codecs import boxes, tokenizer
from pg.data import prefix_lm
from pg.pp import parse
from tests.pp import test_text
from tests.support import paths, written

TOK = tokenizer.Tokenizer(tokenizer.NANO)
NANO = f"tokenizer='{tokenizer.NANO}'"
WHOLE = "<loc0000><loc0000><loc1023><loc1023>"
RIGHT = "<loc0000><loc0512><loc1023><loc1023>"
LOWER = "<loc0767><loc0256><loc1023><loc0512>"
CODES = list(range(16))
SEGS = "".join(f"<seg{i:03}>" for i in range(16))


def apply(string, turn=None, **example):
  return parse.build(string)(example, turn or pp.Turn())


def row():
  return dict(
    boxes=[[0, 0, 1, 1], [0, 0.5, 1, 1], [0.75, 0.25, 1, 0.5]],
    labels=["cat", "red car", "cat"],
    codes=[CODES, CODES[::-1], [127] * 16],
    iscrowd=[0, 1, 0],
  )


def turns(num):
  return [pp.Turn(row=i) for i in range(num)]


def is_cut(out, text_len):
  row = prefix_lm.make(out["prefix"], out["suffix"], TOK, text_len)
  return prefix_lm.is_cut(row)


def many(num, seed=0):
  rng = np.random.default_rng(seed)
  corners = np.sort(rng.random((num, 2, 2)), axis=1).reshape(num, 4)
  names = ["cat", "red car", "traffic light", "b"]
  labels = [names[i] for i in rng.integers(len(names), size=num)]
  return dict(
    boxes=corners, labels=labels, codes=rng.integers(128, size=(num, 16))
  )


# What is written.


@pytest.mark.parametrize(
  ("string", "prefix", "suffix"),
  [
    (
      "detect()",
      "detect cat ; red car",
      f"{WHOLE} cat ; {RIGHT} red car ; {LOWER} cat",
    ),
    (
      "segment()",
      "segment cat ; red car",
      f"{WHOLE}{SEGS} cat ; {RIGHT}"
      + "".join(f"<seg{i:03}>" for i in range(15, -1, -1))
      + f" red car ; {LOWER}{'<seg127>' * 16} cat",
    ),
    (
      "objects(crowd=False, max_objects=1) | detect()",
      "detect cat",
      f"{WHOLE} cat",
    ),
    (
      "detect_all(3, noise='x') | fmt('{prefix}', out='prefix')",
      "detect all classes",
      None,
    ),
    (
      "pick('boxes', 1, out='box') | pick('labels', 1, out='suffix')"
      " | loc('box', out='where') | fmt('caption {where}', out='prefix')",
      f"caption {RIGHT}",
      "red car",
    ),
    (
      "pick('boxes', 0, out='box') | pick('codes', 0, out='mask')"
      " | loc('box', codes='mask', out='suffix')"
      " | fmt('the cat', out='prefix')",
      "the cat",
      WHOLE + SEGS,
    ),
  ],
)
def test_prompts_and_answers_have_the_published_form(string, prefix, suffix):
  out = apply(string, **row())
  assert out["prefix"] == prefix
  assert suffix is None or out["suffix"] == suffix


# From google-research/big_vision's own encoder, run on made-up masks.
REFERENCE = [
  (
    [0.40799999237060547, 0.30000001192092896]
    + [0.7519999742507935, 0.8142856955528259],
    [60, 14, 60, 14, 60, 67, 64, 67, 60, 64, 9, 23, 15, 64, 123, 38],
    "<loc0417><loc0307><loc0769><loc0833><seg060><seg014><seg060><seg014>"
    "<seg060><seg067><seg064><seg067><seg060><seg064><seg009><seg023><seg015>"
    "<seg064><seg123><seg038>",
  ),
  (
    [0.40645161271095276, 0.29439252614974976, 0.9580645561218262, 1.0],
    [64, 127, 60, 64, 60, 5, 60, 60, 110, 64, 64, 32, 21, 58, 12, 32],
    "<loc0416><loc0301><loc0980><loc1023><seg064><seg127><seg060><seg064>"
    "<seg060><seg005><seg060><seg060><seg110><seg064><seg064><seg032><seg021>"
    "<seg058><seg012><seg032>",
  ),
]


@pytest.mark.parametrize(("box", "codes", "text"), REFERENCE)
def test_a_box_with_a_mask_equals_the_reference(box, codes, text):
  box = np.array(box, np.float32)
  out = apply("loc('box', codes='codes', out='suffix')", box=box, codes=codes)
  assert out["suffix"] == text


def test_written_objects_are_read_back():
  for seed in range(20):
    example = many(seed, seed)
    for verb, codes in (("detect", False), ("segment", True)):
      if not seed:
        continue
      out = apply(f"{verb}()", **example)
      found, rest = boxes.read(out["suffix"])
      assert rest == []
      assert written.text(found) == out["suffix"]
      assert [x.label for x in found] == example["labels"]
      wanted = example["codes"].tolist() if codes else [[]] * seed
      assert [list(x.codes) for x in found] == wanted
      np.testing.assert_allclose(
        [x.box for x in found], example["boxes"], atol=0.5 / 1023 + 1e-6
      )


def test_absent_classes_are_asked_for_and_get_no_box():
  example = dict(row(), classes=["dog", "cat", "red car"])
  out = apply("detect('classes')", **example)
  assert out["prefix"] == "detect dog ; cat ; red car"
  assert "dog" not in out["suffix"] and out["suffix"].count("cat") == 2
  none = apply("detect('classes')", boxes=[], labels=[], classes=["dog", "cow"])
  assert none["prefix"] == "detect dog ; cow" and none["suffix"] == ""
  with pytest.raises(pp.Skip, match="no class to ask for"):
    apply("detect()", boxes=[], labels=[])
  with pytest.raises(ValueError, match="'red car', and 'classes' has it not"):
    apply("detect('classes')", **dict(example, classes=["cat"]))


# Which objects, in what order.


@pytest.mark.parametrize(
  ("order", "wanted"),
  [
    ("given", ["a", "b", "c", "d"]),
    ("raster", ["c", "b", "a", "d"]),
    ("left", ["c", "a", "d", "b"]),
    ("area", ["d", "b", "a", "c"]),
  ],
)
def test_objects_are_put_in_order_in_all_their_lists(order, wanted):
  out = apply(
    f"objects('{order}')",
    boxes=[[0.6, 0, 0.7, 0.5], [0.1, 0.5, 0.3, 1], [0.12, 0, 0.28, 0.2]]
    + [[0.62, 0.1, 1, 0.9]],
    labels=["a", "b", "c", "d"],
    codes=np.array([[1], [2], [3], [4]]),
    caption="x",
  )
  assert out["labels"] == wanted
  assert out["codes"].tolist() == [["abcd".index(x) + 1] for x in wanted]
  assert out["boxes"][wanted.index("c")] == [0.12, 0, 0.28, 0.2]
  assert out["caption"] == "x"


def test_random_order_shows_every_order_and_loses_nothing():
  seen = collections.Counter()
  for turn in turns(300):
    out = apply("objects('random')", turn, **row())
    pairs = sorted(zip(out["boxes"], out["labels"], out["codes"]))
    assert pairs == sorted(
      zip(*(row()[k] for k in ("boxes", "labels", "codes")))
    )
    seen[tuple(out["boxes"][i][1] for i in range(3))] += 1
  assert len(seen) == 6 and min(seen.values()) > 20


def test_raster_reads_lines_although_their_boxes_are_not_level():
  rng = np.random.default_rng(0)
  corner = np.array([(y, x) for y in range(4) for x in range(5)]) / [5, 6]
  corner = corner + rng.uniform(-0.02, 0.02, corner.shape)
  lines = np.concatenate([corner, corner + 0.1], axis=1)
  shuffled = rng.permutation(20)
  assert shuffled[boxes.raster(lines[shuffled])].tolist() == list(range(20))
  assert boxes.raster([]).tolist() == []
  whole = [[0, 0.5, 1, 1], [0.8, 0, 0.9, 0.1], [0, 0, 0.1, 0.1]]
  assert boxes.raster(whole).tolist() == [2, 0, 1]
  assert boxes.raster([[0, 0, 1, 1], [0.3, 0.8, 0.4, 0.9]]).tolist() == [1, 0]


def test_crowds_are_left_out_by_choice():
  assert apply("objects(crowd=False)", **row())["labels"] == ["cat", "cat"]
  assert apply("objects()", **row())["iscrowd"] == [0, 1, 0]
  nulls = dict(row(), iscrowd=[None, 1, False])
  assert apply("objects(crowd=False)", **nulls)["labels"] == ["cat", "cat"]
  with pytest.raises(ValueError, match='unknown key of the example "iscrowd"'):
    apply("objects(crowd=False)", boxes=[], labels=[])
  with pytest.raises(ValueError, match="'iscrowd' should be 0 and 1"):
    apply("objects(crowd=False)", **dict(row(), iscrowd=["0", "0", "0"]))


def test_classes_are_drawn_with_their_objects_and_absent_ones():
  string = "classes(1, absent=2, names=['cat', 'dog', 'cow', 'red car', 'ox'])"
  drawn, first, lacking = set(), set(), set()
  for turn in turns(100):
    out = apply(f"{string} | detect('classes')", turn, **row())
    (label,) = set(out["labels"])
    drawn.add(label)
    assert len(out["boxes"]) == row()["labels"].count(label)
    absent = set(out["classes"]) - {label}
    lacking |= absent
    assert len(absent) == 2 and absent <= {"dog", "cow", "ox"}
    first.add(out["classes"].index(label))
    assert out["prefix"] == f"detect {' ; '.join(out['classes'])}"
    assert len(boxes.read(out["suffix"])[0]) == len(out["boxes"])
  assert drawn == {"cat", "red car"}
  assert first == {0, 1, 2}  # the place does not give it away
  assert lacking == {"dog", "cow", "ox"}
  every = apply("classes()", **row())
  assert sorted(every["classes"]) == ["cat", "red car"]
  assert every["labels"] == row()["labels"]


# How many fit.


@pytest.mark.parametrize("verb", ["detect", "segment"])
def test_a_short_row_holds_whole_objects_and_as_many_as_fit(verb):
  example = many(30)
  full, _ = boxes.read(apply(f"{verb}()", **example)["suffix"])
  lengths = set()
  for text_len in range(60, 700, 37):
    string = f"{verb}(text_len={text_len}, {NANO})"
    out = apply(string, **example)
    found, rest = boxes.read(out["suffix"])
    assert rest == [] and found == full[: len(found)]
    assert not is_cut(out, text_len)
    names = out["prefix"].removeprefix(f"{verb} ").split(" ; ")
    assert set(names) == {x.label for x in found}
    if len(found) < 30:
      more = {k: v[: len(found) + 1] for k, v in example.items()}
      assert is_cut(apply(f"{verb}()", **more), text_len)
    lengths.add(len(found))
  assert len(lengths) > 5


def test_a_row_too_short_for_one_object_is_an_error():
  string = f"detect(text_len=8, {NANO})"
  with pytest.raises(ValueError, match="text_len=8 is too short for 'detect"):
    apply(string, **row())
  with pytest.raises(ValueError, match="needs the tokenizer"):
    apply("detect(text_len=8)", **row())


# Noise.


def test_noise_fills_up_and_its_places_carry_no_loss():
  for turn in turns(20):
    out = apply("detect_all(8, noise='x')", turn, **row())
    found, rest = boxes.read(out["suffix"])
    assert rest == [] and len(found) == 8
    assert sorted(x.label for x in found[:3]) == ["cat", "cat", "red car"]
    assert {x.label for x in found[3:]} == {"x"}
    assert all(y1 <= y2 and x1 <= x2 for (y1, x1, y2, x2), *_ in found)
    marked = [out["suffix"][a:b] for a, b in out["no_loss"]]
    assert marked == [boxes.encode(x.box) for x in found[3:]]
    assert out["suffix"].count(">x") == 5  # the first token after a box
    assert out["left_out"] == 0
  firsts = {
    apply("detect_all(8)", turn, **row())["suffix"][:36] for turn in turns(50)
  }
  assert firsts == {WHOLE, RIGHT, LOWER}


def test_spans_without_loss_are_whole_tokens():
  out = apply("detect_all(9, noise='x')", **row())
  text, at, ids = out["suffix"], 0, []
  for start, stop in out["no_loss"]:
    ids += TOK.encode(text[at:start])
    located = TOK.encode(text[start:stop])
    assert len(located) == 4
    ids, at = ids + located, stop
  assert ids + TOK.encode(text[at:]) == TOK.encode(text)


@pytest.mark.gemma
def test_the_usual_name_of_noise_is_one_token_of_gemma():
  tok = tokenizer.Tokenizer(str(paths.GEMMA))
  suffix = apply("detect_all(4)", **row())["suffix"]
  pieces = tok.pieces(tok.encode(suffix))
  assert pieces[-1] == "<unused0>" and pieces.count("<unused0>") == 1
  assert pieces[-2].startswith("<loc")


def test_noise_fills_a_row_to_its_end_and_is_cut_at_whole_objects():
  for text_len in (40, 100, 333):
    out = apply(f"detect_all(999, 'x', text_len={text_len}, {NANO})", **row())
    assert not is_cut(out, text_len)
    found, rest = boxes.read(out["suffix"])
    assert rest == [] and len(out["no_loss"]) == max(0, len(found) - 3)
    assert out["no_loss"] or text_len == 40
    longer = dict(out, suffix=out["suffix"] + f" ; {WHOLE} x")
    assert is_cut(longer, text_len)
  two = apply("detect_all(2)", **row())
  assert len(boxes.read(two["suffix"])[0]) == 2 and two["no_loss"] == []
  assert two["left_out"] == 1


# Questions.


QUESTIONS = {
  "what": r"What objects are in the image\?",
  "is": r"Is (.+) in the image\?",
  "which": r"Which of (.+) are in the image\?",
  "many": r"How many (.+)\?",
}


def test_questions_have_the_published_wording_and_true_answers():
  labels = ["cat", "red car", "cat"]
  seen = collections.Counter()
  for turn in turns(1000):
    out = apply("ask(names=['cat', 'dog', 'cow'])", turn, labels=labels)
    prefix, answer = out["prefix"], out["suffix"]
    assert prefix.startswith("answer en ")
    matches = {
      kind: re.fullmatch(f"answer en {question}", prefix)
      for kind, question in QUESTIONS.items()
    }
    ((kind, match),) = [(k, m) for k, m in matches.items() if m]
    if kind == "what":
      wanted = "cat, red car"
    elif kind == "is":
      wanted = "yes" if match[1] in labels else "no"
    elif kind == "which":
      things = match[1].split(", ")
      assert len(set(things)) == 3
      wanted = ", ".join(x for x in things if x in labels) or "none"
    else:
      wanted = str(labels.count(match[1]))
    assert answer == wanted
    seen[kind, answer] += 1
  kinds = collections.Counter()
  for (kind, _), count in seen.items():
    kinds[kind] += count
  assert min(kinds.values()) > 200
  assert abs(seen["is", "yes"] - seen["is", "no"]) < 60
  assert all(seen["many", str(i)] > 50 for i in range(3))


def test_questions_about_an_image_without_objects():
  kinds = set()
  for turn in turns(50):
    out = apply("ask(names=['cat'])", turn, labels=[])
    kinds.add((out["prefix"], out["suffix"]))
  assert kinds == {
    ("answer en Is cat in the image?", "no"),
    ("answer en Which of cat are in the image?", "none"),
    ("answer en How many cat?", "0"),
  }
  for string in ("ask('what', names=['cat'])", "ask()"):
    with pytest.raises(pp.Skip, match="no object to ask for"):
      apply(string, labels=[])
  assert apply("ask('is')", labels=["cat"])["suffix"] == "yes"


# Errors.


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(boxes=3), "'boxes' should be a list, but is int"),
    (dict(boxes=[[0, 0, 1]] * 3), "'boxes' should be boxes of four numbers"),
    (dict(boxes=[["0"] * 4] * 3), "'boxes' should be boxes of four numbers"),
    (dict(boxes=[[0, 0, 9, 300]] * 3), r"fractions.*item 0 is \[0.0, 0.0, 9.0"),
    (dict(boxes=[[0, 0, 1, np.nan]] * 3), "fractions of height and width"),
    (dict(boxes=[[0, 0.5, 1, 0.4]] * 3), "y1 <= y2, x1 <= x2"),
    (dict(boxes=[[0, 0, 1, 1]]), "'labels' has 3 items and 'boxes' 1"),
    (dict(labels=["a", "b", 3]), "'labels'.* item 2 is int"),
    (dict(labels=["a", " ", "b"]), "'labels' has an empty name, item 1"),
    (dict(labels=["a", "b;c", "b"]), "label 'b;c' has a \";\""),
    (dict(labels="abc"), "'labels' should be a list, but is str"),
    (dict(codes=[CODES[1:]] * 3), r"wanted 16 codes in 0..127, got \[1, 2"),
    (dict(codes=[[128] * 16] * 3), "wanted 16 codes in 0..127"),
    (dict(codes=[[0.5] * 16] * 3), "wanted 16 codes in 0..127"),
    (dict(codes=[CODES]), "got 3 boxes and 1 codes"),
  ],
)
def test_wrong_objects_are_an_error_that_names_the_key(change, message):
  with pytest.raises(ValueError, match=message):
    apply("segment()", **{**row(), **change})


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["cat", "red car", "a;b"], "label 'a;b' has a \";\""),
    (["cat", "red car", ""], "'names' has an empty name, item 2"),
    (["cat", "red car", None], "'names'.* item 2 is NoneType"),
    ("cat", "'names' should be a list, but is str"),
  ],
)
def test_wrong_classes_are_an_error_that_names_the_key(names, message):
  with pytest.raises(ValueError, match=message):
    apply("detect('names')", names=names, **row())


@pytest.mark.parametrize("key", ["boxes", "labels", "codes"])
def test_a_missing_key_is_named(key):
  example = row()
  del example[key]
  with pytest.raises(ValueError, match=f'unknown key of the example "{key}"'):
    apply("segment()", **example)


@pytest.mark.parametrize(
  ("string", "message"),
  [
    ("objects(max_objects=-1)", "max_objects should be at least 0, got -1"),
    ("classes(-1)", "present should be at least 0"),
    ("detect_all(-1)", "num should be at least 0"),
    ("ask(num=0)", "num should be at least 1"),
    ("objects(keys=[3])", "a key should be text, got 3"),
    ("classes(names='codes')", "'codes'.* item 0 is list"),
  ],
)
def test_arguments_that_make_no_sense_are_refused(string, message):
  with pytest.raises(ValueError, match=message):
    apply(string, **row())


def test_a_list_that_is_not_as_long_as_boxes_is_named():
  with pytest.raises(ValueError, match="'area' has 1 items and 'boxes' 3"):
    apply("objects()", **dict(row(), area=[1]))


# All of them.


STRINGS = [
  "objects('random', crowd=False)",
  "objects('raster')",
  "objects('area', max_objects=1)",
  "classes(1, absent=1, names=['a', 'z'])",
  "classes(absent=1, names='names')",
  "detect()",
  f"detect('names', text_len=40, {NANO})",
  "segment()",
  "detect_all(4)",
  "pick('boxes', 0, out='box') | loc('box', out='x')",
  "pick('boxes', 0, out='box') | pick('codes', 0, out='mask')"
  " | loc('box', codes='mask', out='x')",
  "ask('which', names='names')",
]


@pytest.mark.parametrize("string", STRINGS)
def test_any_example_gives_a_result_a_skip_or_a_value_error(string):
  random, pipeline = np.random.default_rng(0), parse.build(string)
  odd = dict(
    boxes=[[], [[0, 0, 1, 1]], [0, 0, 1, 1], [[0, 0, 1]] * 3, [[0, 0, 9, 9]]],
    labels=[[], ["a"], ["a"] * 3, np.array(["a", "b", "z"]), ["a", "", "b"]],
    codes=[[], [CODES], CODES, ["a", "b"], np.zeros((3, 16), int)],
    iscrowd=[[], [0], [0, 1, 2], np.array([True, False, True])],
    names=[[], ["a"], ["a", ""], ["a;b"], np.array(["cat"])],
  )
  outcomes = collections.Counter()
  for _ in range(1000):
    example = dict(row(), names=["cat", "red car", "ox"])
    for key in random.permutation(list(example))[: random.integers(4)]:
      kind = random.integers(3)
      if kind == 0:
        del example[key]
      elif kind == 1:
        example[key] = test_text.wild(random)
      else:
        example[key] = odd[key][random.integers(len(odd[key]))]
    try:
      outcomes[type(pipeline(example, pp.Turn()))] += 1
    except (ValueError, pp.Skip) as e:
      outcomes[type(e)] += 1
  assert outcomes[dict] > 10 and outcomes[ValueError] > 100


@pytest.mark.parametrize(
  "string", ["objects('random')", "classes(1)", "detect_all(9)", "ask()"]
)
def test_the_same_turn_gives_the_same_result(string):
  outs = [
    str(apply(string, pp.Turn((5,), row_, epoch), **row()))
    for row_, epoch in [(0, 0), (0, 0), *((i, i) for i in range(1, 9))]
  ]
  assert outs[0] == outs[1]
  assert len(set(outs)) > 1
