"""What a model answers: text, boxes and masks in the pixels of its image."""

import dataclasses
import functools
import html
import math
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image

from pg.codecs import boxes as box_codec
from pg.codecs import masks as mask_codec
from pg.evals import records
from pg.log.pages import cards, drawing
from pg.pp import masks


class Box(NamedTuple):
  """An object that an answer names."""

  label: str
  box: tuple  # y1 x1 y2 x2, in pixels
  score: float | None  # how likely the label is, 0..1; see records.py


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
  """What a model says about an example."""

  text: str
  tokens: list  # ids, eos included
  logp: list  # log probability of each
  boxes: list  # Box; pixels of `image`
  masks: list  # of each box bool[height, width] like `image`, or None
  score: float  # log probability of the whole
  image: np.ndarray | None  # u8[height, width, 3], the first image, as seen
  others: tuple = ()  # Answers that are less likely, where several were drawn

  def draw(self):
    """Returns the image with boxes and masks drawn, a PIL image.

    Raises:
      ValueError: there is no image.
    """
    if self.image is None:
      raise ValueError("there is no image to draw on: the question had none")
    large, scale = drawing.enlarge(self.image)
    grow = lambda m: None if m is None else m.repeat(scale, 0).repeat(scale, 1)
    boxes = np.array([b.box for b in self.boxes]).reshape(-1, 4) * scale
    labels = [b.label for b in self.boxes]
    drawn = drawing.boxes(large, boxes, labels, list(map(grow, self.masks)))
    return Image.fromarray(drawn)

  def to_json(self):
    """Returns what JSON can say of it: all but images; masks as run lengths."""
    found = [
      box._asdict()
      | ({} if mask is None else {"mask": masks.to_run_lengths(mask)})
      for box, mask in zip(self.boxes, self.masks, strict=True)
    ]
    more = {"others": [x.to_json() for x in self.others]} if self.others else {}
    kept = dict(text=self.text, score=self.score, boxes=found)
    return kept | dict(tokens=self.tokens, logp=self.logp) | more

  def _repr_html_(self):
    picture = ""
    if self.image is not None:
      url, *_ = cards.embed(cards.encode(np.asarray(self.draw())))
      picture = f'<img src="{url}" style="max-width: 100%"><br>'
    return f"{picture}<code>{html.escape(self.text)}</code>"


class Reader:
  """Reads answers from tokens: text, and the boxes and masks it describes."""

  def __init__(self, tok, codec):
    """Takes a Tokenizer, and what mask codes mean: a path or URL, or "nano"."""
    self._tok, self._codec = tok, codec

  def read(self, tokens, logp, image):
    """Returns the Answer of tokens.

    Args:
      tokens: list of ids.
      logp: list of float, the log probability of each.
      image: u8[height, width, 3] or None, what the answer is about.
    """
    text = self._tok.decode(tokens)
    boxes, found = [], []
    if image is not None:
      objects, _ = box_codec.read(text)
      scores = records.object_scores(self._tok, tokens, logp)
      scores = scores or [None] * len(objects)
      for thing, score in zip(objects, scores, strict=True):
        (box,) = box_codec.to_pixels(np.array([thing.box]), *image.shape[:2])
        box = tuple(round(float(x), 1) for x in box)
        boxes.append(Box(thing.label, box, score))
        found.append(self.mask(thing, image.shape[:2]))
    return Answer(text, tokens, logp, boxes, found, math.fsum(logp), image)

  def mask(self, thing, size):
    """Returns the mask bool[height, width] of an object, None without one."""
    if not thing.codes or self._network is None:
      return None
    decoded = mask_codec.decode(self._network, thing.codes)
    return mask_codec.paste(decoded, thing.box, *size)

  @functools.cached_property
  def _network(self):
    """The codec's network; None, with a warning, where it cannot be had."""
    try:
      return masks.network(self._codec)
    except (ValueError, OSError, ImportError) as error:
      warnings.warn(
        f"masks are not decoded: {error}; name the codec's file", stacklevel=2
      )
