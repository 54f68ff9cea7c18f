"""How a model is to answer: lengths, samples, beams, what an answer may be."""

import functools
from typing import NamedTuple

import numpy as np

from pg import config
from pg.ask import programs
from pg.decode import constraint, sampling

MAX_LEN = 128  # tokens, where the weights do not say with how many they trained


class Options(NamedTuple):
  """How to answer; see `Model.answers`."""

  max_len: int | None = None
  num_beams: int = 1
  length_penalty: float | None = None
  sampler: sampling.Sampler = sampling.Sampler()
  num_samples: int = 1
  start: str = ""
  stop: tuple = ()
  constrain: object = None

  def checked(self, tok, text_len):
    """Returns them with their defaults, and stop as ids i32[n].

    Args:
      tok: the model's Tokenizer.
      text_len: int, tokens that it read in training.

    Raises:
      ValueError: they make no sense.
    """
    for name in ("num_beams", "num_samples"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; wanted 1 or more")
    if self.num_samples > 1 and not self.sampler.temperature:
      raise ValueError("num_samples without a temperature: all would be equal")
    if self.num_beams > 1 and self.sampler.temperature:
      raise ValueError("num_beams or a temperature: beams are not sampled")
    texts = [self.stop] if isinstance(self.stop, str) else list(self.stop)
    stop = [tok.encode(text) for text in texts]
    for text, ids in zip(texts, stop, strict=True):
      if len(ids) != 1:
        raise ValueError(f"stop: {text!r} is {len(ids)} tokens, wanted one")
    stop = np.array([tok.eos, *(ids[0] for ids in stop)], np.int32)
    form, limit, longest = self.constrain, min(text_len, MAX_LEN), ""
    if isinstance(form, list | tuple | set) and not hasattr(form, "classes"):
      texts = sorted(form)
      form = constraint.one_of(tok, texts)
      longest = max(texts, key=lambda text: len(tok.encode(text)))
      limit = len(tok.encode(longest)) + 1  # and eos
    limit = limit if self.max_len is None else self.max_len
    room, size = min(limit, programs.SIZES[-1]), len(tok.encode(longest))
    if size > room >= 1:
      raise ValueError(
        f"the option {longest[:40]!r} has {size} tokens, and {room} fit;"
        " shorten it, or raise max_len"
      )
    if not 1 <= limit <= programs.SIZES[-1]:
      raise ValueError(f"max_len is {limit}; wanted 1 to {programs.SIZES[-1]}")
    return self._replace(max_len=limit, stop=stop, constrain=form)

  def cut(self, tokens):
    """Returns tokens up to the first that ends the answer, this included."""
    ends = [i for i, token in enumerate(tokens) if token in self.stop]
    return tokens[: ends[0] + 1] if ends else tokens[: self.max_len]


def automaton(tok, prompt, constrain):
  """Returns the constraint.Automaton of a prompt's answers, or None.

  Args:
    tok: Tokenizer.
    prompt: str.
    constrain: of Options, after `checked`.

  Raises:
    ValueError: the prompt does not say what is constrained.
  """
  if not isinstance(constrain, str):
    return constrain
  config.lookup(dict.fromkeys(("boxes", "masks")), constrain, "constrain")
  task, _, names = prompt.partition(" ")
  wanted = {"boxes": "detect", "masks": "segment"}[constrain]
  if task != wanted or not names.strip():
    raise ValueError(
      f'{constrain} answer a prompt such as "{wanted} cat ; dog", not'
      f" {prompt[:60]!r}"
    )
  names = tuple(name.strip() for name in names.split(";"))
  return _objects(tok, names, constrain == "masks")


@functools.lru_cache(maxsize=64)
def _objects(tok, labels, masks):
  return constraint.objects(tok, labels=labels, masks=masks)
