"""Detection and segmentation ops: boxes and labels -> prefix and suffix.

`detect` and `segment` write all objects of an example in their order; the ops
of objects.py choose which and in what order:

  objects("random", crowd=False, max_objects=20) | detect()

    prefix   "detect cat ; red car"
    suffix   "<loc0000><loc0000><loc1023><loc1023> cat ; "
             "<loc0000><loc0256><loc0512><loc1023> red car"

Other forms need no op of their own. A referring expression (the prefix is only
the sentence) and a grounded caption are

  fmt("{sentence}", out="prefix") | loc("box", codes="codes", out="suffix")
  loc("box", out="where") | fmt("caption {where}", out="prefix")

With `text_len`, that of the config, and `tokenizer`, the path of the
SentencePiece file that counts tokens, objects for which a row has no room are
left out.
"""

import numpy as np

from pg import pp
from pg.codecs import boxes as boxes_lib
from pg.pp import budget, fields, objects


@pp.op
def detect(
  example,
  classes: str | None = None,
  text_len: int | None = None,
  tokenizer: str = "",
):
  """Asks for the boxes of classes: "detect a ; b" -> "<loc....>x4 a ; ...".

  A class that the image lacks gets no object, and if it has none at all the
  suffix is empty: the model learns to say eos at once. No published recipe asks
  for what is not there; this is the format read to its end. Objects are left
  out from the end, and with them classes that lost all of theirs.

  Args:
    example: dict with "boxes" and "labels".
    classes: the key of the list of classes to ask for; None asks for those of
      "labels", in their order.

  Raises:
    pp.Skip: there is no class to ask for.
    ValueError: a key that is missing or of another type, a box that is not in
      0..1, a label that cannot be written or is not in `classes`, a text_len
      without a tokenizer or too short for one object.
  """
  return _ask("detect", example, None, classes, text_len, tokenizer)


@pp.op
def segment(
  example,
  classes: str | None = None,
  text_len: int | None = None,
  tokenizer: str = "",
):
  """Asks for boxes and masks: "segment a" -> "<loc....>x4<seg...>x16 a".

  As `detect`, of an example that also has "codes", 16 for each object.
  """
  codes = fields.list_of(example, "codes")
  return _ask("segment", example, codes, classes, text_len, tokenizer)


@pp.op
def detect_all(
  example,
  num: int,
  noise: str = "<unused0>",
  text_len: int | None = None,
  tokenizer: str = "",
  *,
  rng,
):
  """Asks for all objects, padded with noise: PaliGemma 2, appendix C.

  The prefix is "detect all classes" and the suffix `num` objects: those of the
  image in random order and then boxes at random places with the name `noise`.
  The model learns that such a box is none, but not where it is. When decoding,
  the noise token and eos are kept from being chosen, and the probability of an
  object's name is its score. There is no space before the noise: it has to be
  the first token after a box, where else the name of an object begins.

  Args:
    example: dict with "boxes" and "labels".
    num: how many objects, true and noise; as many as fit into a row with a
      large number and a text_len.
    noise: the name of a noise box: one token. Gemma's vocabulary has none for
      it, but unused ones.

  Returns:
    prefix, suffix, and no_loss: list of (start, stop), the characters of the
    suffix whose tokens are no targets: the locations of noise boxes. They begin
    and end where tokens do. left_out: how many objects of the image there was
    no room for.
  """
  objects.check_counts(num=num)
  boxes, labels = objects.boxes_of(example), objects.labels_of(example)
  if text_len is not None:  # an object has at least five tokens
    num = min(num, text_len // 5)
  order = rng.permutation(len(boxes))[:num]
  corners = rng.random((max(num - len(order), 0), 2, 2))
  fake = np.sort(corners, axis=1).reshape(-1, 4)
  boxes = np.concatenate([boxes[order], fake])
  names = [labels[i] for i in order] + [""] * len(fake)
  parts = boxes_lib.parts(boxes, names)
  boxes_lib.check_label(noise)
  for i in range(len(order), len(parts)):
    parts[i] += noise

  def write(k):
    spans, at = [], 0
    for i, part in enumerate(parts[:k]):
      if i >= len(order):
        spans.append((at, at + len("<loc0000>" * 4)))
      at += len(part) + len(" ; ")
    lost = len(labels) - min(k, len(order))
    return "detect all classes", " ; ".join(parts[:k]), spans, lost

  keys = ("prefix", "suffix", "no_loss", "left_out")
  return dict(zip(keys, budget.most(len(parts), write, text_len, tokenizer)))


@pp.op
def loc(example, box: str, out: str, codes: str | None = None):
  """Writes one box, and codes of its mask, as text: `loc("box", "where")`."""
  place = boxes_lib.encode(objects.checked([pp.get(example, box)], box)[0])
  if codes is not None:
    place += boxes_lib.encode_codes(fields.list_of(example, codes))
  return {out: place}


def _ask(verb, example, codes, classes, text_len, tokenizer):
  """Writes the prompt of `classes` and the objects that it asks for."""
  boxes, labels = objects.boxes_of(example), objects.labels_of(example)
  there = set(labels)
  asked = objects.names_of(example, classes) if classes else labels
  asked = list(dict.fromkeys(asked))
  if not asked:
    raise pp.Skip("the image has no object, and there is no class to ask for")
  if there - set(asked):
    unasked = sorted(there - set(asked))[0]
    raise ValueError(f"'labels' has {unasked!r}, and {classes!r} has it not")

  parts = boxes_lib.parts(boxes, labels, codes)

  def write(k):
    kept = set(labels[:k])
    names = [name for name in asked if name in kept or name not in there]
    lost = len(labels) - k
    return f"{verb} {' ; '.join(names)}", " ; ".join(parts[:k]), lost

  least = min(1, len(labels))
  texts = budget.most(len(labels), write, text_len, tokenizer, least)
  return dict(zip(("prefix", "suffix", "left_out"), texts))
