"""An answer while it is written: text, where it stops, what it points at."""

import numpy as np
from pycocotools import mask as coco

from pg.server import wire


class Answer:
  """One of a request's answers."""

  def __init__(self, tok, stop, *, logprobs=False):
    """Takes a Tokenizer, texts that end it, whether logprobs are wanted."""
    self._tok, self._stop, self._logprobs = tok, stop, logprobs
    self._told, self._all = 0, []  # characters, logprobs
    self.tokens, self.logp, self.text = [], [], ""
    self.reason, self.objects = None, []

  @property
  def logprobs(self):
    """What OpenAI's clients expect, or None."""
    return dict(content=self._all, refusal=None) if self._logprobs else None

  @property
  def points(self):
    """Whether there may be objects."""
    return "<loc" in self.text

  def feed(self, piece):
    """Takes a job.Piece; returns the text that is certain, and its logprobs."""
    tok, eos = self._tok, self._tok.eos
    begun = len(self.tokens)
    self.tokens += piece.tokens
    self.logp += piece.logp
    ended = self.tokens[-1:] == [eos]
    text = tok.decode(self.tokens)
    found = [at for at in map(text.find, self._stop) if at >= 0]
    if found:
      text = text[: min(found)]
      # Tokens as far as the text goes.
      while len(tok.decode(self.tokens[:-1])) >= len(text) and self.tokens:
        self.tokens.pop()
      self.logp = self.logp[: len(self.tokens)]
      self.reason = "stop"
    elif piece.done:
      self.reason = "stop" if ended else "length"
    self.text = text
    end = len(text) if self.reason else len(text) - self._open(text)
    new, self._told = text[self._told : end], max(self._told, end)
    told = []
    if self._logprobs:
      tops = piece.top or [()] * len(piece.tokens)
      for i, logp, top in zip(piece.tokens, piece.logp, tops):
        if i != eos and begun < len(self.tokens):
          told.append(wire.logprob(tok, i, logp, top))
        begun += 1
      self._all += told
    return new, told

  def _open(self, text):
    """Returns how many of the last characters may yet change or not be told."""
    num = len(text) - len(text.rstrip("\ufffd"))
    for stop in self._stop:
      sizes = range(min(len(stop) - 1, len(text)), 0, -1)
      ends = (n for n in sizes if text.endswith(stop[:n]))
      num = max(num, next(ends, 0))
    return num

  def read(self, reader, size):
    """Reads boxes and masks.

    Args:
      reader: ask.answer.Reader.
      size: (height, width) of the first image.
    """
    image = np.broadcast_to(np.uint8(0), (*size, 3))
    found = reader.read(self.tokens, self.logp, image)
    self.objects = [
      dict(
        label=box.label,
        box=[*map(float, box.box)],
        score=box.score,
        mask=None if mask is None else run_lengths(mask),
      )
      for box, mask in zip(found.boxes, found.masks, strict=True)
    ]


def run_lengths(mask):
  """Returns COCO's compressed run lengths of a mask bool[height, width]."""
  found = coco.encode(np.asfortranarray(mask, np.uint8))
  return dict(size=found["size"], counts=found["counts"].decode())
