"""The tokenizer equals the reference, and says what is wrong with a file."""

import concurrent.futures
import gzip
import io
import json
import pickle

import numpy as np
import pytest
import sentencepiece

from pg.codecs import tokenizer
from tests.support import paths

TEXTS = ["a red circle\nand a blue square", "caption en", "detect red ; blue"]


def train(path, **options):
  """Writes a SentencePiece model of a few dozen pieces, as PaliGemma wants."""
  model = io.BytesIO()
  defaults = dict(
    vocab_size=40,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    normalization_rule_name="identity",
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    user_defined_symbols=["\n"],
    minloglevel=2,
  )
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS * 5),
    model_writer=model,
    **{**defaults, **options},
  )
  path.write_bytes(model.getvalue())
  return path


def golden(name):
  with gzip.open(paths.GOLDEN / name) as f:
    return [json.loads(line) for line in f]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tiny")
  return tokenizer.Tokenizer(train(folder / "tiny.model"))


@pytest.fixture(scope="module")
def gemma():
  return tokenizer.Tokenizer(str(paths.GEMMA))


@pytest.mark.gemma
def test_gemma_equals_the_reference_on_1000_strings(gemma):
  rows = golden("tokenizer.jsonl.gz")
  assert len(rows) == 1000
  for row in rows:
    assert gemma.encode(row["text"]) == row["ids"], row["text"]
    assert gemma.decode(row["ids"]) == row["decoded"], row["text"]


@pytest.mark.gemma
def test_gemma_gives_the_ids_that_the_prefix_lm_test_has_recorded(gemma):
  for row in golden("prefix_lm_ids.jsonl.gz"):
    assert gemma.encode(row["text"]) == row["ids"], row["text"]


@pytest.mark.gemma
def test_gemma_has_the_ids_of_the_released_checkpoints(gemma):
  assert gemma.vocab_size == 257152
  assert gemma.sep == [108]
  assert gemma.encode("<loc0000><loc1023><seg000><seg127>") == [
    256000,
    257023,
    257024,
    257151,
  ]
  shown = gemma.pieces([2, *gemma.encode("caption en"), *gemma.sep, 1, 0])
  assert shown == ["<bos>", "caption", "▁en", "\n", "<eos>", "<pad>"]


def test_committed_tokenizer_reads_back_what_it_writes():
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  text = "detect red circle ; square\n<loc0001><loc0002><loc0003><loc1023> red"
  assert tok.decode(tok.encode(text)) == text


def test_locations_and_segments_follow_the_pieces_of_the_file(tiny):
  first = tiny.vocab_size - 1024 - 128
  assert tiny.pieces([first, first + 1023, first + 1024, first + 1151]) == [
    "<loc0000>",
    "<loc1023>",
    "<seg000>",
    "<seg127>",
  ]
  plain = sentencepiece.SentencePieceProcessor(model_file=str(tiny.path))
  assert first == plain.vocab_size()


def test_locations_are_one_token_anywhere_in_a_text(tiny):
  ids = tiny.encode("red<loc0007>ci<seg012>rcle <loc12> <loc1024>")
  added = [p for p in tiny.pieces(ids) if p in tokenizer.ADDED]
  assert added == ["<loc0007>", "<seg012>"]


def test_decode_ends_at_the_first_eos_and_drops_control_pieces(tiny):
  red, blue = tiny.encode("red"), tiny.encode(" blue")
  ids = [tiny.bos, *red, tiny.pad, *blue, tiny.eos, *red, tiny.eos]
  assert tiny.decode(ids) == "red blue"
  assert tiny.decode(np.array(ids, np.int32)) == "red blue"
  assert tiny.decode([]) == ""


def test_a_file_that_already_has_the_added_pieces_is_used_as_it_is(
  tiny, tmp_path
):
  full = tmp_path / "full.model"
  with open(tiny.path, "rb") as f:
    full.write_bytes(f.read() + tokenizer._added().SerializeToString())
  again = tokenizer.Tokenizer(full)
  assert again.vocab_size == tiny.vocab_size
  assert again.encode("<loc0003>") == tiny.encode("<loc0003>")


def test_a_file_with_only_some_of_the_added_pieces_is_refused(tmp_path):
  path = train(tmp_path / "some.model", user_defined_symbols="\n,<loc0000>")
  with pytest.raises(ValueError, match="not as its last 1152"):
    tokenizer.Tokenizer(path)


def test_a_missing_tokenizer_file_is_named(tmp_path):
  with pytest.raises(ValueError, match="nowhere.model.*No such file"):
    tokenizer.Tokenizer(tmp_path / "nowhere.model")
  with pytest.raises(ValueError, match="directory"):
    tokenizer.Tokenizer(tmp_path)


@pytest.mark.parametrize("content", [b"", b"plain text\n" * 9, bytes(100)])
def test_a_file_that_is_no_sentencepiece_model_is_named(tmp_path, content):
  path = tmp_path / "bad.model"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="bad.model.*not a SentencePiece"):
    tokenizer.Tokenizer(path)


def test_a_file_with_other_special_ids_is_refused(tmp_path):
  path = train(tmp_path / "x.model", bos_id=1, eos_id=2)
  with pytest.raises(ValueError, match=r"\(0, 2, 1\), wanted \(0, 1, 2\)"):
    tokenizer.Tokenizer(path)


def test_a_file_that_drops_newlines_is_refused(tmp_path):
  path = train(
    tmp_path / "x.model",
    normalization_rule_name="nmt_nfkc",
    remove_extra_whitespaces=True,
    user_defined_symbols=[],
  )
  with pytest.raises(ValueError, match="loses the newline"):
    tokenizer.Tokenizer(path)


@pytest.mark.parametrize("bad", [-1, 10**6, 2**70])
def test_an_id_outside_of_the_vocabulary_is_named(tiny, bad):
  for function in (tiny.decode, tiny.pieces):
    with pytest.raises(ValueError, match=f"id {bad} is outside"):
      function([4, bad])


def test_what_is_not_text_is_refused(tiny):
  with pytest.raises(ValueError, match="wants a str, got list"):
    tiny.encode(["red", "blue"])
  with pytest.raises(ValueError, match="not valid Unicode"):
    tiny.encode("half an emoji \ud83d")


def test_a_pickled_tokenizer_is_small_and_encodes_the_same(tiny):
  pickled = pickle.dumps(tiny)
  assert len(pickled) < 1000
  assert pickle.loads(pickled).encode(TEXTS[0]) == tiny.encode(TEXTS[0])


def test_threads_can_share_a_tokenizer(tiny):
  texts = [f"{TEXTS[i % 3]} <loc{i:04}>" for i in range(400)] * 4
  wanted = [tiny.encode(text) for text in texts]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(tiny.encode, texts)) == wanted
    assert list(pool.map(tiny.decode, wanted)) == texts
