"""Text rows equal those the released checkpoints were trained with."""

import gzip
import json
import re

import numpy as np
import pytest

from pg.codecs import tokenizer
from pg.data import prefix_lm
from tests.support import paths

GOLDEN = paths.GOLDEN
MASKS = ("mask_input", "mask_ar", "mask_loss")


def lines(name):
  with gzip.open(f"{GOLDEN}/{name}") as f:
    return [json.loads(line) for line in f]


class Recorded:
  """Gives the ids that Gemma's tokenizer gave when the goldens were made."""

  pad, eos, bos, sep = 0, 1, 2, [108]

  def __init__(self):
    rows = lines("prefix_lm_ids.jsonl.gz")
    self.encode = {row["text"]: row["ids"] for row in rows}.__getitem__


TOK = Recorded()
ROWS = lines("prefix_lm.jsonl.gz")


def assert_equal(row, wanted):
  np.testing.assert_array_equal(row["tokens"], wanted["text"])
  for mask in MASKS:
    if mask in wanted:
      np.testing.assert_array_equal(row[mask], np.array(wanted[mask], bool))


def test_training_rows_equal_the_reference():
  assert len(ROWS) == 67
  for line in ROWS:
    text_len = line["text_len"]
    row = prefix_lm.make(line["prefix"], line["suffix"], TOK, text_len)
    assert_equal(row, line["train"])


def test_decoding_rows_equal_the_reference_with_and_without_a_given_start():
  for line in ROWS:
    for suffix, name in (("", "eval"), (line["suffix"], "eval_with_suffix")):
      row = prefix_lm.make_prompt(line["prefix"], TOK, line["text_len"], suffix)
      assert_equal(row, line[name])
      assert not row["mask_loss"].any()


def test_rows_have_the_dtypes_and_lengths_of_the_contract():
  whole = prefix_lm.make("caption en", "a cat", TOK, 8)
  prompt = prefix_lm.make_prompt("caption en", TOK, 8, "a cat")
  for row, length in ((whole, 9), (prompt, 8)):
    assert set(row) == {"tokens", *MASKS}
    assert row["tokens"].dtype == np.int32
    assert all(row[mask].dtype == bool for mask in MASKS)
    assert all(len(value) == length for value in row.values())


def test_the_worked_example_in_the_docstring_is_true():
  table = re.findall(
    r"^  (tokens|mask_\w+) +([\d ]+)$", prefix_lm.__doc__, re.M
  )
  assert len(table) == 4
  row = prefix_lm.make("caption en", "a cat", TOK, 8)
  for name, numbers in table:
    np.testing.assert_array_equal(row[name], [int(n) for n in numbers.split()])


def test_training_rows_are_cut_exactly_where_the_eos_target_is_lost():
  cut = 0
  for line in ROWS:
    text_len = line["text_len"]
    texts = line["prefix"], line["suffix"]
    whole = sum(len(TOK.encode(text)) for text in texts) + 3 <= text_len + 1
    row = prefix_lm.make(*texts, TOK, text_len)
    assert prefix_lm.is_cut(row) == (not whole), line["prefix"]
    cut += not whole
  assert cut > 10


def test_decoding_rows_are_cut_where_no_position_is_left():
  for line in ROWS:
    for suffix in ("", line["suffix"]):
      ids = TOK.encode(line["prefix"]) + TOK.encode(suffix)
      row = prefix_lm.make_prompt(line["prefix"], TOK, line["text_len"], suffix)
      assert prefix_lm.is_cut(row) == (len(ids) + 2 >= line["text_len"])


def test_cut_rows_of_a_batch_are_found_and_padding_examples_are_not():
  rows = [
    prefix_lm.make("caption en", "a cat on a mat", TOK, n)
    for n in (16, 9, 8, 4)
  ]
  width = 17
  padded = [
    {k: np.pad(v, (width - len(v), 0)) for k, v in row.items()} for row in rows
  ]
  padded.append({k: np.zeros_like(v) for k, v in padded[0].items()})
  batch = {k: np.stack([row[k] for row in padded]) for k in padded[0]}
  np.testing.assert_array_equal(
    prefix_lm.is_cut(batch), [False, False, True, True, False]
  )


def test_eos_is_the_tokenizers():
  assert prefix_lm.EOS == tokenizer.Tokenizer.eos == TOK.eos


def test_an_empty_row_is_refused():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    prefix_lm.make_prompt("caption en", TOK, 0)


@pytest.mark.parametrize(
  "reading, ar, loss",
  (
    ("full", "0000111", "0000111"),
    ("causal", "1111111", "0000111"),
    ("learned", "1111111", "0111111"),
  ),
)
def test_a_prompt_may_be_read_causally_and_learned(reading, ar, loss):
  bits = lambda mask: "".join(map(str, mask.astype(int)))
  row = prefix_lm.make("caption en", "a cat", TOK, 8, reading=reading)
  assert (bits(row["mask_ar"]), bits(row["mask_loss"])) == (
    ar + "11",
    loss + "00",
  )
  prompt = prefix_lm.make_prompt("caption en", TOK, 8, reading=reading)
  assert bits(prompt["mask_ar"]) == ar[:4] + "1111"
  image = np.zeros((4, 4, 3), np.uint8)
  example = dict(image=image, prefix="caption en", suffix="a cat")
  form = prefix_lm.Form(TOK, 4, 1, 8, prompt=reading)
  rows = prefix_lm.train_row(form, example), prefix_lm.decode_row(form, example)
  for made, wanted in zip(rows, (row, prompt)):
    assert all((made[k] == v).all() for k, v in wanted.items())


def test_spans_without_loss_are_read_but_are_no_targets():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  suffix = "<loc0001><loc0002><loc0003><loc0004> red ; <loc0009> x"
  spans = [(0, 36), (suffix.index("<loc0009>"), len(suffix) - 2)]
  plain = prefix_lm.make("detect", suffix, tok, 30)
  row = prefix_lm.make("detect", suffix, tok, 30, spans)
  for key in ("tokens", "mask_input", "mask_ar"):
    np.testing.assert_array_equal(row[key], plain[key])
  lost = tok.pieces(row["tokens"][plain["mask_loss"] & ~row["mask_loss"]])
  assert lost == [f"<loc000{i}>" for i in (1, 2, 3, 4, 9)]
  assert not (row["mask_loss"] & ~plain["mask_loss"]).any()


def test_a_span_without_loss_may_reach_behind_the_row_but_cut_no_token():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  row = prefix_lm.make("a", "<loc0001>" * 9, tok, 6, [(0, 81)])
  assert not row["mask_loss"].any()
  with pytest.raises(ValueError, match="within the token '<loc0001>'"):
    prefix_lm.make("a", "<loc0001>", tok, 6, [(0, 4)])


def test_the_characters_of_tokens_are_where_they_stand_in_the_text():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  text = "ein weißes Kreuz <loc0512> 圆形 red"
  spans, ids = tok.spans(text), tok.encode(text)
  assert len(spans) == len(ids)
  assert "".join(text[a:b] for a, b in spans) == text
  assert "<loc0512>" in [text[a:b] for a, b in spans]
