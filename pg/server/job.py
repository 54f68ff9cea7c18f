"""A request on its way: what is asked, how to answer, and whom to tell."""

import dataclasses
import functools
from typing import NamedTuple

from pg.ask import programs
from pg.decode import slots as slots_lib


class Full(Exception):
  """There are as many requests waiting as may."""


class Stopping(Exception):
  """No request is taken any more."""


class Late(Exception):
  """A request took longer than it may."""


class Piece(NamedTuple):
  """What is new of one of a request's answers."""

  number: int  # which
  tokens: list  # ids
  logp: list
  top: list  # for each token a list of (id, log probability); [] if not asked
  done: bool


@dataclasses.dataclass(eq=False)
class Job:
  """A request: its question, how to answer it, and whom to tell."""

  keys: tuple  # a hash of each image
  look: object  # function that returns the images, u8[M, R, R, 3]
  prompt: str
  size: int  # text tokens of it, bos and separator included
  how: slots_lib.How  # of the first of its answers
  tell: object  # function of a Piece, or of the exception that ends it all
  adapter: str | None = None
  automaton: object = None
  num: int = 1  # answers
  num_top: int = 0  # likeliest tokens to tell of
  deadline: float = float("inf")  # time.monotonic()
  times: dict = dataclasses.field(default_factory=dict)  # seconds by name
  is_over: bool = False

  @property
  def key(self):
    """What a prefix is known by."""
    return self.keys, self.adapter, self.prompt

  @functools.cached_property
  def squares(self):
    """The images u8[M, R, R, 3]; not looked at where they are in a cache."""
    return self.look()

  @property
  def bucket(self):
    """How many images there are, and for which size prompts are compiled."""
    return len(self.keys), programs.fit(self.size)

  def cancel(self):
    """Says that nobody waits for it any more."""
    self.is_over = True

  def fail(self, error):
    """Says why there is no answer, unless nobody waits."""
    if not self.is_over:
      self.is_over = True
      self.tell(error)
