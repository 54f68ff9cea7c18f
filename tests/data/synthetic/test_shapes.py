"""Tests of the made-up examples: what is said follows from what is seen."""

import collections
import hashlib
import re

import pytest

from pg.data.synthetic import scenes, shapes, words
from tests.support import shapes_oracle

GOLDEN = "55ff0c555ef83d4687e3c684d38a9d9209a05248f10b0fdd2d2ace38f559420d"


def rows(task, split, num, res=48):
  source = shapes.Shapes(task, split, res=res, size=num)
  return [source[i] for i in range(num)]


@pytest.mark.parametrize("split", shapes.SPLITS)
@pytest.mark.parametrize("task", [t for t in shapes.TASKS if t != "ocr"])
def test_every_suffix_follows_from_the_pixels(task, split):
  for example in rows(task, split, 25):
    assert shapes_oracle.solve(example) == example["suffix"], example["prefix"]


@pytest.mark.parametrize("split", shapes.SPLITS)
def test_text_is_read_off_the_pixels(split):
  for example in rows("ocr", split, 40):
    assert shapes_oracle.read(example["image"]) == example["suffix"]


def test_answers_are_all_the_orders_of_a_list():
  for example in rows("answer", "test", 100):
    parts = {", ".join(sorted(a.split(", "))) for a in example["answers"]}
    number = {1: 1, 2: 2, 3: 6}[example["suffix"].count(",") + 1]
    assert example["answers"][0] == example["suffix"]
    assert len(parts) == 1 and len(set(example["answers"])) == number


@pytest.mark.parametrize(
  "task, low, high",
  [("yesno", 0.44, 0.56), ("compare", 0.44, 0.56), ("count", 0.16, 0.31)],
)
def test_answers_are_balanced_in_every_split(task, low, high):
  for split in shapes.SPLITS:
    found = collections.Counter(e["suffix"] for e in rows(task, split, 800, 16))
    shares = {answer: n / 800 for answer, n in found.items()}
    assert low <= min(shares.values()) and max(shares.values()) <= high, split


def test_yes_is_as_common_as_no_for_every_form_of_question():
  names = "|".join((*scenes.COLORS, *scenes.SHAPES))
  found = collections.Counter(
    (re.sub(f"\\b({names})\\b", "", e["prefix"]), e["suffix"])
    for e in rows("yesno", "train", 3000, 16)
  )
  forms = {form for form, _ in found}
  assert len(forms) == 2 + 4  # is there, in the image, and four sides
  for form in forms:
    yeses, noes = found[form, "yes"], found[form, "no"]
    assert 0.42 < yeses / (yeses + noes) < 0.58, form


def test_held_out_wordings_are_new_but_their_words_are_not():
  unseen = {wordings[-1] for wordings in words.PROMPTS.values()}
  known = {w for ws in words.PROMPTS.values() for w in ws[:-1]}
  vocabulary = set(" ".join(known).replace("?", "").split())
  assert not unseen & known
  assert set(" ".join(unseen).replace("?", "").split()) <= vocabulary
  for task in shapes.TASKS:
    for split in shapes.SPLITS:
      used = {shapes_oracle.wording(e)[0] for e in rows(task, split, 60, 16)}
      assert used <= (unseen if split == "template" else known), task


def test_the_docstring_shows_a_real_row():
  example = shapes.Shapes("detect_one")[0]
  for key in ("prefix", "suffix"):
    assert f'{key}   "{example[key]}"' in shapes.__doc__
  assert example["boxes"].tolist() == [[0, 0.25, 0.25, 0.5]]
  assert example["labels"] == ["red circle"]


def test_captions_follow_the_grammar_of_their_language():
  items = (
    scenes.Object("white", "cross", scenes.SIZES["small"], 0, 0),
    scenes.Object("black", "square", scenes.SIZES["large"], 0, 4),
    scenes.Object("red", "circle", scenes.SIZES["large"], 4, 0),
  )
  plain = {k: words.captions(items, k)[0] for k in words.LANGUAGES}
  sized = {k: words.captions(items[:2], k)[2] for k in words.LANGUAGES}
  lead = {k: words.captions(items[:1], k)[1] for k in words.LANGUAGES}
  assert plain == {
    "en": "a white cross, a black square and a red circle",
    "de": "ein weißes Kreuz, ein schwarzes Quadrat und ein roter Kreis",
    "es": "una cruz blanca, un cuadrado negro y un círculo rojo",
    "zh": "一个白色的十字形、一个黑色的方形和一个红色的圆形",
  }
  assert sized == {
    "en": "a small white cross and a large black square",
    "de": "ein kleines weißes Kreuz und ein großes schwarzes Quadrat",
    "es": "una cruz blanca pequeña y un cuadrado negro grande",
    "zh": "一个白色的小十字形和一个黑色的大方形",
  }
  assert lead == {
    "en": "there is a white cross",
    "de": "zu sehen ist ein weißes Kreuz",
    "es": "hay una cruz blanca",
    "zh": "图中有一个白色的十字形",
  }


def test_rows_are_the_same_in_every_process():
  digest = hashlib.sha256()
  for task in shapes.TASKS:
    for split in shapes.SPLITS:
      example = shapes.Shapes(task, split)[123]
      for image in shapes_oracle.images(example):
        digest.update(image.tobytes())
      # The codes of masks are the nearest of floats: not the same everywhere.
      place = example["suffix"].split("<seg")[0]
      texts = [example["prefix"], place, example["kind"], example["scene"]]
      digest.update("\n".join(texts).encode())
  assert digest.hexdigest() == GOLDEN, (
    "data of a seed changed: results will too"
  )


def test_what_cannot_be_made_is_refused_with_a_hint():
  with pytest.raises(ValueError, match='did you mean "caption"'):
    shapes.Shapes("captions")
  with pytest.raises(ValueError, match='did you mean "test"'):
    shapes.Shapes("caption", "tests")
  with pytest.raises(ValueError, match="50 is not a multiple of 16"):
    shapes.Shapes("caption", res=50)
  with pytest.raises(ValueError, match="up to 8192"):
    shapes.Shapes("caption", res=2**70)
  source = shapes.Shapes("ocr", "test", size=3)
  assert len(list(source)) == len(source) == 3
  assert source.where(2) == "shapes:ocr/test[2]"
  with pytest.raises(IndexError, match="row -1 of 3"):
    source[-1]
