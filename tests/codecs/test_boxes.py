"""Boxes survive the way through tokens; no model output breaks the parser."""

import re

import numpy as np
import pytest

from pg.codecs import boxes
from tests.support import written


@pytest.mark.parametrize("doc", [boxes.__doc__, boxes.read.__doc__])
def test_the_examples_in_the_docstrings_are_true(doc):
  example = re.search(r"\n( +\w+\(.*?)\n\n", doc, re.DOTALL)[1]
  assert " ==\n" in example
  assert eval(f"({example})", vars(boxes))


def test_a_box_survives_encoding_to_half_a_bin():
  rng = np.random.default_rng(0)
  for box in rng.random((500, 4)):
    decoded = boxes.decode(boxes.encode(box))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, box, atol=0.5 / 1023 + 1e-6)


def test_every_location_decodes_and_encodes_to_itself():
  for i in range(0, 1024, 4):
    text = "".join(f"<loc{n:04}>" for n in range(i, i + 4))
    assert boxes.encode(boxes.decode(text)) == text


def test_a_box_outside_of_the_image_is_clipped():
  text = boxes.encode((-0.2, 0.5, 1.7, 1.0))
  assert text == "<loc0000><loc0512><loc1023><loc1023>"


@pytest.mark.parametrize(
  "bad", [(0, 0, 1), [(0, 0, 1, 1)], (0, 0, 1, np.nan), (0, 0, np.inf, 1)]
)
def test_what_is_no_box_is_not_encoded(bad):
  with pytest.raises(ValueError, match="four numbers"):
    boxes.encode(bad)


@pytest.mark.parametrize(
  "bad",
  ["", "cat", "<loc0001>" * 3, "<loc0001>" * 5, "<loc1024>" * 4, " <loc0001>"],
)
def test_what_does_not_begin_with_four_locations_is_not_decoded(bad):
  with pytest.raises(ValueError, match="wanted four"):
    boxes.decode(bad)


def test_detect_and_read_are_inverse():
  rng = np.random.default_rng(0)
  names = ["cat", "red car", "", "a < b", "loc", "日本", "x\ny", "<loc12>"]
  for _ in range(200):
    n = rng.integers(6)
    wanted = rng.integers(1024, size=(n, 4)).astype(np.float32) / 1023
    labels = [names[i] for i in rng.integers(len(names), size=n)]
    objects, rest = boxes.read(boxes.detect(wanted, labels))
    assert rest == []
    assert [o.label for o in objects] == labels
    found = np.array([o.box for o in objects]).reshape(-1, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("label", ["a ; b", "a;b", "cat <loc0001>", "<seg001>"])
def test_a_label_that_could_not_be_read_back_is_refused(label):
  with pytest.raises(ValueError, match="ends an object; replace it"):
    boxes.detect([(0, 0, 1, 1)], [label])


def test_boxes_labels_and_codes_must_be_as_many():
  with pytest.raises(ValueError, match="1 boxes and 2 labels"):
    boxes.detect([(0, 0, 1, 1)], ["a", "b"])
  with pytest.raises(ValueError, match="1 boxes and 0 codes"):
    boxes.detect([(0, 0, 1, 1)], ["a"], [])


def test_read_returns_what_is_no_object_as_rest():
  box = "<loc0000><loc0000><loc1023><loc1023>"
  for text, labels, rest in [
    ("", [], []),
    (" ; ;", [], []),
    ("a cat", [], ["a cat"]),
    (f"{box}", [""], []),
    (f"{box}cat;{box}  dog ", ["cat", "dog"], []),
    (f"{box} cat {box} ", ["cat", ""], []),
    (f"two {box} cat ; or ; {box} dog", ["cat", "dog"], ["two", "or"]),
    (f"{box}<loc0001> five", [], [f"{box}<loc0001> five"]),
    ("<loc0000><loc0000><loc1023><loc1024> x", [], None),
    (f"{box[:-1]} cut", [], None),
    (f"{box} cat ; <loc00", ["cat"], ["<loc00"]),
  ]:
    objects, found = boxes.read(text)
    assert [o.label for o in objects] == labels, text
    assert found == rest or (rest is None and len(found) == 1), text


def test_codes_are_exactly_sixteen_behind_the_box():
  box, codes = "<loc0000><loc0000><loc1023><loc1023>", "<seg127>" * 16
  for text, label, found in [
    (f"{box}{codes} cat", "cat", (127,) * 16),
    (f"{box}{codes}", "", (127,) * 16),
    (f"{box}{codes}<seg001> cat", f"{codes}<seg001> cat", ()),
    (f"{box}{codes[:-8]} cat", f"{codes[:-8]} cat", ()),
    (f"{box} {codes} cat", f"{codes} cat", ()),
    (f"{box}{codes[:-8]}<seg128> cat", f"{codes[:-8]}<seg128> cat", ()),
  ]:
    objects, rest = boxes.read(text)
    assert objects == [boxes.Object((0, 0, 1, 1), label, found)] and not rest


def test_what_was_written_with_codes_is_read_and_written_again():
  rng = np.random.default_rng(0)
  for n in range(6):
    wanted = [
      boxes.Object(
        tuple(float(np.float32(x) / np.float32(1023)) for x in place),
        ["cat", "red car", ""][rng.integers(3)],
        tuple(rng.integers(128, size=16).tolist()) if rng.integers(2) else (),
      )
      for place in rng.integers(1024, size=(n, 4))
    ]
    text = written.text(wanted)
    found, rest = boxes.read(text)
    assert found == wanted and rest == []
    assert written.text(found) == text


@pytest.mark.parametrize(
  "bad",
  [[0] * 15, [0] * 17, [128] * 16, [-1] * 16, [0.0] * 16, [[0] * 16], None],
)
def test_what_is_no_mask_code_is_not_encoded(bad):
  with pytest.raises(ValueError, match="wanted 16 codes"):
    boxes.encode_codes(bad)


def test_a_coordinate_is_rounded_in_f32_as_the_reference_does():
  halves = ((np.arange(1020) + 0.5) / 1023).astype(np.float32)
  text = "".join(map(boxes.encode, halves.reshape(-1, 4)))
  wanted = np.round(halves * np.float32(1023)).astype(int)
  assert [int(i) for i in re.findall("[0-9]{4}", text)] == wanted.tolist()


def test_parse_survives_any_string_and_loses_none_of_it():
  rng = np.random.default_rng(0)
  parts = ["<loc0000>", "<loc1023>", "<loc9999>", "<loc１２３４>", "<loc", ">"]
  parts += ["<seg001>", ";", " ; ", " ", "\n", "\0", "cat", "é", "\ud800", "0"]
  parts += ["<loc0001><loc0002><loc0003><loc0004>"] * 3
  parts += ["<seg003>" * 16, "<seg128>", "<seg127>" * 15]
  for _ in range(5000):
    text = "".join(rng.choice(parts, size=rng.integers(12)))
    objects, rest = boxes.read(text)
    for box, _, _ in objects:
      assert all(0 <= x <= 1 for x in box)
    read = ""
    for box, label, codes in objects:
      read += boxes.encode(box) + label
      read += boxes.encode_codes(codes) if codes else ""
    kept = sorted(re.sub(r"[\s;]", "", read + "".join(rest)))
    assert kept == sorted(re.sub(r"[\s;]", "", text))


def test_pixels_scale_height_and_width_apart():
  relative = np.array([[0, 0.5, 0.25, 1], [0, 0, 1, 1]], np.float32)
  pixels = boxes.to_pixels(relative, height=100, width=200)
  np.testing.assert_array_equal(pixels, [[0, 100, 25, 200], [0, 0, 100, 200]])
  assert pixels.dtype == np.float32
  back = boxes.from_pixels(pixels, height=100, width=200)
  np.testing.assert_array_equal(back, relative)


def test_iou_counts_shared_and_covered_pixels():
  rng = np.random.default_rng(0)
  corners = np.sort(rng.integers(9, size=(20, 2, 2)), axis=1).reshape(20, 4)
  masks = np.zeros((20, 9, 9), bool)
  for mask, (y1, x1, y2, x2) in zip(masks, corners):
    mask[y1:y2, x1:x2] = True
  a, b = masks[:8, None], masks[None, 8:]
  covered = np.maximum((a | b).sum((-1, -2)), 1)
  wanted = (a & b).sum((-1, -2)) / covered
  found = boxes.iou(corners[:8], corners[8:])
  assert found.shape == (8, 12) and found.dtype == np.float32
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  assert (wanted > 0).sum() > 10


def test_iou_of_no_or_turned_boxes_is_empty_or_zero():
  whole, turned = np.array([[0, 0, 1, 1]]), np.array([[1, 1, 0, 0]])
  assert boxes.iou(np.zeros((0, 4)), whole).shape == (0, 1)
  assert boxes.iou(turned, turned) == 0 == boxes.iou(turned, whole)
