"""Pipeline strings are checked when they are built."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.pp import image, parse


def rng():
  return np.random.default_rng(0)


def apply(string, **example):
  return parse.build(string)(example, pp.Turn())


def encoded(array, mode=None, kind="PNG"):
  f = io.BytesIO()
  pixels = Image.fromarray(array)
  (pixels.convert(mode) if mode else pixels).save(f, kind)
  return f.getvalue()


NOISE = rng().integers(256, size=(20, 30, 3), dtype=np.uint8)


def test_a_pipeline_applies_its_ops_in_order():
  out = apply(
    "decode | resize(8) | fmt('Is {x}?', out='prefix') | lower('prefix')",
    image=encoded(NOISE),
    x="THIS",
  )
  assert out["image"].shape == (8, 8, 3)
  assert out["prefix"] == "is this?"
  assert out["x"] == "THIS"


def test_a_bar_or_bracket_in_quotes_is_text():
  out = apply("""fmt("a | b) | lower('x' #", out="x")""")
  assert out == {"x": "a | b) | lower('x' #"}


def test_a_pipeline_leaves_its_input_as_it_is():
  pixels = NOISE.copy()
  example = {"image": [pixels, pixels], "answers": ["A"], "t": "T"}
  before = dict(example, image=list(example["image"]), answers=["A"])
  parse.build(
    "decode | resize(4) | choice('answers', out='suffix') | lower('t')"
  )(example, pp.Turn())
  assert example == before
  np.testing.assert_array_equal(pixels, NOISE)


def test_a_pipeline_can_be_pickled():
  pipeline = pickle.loads(pickle.dumps(parse.build("lower('x') | decode")))
  assert pipeline({"x": "A", "image": NOISE}, pp.Turn())["x"] == "a"


def test_rng_goes_only_to_ops_that_want_it():
  assert parse.build("lower('x')")({"x": "A"}, None) == {"x": "a"}
  pipeline = parse.build("choice('x', out='y')")
  picks = [
    pipeline({"x": list(range(1000))}, pp.Turn(row=row))["y"]
    for row in (1, 1, 2)
  ]
  assert picks[0] == picks[1] != picks[2]


@pytest.mark.parametrize(
  ("string", "message", "at"),
  [
    ("", "empty", None),
    ("decode |", "invalid syntax", None),
    ("decode | resize(", "never closed", 15),
    ("decode\n| resize(8)", "invalid syntax", None),
    ("decode | reszie(48)", 'unknown op "reszie"; did you mean "resize"', 9),
    ("decode, resize(8)", "wanted an op", 0),
    ("decode & resize(8)", "wanted an op", 0),
    ("decode | 'resize'", "wanted an op", 9),
    ("decode | image.resize(8)", "wanted an op", 9),
    ("decode | resize", "missing a required argument: 'size'", 9),
    ("decode | resize()", "missing a required argument: 'size'", 9),
    ("resize(8, sise=9)", "unexpected keyword argument 'sise'", 0),
    ("resize(8, size=9)", "multiple values for argument 'size'", 0),
    ("resize(size=8, size=9)", "size is repeated", 0),
    ("resize(**{'size': 8})", r"\*\* is repeated or not a name", 0),
    ("resize('48')", r"size='48' is not allowed; wanted \(size: int", 0),
    ("resize(48.0)", "size=48.0 is not allowed", 0),
    ("resize(True)", "size=True is not allowed", 0),
    ("resize(8, flavour='tf')", r"flavour='tf' is not.*'bv', 'hf'", 0),
    ("choice('a', out='b', rng=1)", "unexpected keyword argument 'rng'", 0),
    ("lower('x', example=1)", "unexpected keyword argument 'example'", 0),
    ("lower(open('/etc/passwd'))", "are literals.*this has Call", 0),
    ("resize(4 * 12)", "are literals.*this has BinOp", 0),
    ("resize(size)", "are literals.*this has Name", 0),
    ("lower('é') | lower(x)", "this has Name", 13),
  ],
)
def test_a_wrong_pipeline_is_refused_with_its_place(string, message, at):
  with pytest.raises(ValueError, match=message) as e:
    parse.build(string)
  if at is not None:
    assert str(e.value).endswith(f"\n  {string}\n  {' ' * at}^")


@pytest.mark.filterwarnings("ignore")
def test_any_string_is_a_pipeline_or_a_value_error():
  words = ["decode", "resize", "fmt", "choice", "lower", "x", "lambda", "None"]
  words += ["|", "|", "(", ")", "(", ")", "[", "]", "{", "}", ",", "=", "**"]
  words += ["'a'", '"b"', "'", '"""', "8", "1e9", "-", "=48", "out=", "size="]
  words += [" ", " ", "\n", "\r", "\f", "\0", "\t", "\\", "#", "é", "\u2028"]
  words += ["\ud800", "{x}", "yield", ":=", "*", "@", "if", "else", "f'{x}'"]
  valid = "decode | resize(48) | fmt('a {q}', out='prefix') | lower('prefix')"
  random, built = rng(), 0
  for _ in range(5000):
    if random.random() < 0.5:
      string = "".join(random.choice(words, size=random.integers(12)))
    else:  # a valid string with a piece replaced
      start, length = random.integers(len(valid)), random.integers(8)
      word = random.choice(words)
      string = valid[:start] + word + valid[start + length :]
    try:
      assert callable(parse.build(string))
      built += 1
    except ValueError:
      pass
  assert built > 50


@pytest.mark.parametrize(
  "string",
  ["[" * 5000, "lower(" * 90 + ")" * 90, "decode|" * 20000 + "decode"]
  + ["resize(" + "-" * 5000 + "1)", "resize(" + "9" * 5000 + ")"]
  + ["lower({[]: 1})", "resize(" + "(" * 199 + ")" * 199 + ")"],
)
def test_a_monstrous_string_is_a_value_error_too(string):
  with pytest.raises(ValueError):
    parse.build(string)


def test_what_an_op_objects_to_names_the_op_as_written():
  with pytest.raises(ValueError, match=r'^lower\("a"\): .*did you mean "aa"'):
    apply('decode | lower("a")', image=NOISE, aa="x")


def test_two_ops_cannot_have_one_name():
  with pytest.raises(ValueError, match="two ops with the name 'decode'"):
    pp.op(image.decode)
