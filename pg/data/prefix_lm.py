r"""The batch a model takes, and the rows it is made of.

The batch contract, referred to everywhere else:

  image       u8[B, M, R, R, 3]  M images or frames per example (one number per
                                 run; examples that need another M are bucketed)
              or [B, M, I, D]    what a tower makes of them, see features.py
  mask_image  bool[B, M]         False: no such image; its tokens are neither
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

- `make` is for the loss, perplexity and the scoring of options. It has
  L = text_len + 1, because its last token is only a target; learn/loss.py does
  that one shift.
- `make_prompt` is what a model continues. It has L = text_len, no targets, no
  eos, and no suffix or the given start of one.

This is the training row of the prefix "caption en" and the suffix "a cat" at
text_len 8, in Gemma's vocabulary:

  piece       <bos> caption  ▁en   \n      a  ▁cat <eos> <pad> <pad>
  tokens          2   21209  659  108 235250  4401     1     0     0
  mask_input      1       1    1    1      1     1     1     0     0
  mask_ar         0       0    0    0      1     1     1     1     1
  mask_loss       0       0    0    0      1     1     1     0     0
"""

from typing import NamedTuple

import numpy as np

EOS = 1
# How tokens of the prompt attend, and whether they are targets. Released models
# are "full", a prefix-LM; what is learned has to be causal, as a token that
# sees the next one has nothing to learn.
PROMPTS = ("full", "causal", "learned")


class Form(NamedTuple):
  """What a row looks like; the same for all datasets of a run."""

  tok: object  # tokenizer
  res: int  # R, pixels per side
  num_images: int  # M
  text_len: int
  blind: bool = False  # hide all images
  prompt: str = "full"  # of PROMPTS: how the prompt is read


def train_row(form, example):
  """Makes the row to train on or to score.

  Args:
    form: Form.
    example: dict after the ops, with `image` (one or a list), `prefix`,
      `suffix`, and perhaps `no_loss` (see `make`).

  Returns:
    dict of the batch contract, one example, without `source` and `index`.

  Raises:
    ValueError: a key is missing, or images or texts do not fit the form.
  """
  _require(example, ("image", "prefix", "suffix"))
  prefix, suffix = example["prefix"], example["suffix"]
  no_loss = example.get("no_loss", ())
  text = make(prefix, suffix, form.tok, form.text_len, no_loss, form.prompt)
  return _images(example["image"], form) | text


def decode_row(form, example):
  """Makes the row that a model is to continue; it does not see the suffix.

  Args, returns and raises: as `train_row`, without `suffix` and `no_loss`.
  """
  _require(example, ("image", "prefix"))
  text = make_prompt(
    example["prefix"], form.tok, form.text_len, reading=form.prompt
  )
  return _images(example["image"], form) | text


def _require(example, keys):
  for key in keys:
    if key not in example:
      raise ValueError(
        f'the pp left no "{key}" in the example, only'
        f" {', '.join(sorted(example))}"
      )


def _images(images, form):
  """Returns image u8[M, R, R, 3] and mask_image bool[M] of one or a list."""
  images = images if isinstance(images, (list, tuple)) else [images]
  if len(images) > form.num_images:
    raise ValueError(
      f"the example has {len(images)} images and the config num_images ="
      f" {form.num_images}"
    )
  shape = (form.res, form.res, 3)
  out = np.zeros((form.num_images, *shape), np.uint8)
  for i, image in enumerate(images):
    if image.shape != shape:
      raise ValueError(
        f"the image is {image.shape} after the pp and the model takes {shape};"
        f" add resize({form.res}) to the pp"
      )
    if not form.blind:
      out[i] = image
  shown = 0 if form.blind else len(images)
  return {"image": out, "mask_image": np.arange(form.num_images) < shown}


def make(prefix, suffix, tok, text_len, no_loss=(), reading="full"):
  r"""Makes the text row of one example to train on or to score.

  The separator "\n" is tokenised alone, so that no newline at the end of a
  prefix can merge with it. A row that is too long is cut at its end, as
  big_vision does when it trains the released checkpoints; `is_cut` finds it.

  Args:
    prefix: str, what the model is told.
    suffix: str, what it should say.
    tok: a Tokenizer.
    text_len: int, text positions the model runs on.
    no_loss: (start, stop) pairs, characters of the suffix whose tokens are read
      but are no targets, such as the places of made-up boxes.
    reading: str, of PROMPTS.

  Returns:
    dict of numpy rows: tokens i32[L], mask_input, mask_ar, mask_loss bool[L],
    with L = text_len + 1.

  Raises:
    ValueError: a text_len below 1, a text that is not str, or a span of
      `no_loss` that begins or ends within a token.
  """
  given = [tok.bos, *tok.encode(prefix), *tok.sep]
  row = _text(
    given, [*tok.encode(suffix), tok.eos], tok, text_len, text_len + 1, reading
  )
  position = np.arange(text_len + 1)
  first = 1 if reading == "learned" else len(given)
  row["mask_loss"] = row["mask_input"] & (position >= first)
  if no_loss:
    at = len(given) + np.array(_covered(suffix, tok, no_loss), int)
    row["mask_loss"][at[at <= text_len]] = False
  return row


def make_prompt(prefix, tok, text_len, start="", reading="full"):
  """Makes the text row that a model is to continue.

  Args:
    prefix, tok, text_len, reading: as for `make`.
    start: str, the start of the answer that is given to the model. Never pass a
      true answer: the model would only continue it.

  Returns and raises: as `make`, with L = text_len and no targets.
  """
  given = [tok.bos, *tok.encode(prefix), *tok.sep]
  row = _text(given, tok.encode(start), tok, text_len, text_len, reading)
  return row | {"mask_loss": np.zeros(text_len, bool)}


def _text(given, answer, tok, text_len, size, reading):
  """Returns tokens, mask_input and mask_ar [size] of ids, cut or padded."""
  if text_len < 1:
    raise ValueError(f"text_len must be at least 1, got {text_len}")
  ids = (given + answer)[:size]
  tokens = np.full(size, tok.pad, np.int32)
  tokens[: len(ids)] = ids
  position = np.arange(size)
  return {
    "tokens": tokens,
    "mask_input": position < len(ids),
    "mask_ar": position >= (len(given) if reading == "full" else 0),
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
