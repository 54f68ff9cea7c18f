"""Makes pg/codecs/nano.model, the tiny tokenizer of the embedded data.

  python -m scripts.train_tokenizer

A SentencePiece BPE model in Gemma's conventions: pad 0, eos 1, bos 2, unk 3,
then a piece for each byte, so that any text survives; "\\n" is a piece; text is
not normalised, spaces are kept, digits stand alone. The <loc> and <seg> pieces
are not in it, pg/codecs/tokenizer.py appends them to every model.

The same command makes the same bytes (with the same sentencepiece).
"""

import io
import re
import string

import sentencepiece

from pg.codecs import tokenizer
from pg.data.synthetic import digits, shapes

NUM_PIECES = 768  # a few more than the words of all tasks take
ROWS = 600  # per task

# Locations are not learned. Pieces end at spaces, which Chinese has not: its
# words are cut out, or phrases with a colour and a shape would become pieces.
BETWEEN = re.compile(r"(?:<loc\d{4}>)+|(图中有|一个|的|大|小|、|和)")


def sentences():
  """Yields text like that of training, without locations."""
  for task in shapes.TASKS:
    source = shapes.Shapes(task, res=16)
    for i in range(ROWS):
      example = source[i]
      texts = [example["prefix"], *example.get("answers", ())]
      if task != "segment":  # codes, and a name that the prompt has too
        texts.append(example["suffix"])
      for text in texts:
        yield from filter(None, BETWEEN.split(text))
  for _ in range(ROWS):
    yield digits.PROMPT
  yield from string.printable.strip()


def train():
  """Returns the bytes of the SentencePiece model."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=sentences(),
    model_writer=model,
    model_type="bpe",
    vocab_size=NUM_PIECES,
    character_coverage=1.0,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    pad_piece="<pad>",
    eos_piece="<eos>",
    bos_piece="<bos>",
    unk_piece="<unk>",
    user_defined_symbols=["\n"],
    byte_fallback=True,
    split_digits=True,
    normalization_rule_name="identity",
    add_dummy_prefix=False,
    remove_extra_whitespaces=False,
    minloglevel=2,
  )
  return model.getvalue()


def main():
  model = train()
  with open(tokenizer.NANO, "wb") as f:
    f.write(model)
  print(f"{tokenizer.NANO}: {NUM_PIECES} pieces, {len(model)} bytes")


if __name__ == "__main__":
  main()
