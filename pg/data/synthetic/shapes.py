"""Images of coloured shapes, generated as they are read, for every task.

`Shapes("detect_one")[0]` is one example, the same wherever it is made:

  image    u8[48, 48, 3]
  prefix   "detect red circle"
  suffix   "<loc0000><loc0256><loc0256><loc0512> red circle"
  boxes    [[0, .25, .25, .5]]
  labels   ["red circle"]

What an image shows is in scenes.py, the words are in words.py, how answers are
chosen before scenes in examples.py, and the question answering in questions.py.
A task is a function `(rng, split) -> Example` in TASKS.
"""

import functools
import operator
import random

import numpy as np

from pg import config
from pg.codecs import boxes, masks
from pg.data.synthetic import examples, questions, scenes, words

# Rows by default: training never ends.
SPLITS = {"train": 2**31 - 1, "test": 512, "combo": 512, "template": 512}

# Pixels per side of the mask that codes are made of, at every resolution.
_MASK_RES = 192


class Shapes:
  """Makes the examples of one task, a random-access source of any length."""

  def __init__(self, task, split="train", res=48, size=None):
    """Takes the name of a task and of a split.

    Args:
      task: str, a key of TASKS.
      split: str, "train"; "test" (other scenes); "combo" (scenes with an object
        of a held-out colour and shape); "template" (test scenes, new wordings).
      res: int, height and width in pixels, a multiple of 16. The same row shows
        the same scene at every resolution.
      size: int, the number of rows; default 2**31 - 1 for training, else 512.

    Raises:
      ValueError: an unknown task or split, or a resolution that does not fit.
    """
    config.lookup(TASKS, task, "task")
    default = config.lookup(SPLITS, split, "split")
    if res % scenes.STEP or not scenes.STEP <= res <= 8192:
      raise ValueError(
        f"res={res} is not a multiple of {scenes.STEP} up to 8192; try 48, 64,"
        " 96 or 224"
      )
    self.task, self.split, self.res = task, split, res
    self._size = default if size is None else size

  def __len__(self):
    return self._size

  def __getitem__(self, i):
    """Makes row i, a pure function of task, split, res and i.

    Returns:
      dict of
        image: u8[res, res, 3]; for "compare" a list of two.
        prefix, suffix: str.
        task, kind: str, the source's task and the form of question within it.
        height, width: res, int.
        scene: str, the image's fingerprint without noise; two are joined
          by "+".
        answers: list of str, every right suffix, the row's own first; absent
          where boxes are the answer.
        boxes, labels: f32[boxes, 4], y1 x1 y2 x2 in 0..1, and list of str; only
          where boxes are the answer.
        mask: bool[res, res]; only for "segment", whose suffix has its codes by
          the codec that pg has (codecs/masks.py).

    Raises:
      IndexError: not one of the rows.
    """
    i = operator.index(i)
    if not 0 <= i < self._size:
      raise IndexError(f"row {i} of {self._size}")
    rng = random.Random(f"{self.task}/{self.split}/{i}")
    made = TASKS[self.task](rng, self.split)
    images = [scenes.render(s, self.res, rng) for s in made.scenes]
    example = dict(
      image=images if len(images) > 1 else images[0],
      prefix=made.prefix,
      suffix=made.suffix,
      task=self.task,
      kind=made.kind,
      scene="+".join(map(scenes.fingerprint, made.scenes)),
      height=self.res,
      width=self.res,
    )
    return example | self._truth(made)

  def _truth(self, made):
    """Returns the keys with the right answer, other than the suffix."""
    if not made.targets:
      return dict(answers=list(made.answers))
    truth = dict(
      boxes=np.array([scenes.box(item) for item in made.targets], np.float32),
      labels=list(made.labels),
    )
    if self.task == "segment":
      truth["mask"] = scenes.mask(made.targets[0], self.res)
    return truth

  def where(self, i):
    """Returns the name of row i, for error messages."""
    return f"shapes:{self.task}/{self.split}[{i}]"


def _caption(language, rng, split):
  drawn, _ = examples.random_scene(rng, split)
  prefix = words.prompt(rng, "caption", split, language=language)
  answers = tuple(words.captions(drawn.objects, language))
  return examples.Example((drawn,), language, prefix, answers[0], answers)


def _grounded(rng, split):
  drawn, item = examples.random_scene(rng, split)
  box = boxes.encode(scenes.box(item))
  prefix = words.prompt(rng, "grounded", split, box=box)
  suffix = words.phrase(item, sized=True)
  return examples.one_answer(drawn, "phrase", prefix, suffix)


def _ocr(rng, split):
  """Reads two short lines, or a longer one beside an object."""
  two = split != "combo" and rng.randrange(2)
  while True:
    drawn = _two_lines(rng) if two else _one_line(rng, split)
    if scenes.belongs(drawn, split):
      break
  prefix = words.prompt(rng, "ocr", split)
  suffix = " ".join(label.text for label in drawn.labels)
  kind = f"lines_{len(drawn.labels)}"
  return examples.one_answer(drawn, kind, prefix, suffix)


def _two_lines(rng):
  labels = tuple(_line(rng, half, most=2) for half in range(2))
  return scenes.place(rng, [], [], labels)


def _one_line(rng, split):
  half = rng.randrange(2)
  free = examples.SIDES["above" if half else "below"]
  labels = (_line(rng, half, most=3),)
  pairs = [examples.pick(rng, split)]
  return scenes.place(rng, pairs, [rng.choice(free)], labels)


def _line(rng, half, most):
  """Draws a Label of one to `most` characters in the upper or lower half."""
  num = rng.randint(1, most)
  text = "".join(rng.choices(tuple(scenes.FONT), k=num))
  x = rng.randrange(0, scenes.UNITS - 2 * num + 1, scenes.GRID)
  return scenes.Label(text, half * scenes.HALF, x)


def _detect(rng, split):
  """Detects one or two kinds of objects: colours and shapes, or shapes."""
  by_shape = rng.randrange(2)
  name = operator.attrgetter("shape") if by_shape else words.phrase
  focus = examples.pick(rng, split)
  another = by_shape and rng.randrange(2)
  pairs = examples.add(rng, [focus], another, lambda p: p.shape == focus.shape)
  drawn = examples.draw(rng, split, examples.fill(rng, pairs))
  names = list(dict.fromkeys(map(name, drawn.objects)))
  own = name(examples.find_object(drawn, focus))
  others = [n for n in names if n != own]
  wanted = {own, *rng.sample(others, rng.randrange(2) and min(1, len(others)))}
  things = " ; ".join(n for n in names if n in wanted)
  targets = [item for item in drawn.objects if name(item) in wanted]
  return _boxes(
    drawn,
    "shape" if by_shape else "phrase",
    words.prompt(rng, "detect", split, things=things),
    {item: name(item) for item in targets},
  )


def _detect_one(rng, split):
  """Detects the only object there is."""
  drawn = examples.draw(rng, split, [examples.pick(rng, split)])
  name = words.phrase(drawn.objects[0])
  prefix = words.prompt(rng, "detect", split, things=name)
  return _boxes(drawn, "phrase", prefix, {drawn.objects[0]: name})


def _refer(rng, split):
  """Detects one of two objects of a shape, by its side of a third object."""
  focus = examples.pick(rng, split)
  pairs = examples.add(rng, [focus], 1, lambda p: p.shape != focus.shape)
  pairs = examples.add(rng, pairs, 1, lambda p: p.shape == focus.shape)
  side = rng.choice(tuple(examples.SIDES))
  near, far = examples.opposite_quadrants(rng, side)
  (other_cell,) = set(examples.SIDES[examples.OPPOSITE[side]]) - {far}
  while True:
    drawn = examples.draw(rng, split, pairs, (near, far, other_cell))
    item, anchor, other = (examples.find_object(drawn, pair) for pair in pairs)
    if examples.offset(side, other, anchor) <= 0:
      break
  values = dict(shape=item.shape, side=side, anchor=anchor.shape)
  prefix = words.prompt(rng, "refer", split, **values)
  return _boxes(drawn, "side", prefix, {item: item.shape})


def _segment(rng, split):
  """Outlines one of the objects."""
  drawn, item = examples.random_scene(rng, split)
  name = words.phrase(item)
  prefix = words.prompt(rng, "segment", split, things=name)
  made = _boxes(drawn, "phrase", prefix, {item: name})
  place = scenes.box(item)
  codes = masks.encode(_codec(), scenes.mask(item, _MASK_RES), place)
  return made._replace(suffix=boxes.detect([place], [name], [codes]))


@functools.cache
def _codec():
  return masks.load(masks.NANO)


def _boxes(drawn, kind, prefix, names):
  """Returns an Example answered by the boxes of `names`, Object -> label."""
  suffix = boxes.detect(list(map(scenes.box, names)), list(names.values()))
  return examples.Example(
    (drawn,),
    kind,
    prefix,
    suffix,
    targets=tuple(names),
    labels=tuple(names.values()),
  )


def _any_of(*tasks):
  """Returns the task that is one of several, each as likely."""
  return lambda rng, split: rng.choice(tasks)(rng, split)


TASKS = {
  "caption": functools.partial(_caption, "en"),
  "caption_de": functools.partial(_caption, "de"),
  "caption_es": functools.partial(_caption, "es"),
  "caption_zh": functools.partial(_caption, "zh"),
  "grounded": _grounded,
  "ocr": _ocr,
  "answer": _any_of(
    questions.color,
    questions.shape,
    questions.size,
    questions.where,
    questions.objects,
    questions.which,
  ),
  "yesno": _any_of(questions.exists, questions.side),
  # A total is never 0: less often asked, so that the counts come out alike.
  "count": _any_of(
    questions.total,
    *[questions.count_color, questions.count_shape] * 2,
  ),
  "compare": _any_of(questions.more, questions.both, questions.only),
  "question": questions.reverse,
  "detect": _detect,
  "detect_one": _detect_one,
  "refer": _refer,
  "segment": _segment,
}
