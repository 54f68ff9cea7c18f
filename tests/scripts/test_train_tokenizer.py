"""Tests of the tiny tokenizer: its conventions, and what it was trained for."""

import re

import pytest
import sentencepiece

from pg.codecs import tokenizer
from pg.data.synthetic import digits, shapes
from scripts import train_tokenizer


@pytest.fixture(scope="module")
def pieces():
  return sentencepiece.SentencePieceProcessor(model_file=tokenizer.NANO)


def length(pieces, text):
  """Returns the number of tokens, a location or code being one."""
  parts = re.split(r"<loc\d{4}>|<seg\d{3}>", text)
  return len(parts) - 1 + sum(len(pieces.encode(part)) for part in parts)


def test_the_committed_model_is_what_the_script_makes(pieces):
  made = sentencepiece.SentencePieceProcessor(
    model_proto=train_tokenizer.train()
  )
  assert made.vocab_size() == pieces.vocab_size()
  for i in range(pieces.vocab_size()):
    assert made.id_to_piece(i) == pieces.id_to_piece(i)
    assert made.get_score(i) == pieces.get_score(i)


def test_the_conventions_are_gemmas(pieces):
  special = (pieces.pad_id(), pieces.eos_id(), pieces.bos_id(), pieces.unk_id())
  assert special == (0, 1, 2, 3)
  assert len(pieces.encode("\n")) == 1
  assert pieces.encode("\n\n") == 2 * pieces.encode("\n")
  assert pieces.encode("caption en", out_type=str) == ["caption", "▁en"]
  assert pieces.encode("12", out_type=str) == ["1", "2"]
  assert not any("<loc" in pieces.id_to_piece(i) for i in range(768))
  assert pieces.vocab_size() == train_tokenizer.NUM_PIECES == 768


@pytest.mark.parametrize(
  "text",
  [
    "  two  spaces ",
    "ﬁ ½ Å ß",
    "北京 🙂",
    "a\tb\nc\n",
    "ES lautet: größer!",
    "",
  ],
)
def test_any_text_comes_back(pieces, text):
  assert pieces.decode(pieces.encode(text)) == text
  assert pieces.unk_id() not in pieces.encode(text)


def test_every_word_of_the_tasks_is_one_piece(pieces):
  words = set()
  for task in [t for t in shapes.TASKS if t != "ocr"]:
    for example in (shapes.Shapes(task, res=16)[i] for i in range(300)):
      for text in (example["prefix"], *example.get("answers", ())):
        for part in train_tokenizer.BETWEEN.split(text):
          words.update(re.findall(r" ?\w+", part or ""))
  assert {"caption", " en", "red", " red", "一个", " großes", "yes"} <= words
  assert [w for w in words if len(pieces.encode(w)) > 1] == []


@pytest.mark.parametrize("task", shapes.TASKS)
def test_an_example_is_short(pieces, task):
  special = 3  # bos, newline, eos
  most = {"detect": 28, "segment": 29}.get(task, 22)
  for split in shapes.SPLITS:
    for example in (shapes.Shapes(task, split, res=16)[i] for i in range(60)):
      texts = sum(length(pieces, example[k]) for k in ("prefix", "suffix"))
      assert special + texts <= most, example["prefix"]
  assert special + length(pieces, digits.PROMPT) + 1 <= 22


def test_text_that_is_read_is_one_piece_per_character(pieces):
  source = shapes.Shapes("ocr", "test", res=16)
  for i in range(100):
    suffix = source[i]["suffix"]
    found = pieces.encode(suffix, out_type=str)
    assert [p for p in found if len(p.replace("▁", "")) > 1] == [], suffix
