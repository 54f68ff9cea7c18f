"""The tokenizer.json that is made has our ids."""

import gzip
import json

import pytest

from pg.codecs import tokenizer
from pg.weights import hf_tokenizer
from tests.support import paths

GOLDEN = paths.GOLDEN / "tokenizer.jsonl.gz"
# Text like this is special there, and not to SentencePiece.
CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<image>")


@pytest.mark.parametrize(
  "path",
  [
    pytest.param(tokenizer.NANO, id="nano"),
    pytest.param(
      str(paths.GEMMA), marks=[pytest.mark.slow, pytest.mark.gemma], id="gemma"
    ),
  ],
)
def test_ids_equal_ours_on_a_thousand_strings(path):
  with gzip.open(GOLDEN, "rt", encoding="utf-8") as f:
    texts = [json.loads(line)["text"] for line in f]
  texts = [t for t in texts if not any(piece in t for piece in CONTROL)]
  assert len(texts) > 990
  made = hf_tokenizer.build(path)
  ours = tokenizer.Tokenizer(path)
  for text in texts:
    ids = made.encode(text, add_special_tokens=False).ids
    assert ids == ours.encode(text), text


def test_the_image_has_the_first_id_behind_the_vocabulary():
  made = hf_tokenizer.build(tokenizer.NANO)
  size = tokenizer.Tokenizer(tokenizer.NANO).vocab_size
  assert made.token_to_id("<image>") == size
  assert made.get_vocab_size() == size + 1
