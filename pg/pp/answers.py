"""Ops that choose among several answers, captions or options."""

import collections
import numbers
import string
import typing
import zlib

import numpy as np

from pg import pp
from pg.pp import fields, text

# As in big_vision's configs/proj/paligemma/transfers/science_qa.py, where too
# "AL" adds the solution and "AE" the lecture.
_QUESTIONS = {
  "simple": "{question}\nOptions: {options}",
  "QM": "Question: {question}\nOptions: {options}\nAnswer:",
  "QCM": "Question: {question}\nContext: {hint}\nOptions: {options}\nAnswer:",
  "CQM": "Context: {hint}\nQuestion: {question}\nOptions: {options}\nAnswer:",
}
_ANSWERS = {
  "simple": "{letter}",
  "A": "The answer is {letter}.",
  "AL": "The answer is {letter}. BECAUSE: {solution}",
  "AE": "The answer is {letter}. BECAUSE: {lecture}",
  "ALE": "The answer is {letter}. BECAUSE: {lecture} {solution}",
}


@pp.op
def choice(example, key: str | list, out: str | list, *, rng):
  """Picks one of a list at random: `choice("answers", out="suffix")`.

  Lists of keys pick the same place of several lists:
  `choice(["boxes", "captions"], out=["box", "suffix"])`.

  Raises:
    ValueError: no such key, not a list, an empty one, or lists of different
      lengths.
  """
  columns, outs = _columns(example, key, out)
  place = rng.integers(len(columns[0]))
  return {o: column[place] for o, column in zip(outs, columns)}


@pp.op
def cycle(example, key: str | list, out: str | list, *, turn):
  """Picks another of a list in each epoch: `cycle("answers", out="suffix")`.

  Of n values, epochs 0 to n - 1 see each once in a random order, the next n
  epochs in another one, and so on (big_vision's `choice_no_replacement`, but a
  function of seed, row and epoch). Lists of keys as in `choice`.
  """
  columns, outs = _columns(example, key, out)
  num = len(columns[0])
  # By name, so that two of them in one pipeline do not go hand in hand.
  stream = zlib.crc32("\n".join(fields.names(key)).encode(errors="replace"))
  order = turn.rng(stream, epoch=turn.epoch // num).permutation(num)
  place = order[turn.epoch % num]
  return {o: column[place] for o, column in zip(outs, columns)}


@pp.op
def majority(example, key: str, out: str):
  """Picks the most frequent of a list of texts, of equals the first."""
  _filled(example, key)
  counts = collections.Counter(fields.texts_of(example, key))
  return {out: counts.most_common(1)[0][0]}


@pp.op
def pick(example, key: str | list, index: str | int, out: str):
  """Picks one of a list by index: `pick("choices", "answer", out="suffix")`.

  Args:
    example: dict.
    key: the list's key, or the list itself, such as ["no", "yes"].
    index: the key of a place from 0 (False is 0, True is 1), or the place.
    out: the key of what is picked.
  """
  values = key if isinstance(key, list) else fields.list_of(example, key)
  place = _place(example, index, len(values))
  return {out: values[place]}


@pp.op
def shuffle_options(example, options: str, answer: str, *, rng):
  """Shuffles options and follows the right one; for training only.

  Args:
    example: dict with a list `options`.
    options: its key.
    answer: the key of the right one's place (int) or text, which stays.
    rng: the order.

  Raises:
    ValueError: no such key, no list, or an answer that is no option.
  """
  values = _filled(example, options)
  order = rng.permutation(len(values))
  shuffled = [values[i] for i in order]
  if isinstance(pp.get(example, answer), str):
    if example[answer] not in fields.texts_of(example, options):
      raise ValueError(f"{answer!r} {example[answer]!r} is not in {options!r}")
    return {options: shuffled}
  place = _place(example, answer, len(values))
  return {options: shuffled, answer: order.tolist().index(place)}


@pp.op
def science_qa(
  example,
  question: typing.Literal[*_QUESTIONS] = "QCM",
  answer: typing.Literal[*_ANSWERS] = "A",
):
  """Writes a ScienceQA question and its answer with lettered options.

    Question: Which is a solid?
    Context: N/A
    Options: (A) milk, (B) rock
    Answer:                                ->   The answer is B.

  Args:
    example: dict with `question`, `choices`, `answer` (a place from 0), and
      where the form has them `hint`, `lecture` and `solution`.
    question: "QCM", "CQM", "QM" or "simple": question, context, options.
    answer: "A", "AL", "AE", "ALE" or "simple": answer, lecture, explanation.
  """
  choices = fields.texts_of(example, "choices")
  if not 0 < len(choices) <= 26:
    raise ValueError(f"'choices' should be 1 to 26, got {len(choices)}")
  lettered = zip(string.ascii_uppercase, choices)
  place = _place(example, "answer", len(choices))
  filled = {
    **example,
    "options": ", ".join(f"({x}) {choice}" for x, choice in lettered),
    "letter": string.ascii_uppercase[place],
  }
  if isinstance(example.get("hint"), str) and not example["hint"]:
    filled["hint"] = "N/A"
  return {
    **text.fmt(filled, _QUESTIONS[question], "prefix"),
    **text.fmt(filled, _ANSWERS[answer], "suffix"),
  }


def _filled(example, key):
  """Returns a list of at least one."""
  values = fields.list_of(example, key)
  if not len(values):
    raise ValueError(f"{key!r} should be a list of at least one, got {values}")
  return values


def _columns(example, keys, outs):
  """Returns the lists of `keys`, equally long, and the names in `outs`."""
  keys, outs = fields.names(keys), fields.names(outs)
  if not keys or len(keys) != len(outs):
    raise ValueError(f"got {len(keys)} keys {keys} for {len(outs)} out {outs}")
  columns = [_filled(example, key) for key in keys]
  for key, column in zip(keys, columns):
    if len(column) != len(columns[0]):
      raise ValueError(
        f"{key!r} has {len(column)} items and {keys[0]!r} {len(columns[0])}"
      )
  return columns, outs


def _place(example, index, num):
  """Returns a place in a list of `num`, an int or the key of one."""
  value = pp.get(example, index) if isinstance(index, str) else index
  if not isinstance(value, numbers.Integral | np.bool_):
    raise ValueError(
      f"{index!r} should be a place from 0, but is {type(value).__name__}"
    )
  if not 0 <= value < num:
    raise ValueError(f"{index!r} is {value}, and the list has {num} items")
  return int(value)
