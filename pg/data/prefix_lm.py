r"""The batch a model takes, and the text rows in it.

The batch contract, referred to everywhere else:

  image       u8[B, F, H, W, 3]  F images or frames per example (one number per
                                 run; examples that need another F are bucketed)
  mask_image  bool[B, F]         False: no such image; its tokens are neither
                                 keys nor counted in positions
  tokens      i32[B, L]          bos prefix "\n" suffix eos pad...
  mask_input  bool[B, L]         a real token, not padding
  mask_ar     bool[B, L]         attends causally (suffix, padding);
                                 False: full attention (image, prefix)
  mask_loss   bool[B, L]         is a target (suffix and eos)
  source      i32[B]             which dataset of the mixture
  index       i32[B]             row in that dataset; -1: a padding example

A config's `text_len` is the number of text positions the model runs on. There
are two forms of the text rows:

- "train" is for the loss, perplexity and the scoring of options. It has
  L = text_len + 1, because its last token is only a target; learn/loss.py does
  that one shift.
- "decode" is what a model continues. It has L = text_len, no targets, no eos,
  and no suffix or the given start of one.

This is the training row of the prefix "caption en" and the suffix "a cat" at
text_len 8, in Gemma's vocabulary:

  piece       <bos> caption  ▁en   \n      a  ▁cat <eos> <pad> <pad>
  tokens          2   21209  659  108 235250  4401     1     0     0
  mask_input      1       1    1    1      1     1     1     0     0
  mask_ar         0       0    0    0      1     1     1     1     1
  mask_loss       0       0    0    0      1     1     1     0     0
"""

import numpy as np

FORMS = ("train", "decode")
EOS = 1


def make(prefix, suffix, tok, text_len, form, no_loss=()):
  r"""Makes the text row of one example.

  The separator "\n" is tokenised alone, so that no newline at the end of a
  prefix can merge with it. A row that is too long is cut at its end, as
  big_vision does when it trains the released checkpoints; `is_cut` finds it.

  Args:
    prefix: str, what the model is told.
    suffix: str, form "train": what it should say; form "decode": the start of
      its answer that is given to it, normally "". Never pass a true answer
      when decoding: the model would only continue it.
    tok: a Tokenizer.
    text_len: int, text positions the model runs on.
    form: "train" or "decode".
    no_loss: (start, stop) pairs, characters of the suffix whose tokens are read
      but are no targets, such as the places of made-up boxes.

  Returns:
    dict of numpy rows: tokens i32[L], mask_input, mask_ar, mask_loss bool[L];
    L is text_len + 1 in form "train" and text_len in form "decode".

  Raises:
    ValueError: an unknown form, a text_len below 1, a text that is not str, or
      a span of `no_loss` that begins or ends within a token.
  """
  if form not in FORMS:
    raise ValueError(f"form {form!r} is not one of {', '.join(FORMS)}")
  if text_len < 1:
    raise ValueError(f"text_len must be at least 1, got {text_len}")
  train = form == "train"
  given = [tok.bos, *tok.encode(prefix), *tok.sep]
  answer = tok.encode(suffix) + [tok.eos] * train
  num_given, num_real = len(given), len(given) + len(answer)

  position = np.arange(text_len + train)
  tokens = np.full(len(position), tok.pad, np.int32)
  ids = (given + answer)[: len(position)]
  tokens[: len(ids)] = ids
  mask_input = position < num_real
  mask_ar = position >= num_given
  mask_loss = mask_input & mask_ar & train
  if no_loss and train:
    given_up = num_given + np.array(_covered(suffix, tok, no_loss), int)
    mask_loss[given_up[given_up < len(mask_loss)]] = False
  return {
    "tokens": tokens,
    "mask_input": mask_input,
    "mask_ar": mask_ar,
    "mask_loss": mask_loss,
  }


def _covered(text, tok, spans):
  """Returns which tokens of a text are within spans of its characters."""
  found = []
  for i, (begin, end) in enumerate(tok.spans(text)):
    for start, stop in spans:
      inside = start <= begin and end <= stop
      if not inside and begin < stop and start < end:
        raise ValueError(
          f"no_loss: ({start}, {stop}) begins or ends within the token"
          f" {text[begin:end]!r} of {text[:80]!r}"
        )
      if inside and begin < end:
        found.append(i)
  return found


def is_cut(rows):
  """Finds rows that lost their end because the text was too long.

  A training row is cut exactly if it has no eos target. A decoding row does
  not say what it lost, so one that is filled to its last position counts: its
  separator, or the end of a given start, was lost or only just fitted. This
  never misses a cut; at one more position of text_len an exact fit is gone.

  Args:
    rows: dict with tokens, mask_input and mask_loss of one row [L] or a batch
      [B, L], from `make`.

  Returns:
    bool[] or bool[B]; False for padding examples.
  """
  last_is_eos = rows["mask_loss"][..., -1] & (rows["tokens"][..., -1] == EOS)
  return rows["mask_input"][..., -1] & ~last_is_eos
