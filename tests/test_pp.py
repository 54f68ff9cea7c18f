"""Pipeline strings are checked when built; ops equal their references."""

import hashlib
import io
import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from pg import pp
from pg.pp import image, parse

TESTS = os.path.dirname(os.path.abspath(__file__))
GOLDEN = np.load(f"{TESTS}/golden/image.npz")
SHA256 = json.loads(str(GOLDEN["sha256_json"]))
PHOTOS = os.path.join(TESTS, "../../shared/data/coco_free/images")
PNGS = ["gray.png", "rgba.png", "tiny.png"]
JPEGS = [f"{i:012}.jpg" for i in (790, 121647, 84284, 62554)]


def rng():
  return np.random.default_rng(0)


def apply(string, **example):
  return parse.build(string)(example, pp.Turn())


def digest(array):
  return hashlib.sha256(array.tobytes()).hexdigest()


def encoded(array, mode=None, kind="PNG"):
  f = io.BytesIO()
  pixels = Image.fromarray(array)
  (pixels.convert(mode) if mode else pixels).save(f, kind)
  return f.getvalue()


def read(name):
  """The bytes of a golden image; the photos are not part of the repository."""
  if name in GOLDEN:
    return GOLDEN[name].tobytes()
  if not os.path.isdir(PHOTOS):
    pytest.skip("the photos of the golden data are not there")
  with open(f"{PHOTOS}/{name}", "rb") as f:
    return f.read()


NOISE = rng().integers(256, size=(20, 30, 3), dtype=np.uint8)


# The pipeline string.


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


# Images.


@pytest.mark.parametrize("name", PNGS + JPEGS)
def test_resize_hf_equals_the_reference_exactly(name):
  for size in (56, 224):
    out = apply(f"decode | resize({size}, flavour='hf')", image=read(name))
    assert digest(out["image"]) == SHA256[f"{name}|hf|{size}"]


@pytest.mark.parametrize("name", JPEGS)
def test_resize_bv_equals_the_reference_exactly_on_photos(name):
  for size in (56, 224):
    out = apply(f"decode | resize({size})", image=read(name))
    assert digest(out["image"]) == SHA256[f"{name}|bv|{size}"]


@pytest.mark.parametrize("name", PNGS)
def test_resize_bv_equals_the_reference_but_for_rounding_noise(name):
  out = apply("decode | resize(56)", image=read(name))["image"]
  assert out.dtype == np.uint8 and out.flags.c_contiguous
  difference = np.abs(out.astype(int) - GOLDEN[f"{name}/bv56"])
  assert difference.max() <= 1
  assert (difference > 0).mean() < 0.001


def test_decode_gives_rgb_of_every_kind_of_image():
  gray = NOISE[..., 0]
  alpha = np.dstack([NOISE, gray])
  for data, wanted in [
    (encoded(NOISE), NOISE),
    (encoded(gray), np.dstack([gray] * 3)),
    (encoded(alpha), NOISE),
    (encoded(np.uint16(gray) * 257), np.dstack([gray] * 3)),
    (encoded(NOISE, kind="WEBP"), None),
    (encoded(NOISE, "CMYK", kind="JPEG"), None),
    (encoded(NOISE, "P", kind="GIF"), None),
    (encoded(gray > 99), np.dstack([np.uint8(gray > 99) * 255] * 3)),
  ]:
    out = apply("decode", image=data)["image"]
    assert out.shape == (20, 30, 3) and out.dtype == np.uint8
    assert wanted is None or np.array_equal(out, wanted)


def test_decode_and_resize_take_several_images():
  images = [encoded(NOISE), NOISE[:7, :9]]
  out = apply("decode", image=images)["image"]
  np.testing.assert_array_equal(out[0], NOISE)
  np.testing.assert_array_equal(out[1], NOISE[:7, :9])
  out = apply("decode | resize(16)", image=images)["image"]
  assert [x.shape for x in out] == [(16, 16, 3)] * 2


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_image_is_a_value_error():
  whole = encoded(NOISE, kind="JPEG")
  random = rng()
  damaged = [b"", b"GIF89a", b"not an image", b"P6 99999 99999 255\n"]
  for kind in ("PNG", "GIF", "WEBP", "TIFF"):
    data = bytearray(encoded(NOISE, kind=kind))
    for _ in range(50):
      data[random.integers(len(data))] = random.integers(256)
      damaged.append(bytes(data[: random.integers(len(data))]))
  failed = 0
  for data in damaged:
    try:
      apply("decode", image=data)
    except ValueError as e:
      assert str(e).startswith("decode: cannot decode an image of")
      failed += 1
  assert failed > 100
  for data in damaged[:4] + [whole[: len(whole) // 2]]:
    with pytest.raises(ValueError, match="cannot decode"):
      apply("decode", image=data)


@pytest.mark.parametrize(
  "bad",
  [NOISE[..., 0], NOISE[None], NOISE / 255, NOISE[..., :2], "a.jpg", None],
)
def test_an_array_that_is_no_u8_rgb_image_is_refused(bad):
  with pytest.raises(ValueError, match=r"should be bytes or u8\[H, W, 3\]"):
    apply("decode", image=bad)


def test_resize_wants_a_decoded_image_and_a_size():
  with pytest.raises(ValueError, match='put "decode |" before'):
    apply("resize(8)", image=encoded(NOISE))
  with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
    apply("resize(0)", image=NOISE)
  with pytest.raises(ValueError, match='unknown key of the example "image"'):
    apply("resize(8)", img=NOISE)
