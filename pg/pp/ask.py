"""Writes questions about the objects of an image from its labels.

PaliGemma's pre-training asks these about Open Images (section 3.2.5 of arXiv
2407.07726). The paper has the questions and not the form of the answers; ours
are words, "yes", "no", "none" and digits, lists with ", ".
"""

import collections
import typing

from pg import pp
from pg.pp import fields

_KINDS = ("what", "is", "which", "many")


@pp.op
def ask(
  example,
  kind: typing.Literal["what", "is", "which", "many", "any"] = "any",
  names: str | list = (),
  num: int = 3,
  *,
  rng,
):
  """Asks about the objects of an image that has labels.

  Of an image with two cats and a dog, where names also has "cow":

    what    answer en What objects are in the image?        cat, dog
    is      answer en Is cow in the image?                  no
    which   answer en Which of cow, dog are in the image?   dog
    many    answer en How many cat?                         2

  Where the image allows it, "is" is answered by yes as often as by no, "which"
  by each number of things as often, and "many" by 0 as often as by the count of
  any one class.

  Args:
    example: dict with "labels", str for each object.
    kind: the question; "any" draws one.
    names: all classes: a list, or the key of one.
    num: how many things "which" asks for.
    rng: what is asked for.

  Raises:
    pp.Skip: nothing is there to ask for.
    ValueError: no labels, or not texts.
  """
  if num < 1:
    raise ValueError(f"num should be at least 1, got {num}")
  counts = collections.Counter(fields.texts_of(example, "labels"))
  there = list(counts)
  lacking = sorted(set(fields.texts_in(example, names)) - set(there))
  if not there + lacking or (kind == "what" and not there):
    raise pp.Skip("'labels' has no object to ask for")
  draw = lambda things, n: [things[i] for i in rng.permutation(len(things))[:n]]

  if kind == "any":
    kind = draw(_KINDS if there else _KINDS[1:], 1)[0]
  if kind == "what":
    question, answer = "What objects are in the image?", ", ".join(there)
  elif kind == "is":
    yes = bool(there) and (not lacking or rng.random() < 0.5)
    (thing,) = draw(there if yes else lacking, 1)
    question, answer = f"Is {thing} in the image?", "yes" if yes else "no"
  elif kind == "which":
    num = min(num, len(there) + len(lacking))
    low, high = max(0, num - len(lacking)), min(num, len(there))
    right = draw(there, rng.integers(low, high + 1))
    things = draw(right + draw(lacking, num - len(right)), num)
    question = f"Which of {', '.join(things)} are in the image?"
    answer = ", ".join(x for x in things if x in counts) or "none"
  else:
    (thing,) = draw(there + draw(lacking, 1), 1)
    question, answer = f"How many {thing}?", str(counts[thing])
  return {"prefix": f"answer en {question}", "suffix": answer}
