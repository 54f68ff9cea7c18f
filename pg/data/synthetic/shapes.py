"""Images of coloured shapes, generated as they are read, for every task.

`Shapes("detect_one")[0]` is one example, the same wherever it is made:

  image    u8[48, 48, 3]
  prefix   "detect red circle"
  suffix   "<loc0000><loc0256><loc0256><loc0512> red circle"
  boxes    [[0, .25, .25, .5]]
  labels   ["red circle"]

What an image shows is in scenes.py, the words are in words.py, how answers are
chosen before scenes in examples.py, the question answering in questions.py and
the reading in lines.py. `free` scenes are described in free.py.
A task is a function `(rng, split) -> Example` in TASKS.
"""

import functools
import operator
import random

import numpy as np

from pg import config
from pg.codecs import boxes, masks
from pg.data.synthetic import examples, lines, questions, scenes, words

# Rows by default: training never ends.
SPLITS = {"train": 2**31 - 1, "test": 512, "combo": 512, "template": 512}

# Pixels per side of the mask that codes are made of, at every resolution.
_MASK_RES = 192


class Shapes:
  """Makes the examples of one task, a random-access source of any length."""

  def __init__(self, task, split="train", res=48, size=None, free=None):
    """Takes the name of a task and of a split.

    Args:
      task: str, a key of TASKS.
      split: str, "train"; "test" (other scenes); "combo" (scenes with an object
        of a held-out colour and shape); "template" (test scenes, new wordings).
      res: int, height and width in pixels, a multiple of 16. The same row shows
        the same scene at every resolution.
      size: int, the number of rows; default 2**31 - 1 for training, else 512.
      free: float, 0 to 1: scenes lie anywhere (see free.py), and this share of
        the images comes as from a file, of another size: for a pp that begins
        with decode and has a resize. None: on the grid of scenes.py.

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
    if free is not None and not 0 <= free <= 1:
      raise ValueError(f"free={free} is a share of files, 0 to 1")
    self.task, self.split, self.res = task, split, res
    self._setting = examples.Setting(split, free)
    self._size = default if size is None else size

  def __len__(self):
    return self._size

  def __getitem__(self, i):
    """Makes row i, a pure function of task, split, res and i.

    Returns:
      dict of
        image: u8[res, res, 3]; for "compare" a list of two. Of a free scene
          that comes as a file u8[height, width, 3] or the bytes of a JPEG.
        prefix, suffix: str.
        task, kind: str, the source's task and the form of question within it.
        height, width: int, pixels of the (first) image.
        scene: str, the image's fingerprint without noise; two are joined
          by "+".
        answers: list of str, every right suffix, the row's own first; absent
          where boxes are the answer.
        boxes, labels: f32[boxes, 4], y1 x1 y2 x2 in 0..1, and list of str; only
          where boxes are the answer.
        mask: bool[height, width]; only for "segment", whose suffix has its
          codes by the codec that pg has (codecs/masks.py).

    Raises:
      IndexError: not one of the rows.
    """
    i = operator.index(i)
    if not 0 <= i < self._size:
      raise IndexError(f"row {i} of {self._size}")
    rng = random.Random(f"{self.task}/{self.split}/{i}")
    made = TASKS[self.task](rng, self._setting)
    render = self._setting.canvas.render
    images = [render(s, self.res, rng) for s in made.scenes]
    height, width = made.scenes[0].pixels or (self.res, self.res)
    example = dict(
      image=images if len(images) > 1 else images[0],
      prefix=made.prefix,
      suffix=made.suffix,
      task=self.task,
      kind=made.kind,
      scene="+".join(map(scenes.fingerprint, made.scenes)),
      height=height,
      width=width,
    )
    return example | self._truth(made, height, width)

  def _truth(self, made, height, width):
    """Returns the keys with the right answer, other than the suffix."""
    if not made.targets:
      return dict(answers=list(made.answers))
    truth = dict(
      boxes=np.array([item.box for item in made.targets], np.float32),
      labels=list(made.labels),
    )
    if self.task == "segment":
      truth["mask"] = self._setting.canvas.mask(
        made.targets[0], (height, width)
      )
    return truth

  def where(self, i):
    """Returns the name of row i, for error messages."""
    return f"shapes:{self.task}/{self.split}[{i}]"


def _caption(language, rng, setting):
  drawn, _ = examples.random_scene(rng, setting)
  prefix = words.prompt(rng, "caption", setting, language=language)
  answers = tuple(words.captions(drawn.objects, language))
  return examples.Example((drawn,), language, prefix, answers[0], answers)


def _grounded(rng, setting):
  drawn, item = examples.random_scene(rng, setting)
  box = boxes.encode(item.box)
  prefix = words.prompt(rng, "grounded", setting, box=box)
  suffix = words.phrase(item, sized=True)
  return examples.one_answer(drawn, "phrase", prefix, suffix)


def _detect(rng, setting):
  """Detects one or two kinds of objects: colours and shapes, or shapes."""
  by_shape = rng.randrange(2)
  name = operator.attrgetter("shape") if by_shape else words.phrase
  focus = examples.pick(rng, setting)
  another = by_shape and rng.randrange(2)
  pairs = examples.add(rng, [focus], another, lambda p: p.shape == focus.shape)
  drawn = examples.draw(rng, setting, examples.fill(rng, setting, pairs))
  names = list(dict.fromkeys(map(name, drawn.objects)))
  own = name(examples.find_object(drawn, focus))
  others = [n for n in names if n != own]
  wanted = {own, *rng.sample(others, rng.randrange(2) and min(1, len(others)))}
  things = " ; ".join(n for n in names if n in wanted)
  targets = [item for item in drawn.objects if name(item) in wanted]
  return _boxes(
    drawn,
    "shape" if by_shape else "phrase",
    words.prompt(rng, "detect", setting, things=things),
    {item: name(item) for item in targets},
  )


def _detect_one(rng, setting):
  """Detects the only object there is."""
  drawn = examples.draw(rng, setting, [examples.pick(rng, setting)])
  name = words.phrase(drawn.objects[0])
  prefix = words.prompt(rng, "detect", setting, things=name)
  return _boxes(drawn, "phrase", prefix, {drawn.objects[0]: name})


def _refer(rng, setting):
  """Detects one of two objects of a shape, by its side of a third object."""
  focus = examples.pick(rng, setting)
  pairs = examples.add(rng, [focus], 1, lambda p: p.shape != focus.shape)
  pairs = examples.add(rng, pairs, 1, lambda p: p.shape == focus.shape)
  side = rng.choice(tuple(examples.SIDES))
  cells = ()
  if not setting.is_free:
    near, far = examples.opposite_quadrants(rng, side)
    cells = near, far, *set(examples.SIDES[examples.OPPOSITE[side]]) - {far}
  find = lambda drawn: [examples.find_object(drawn, pair) for pair in pairs]

  def fits(drawn):
    item, anchor, other = find(drawn)
    is_other = examples.offset(side, other, anchor) <= 0
    return is_other and examples.is_beside(side, item, anchor)

  drawn = examples.draw(rng, setting, pairs, cells, fits)
  item, anchor, _ = find(drawn)
  values = dict(shape=item.shape, side=side, anchor=anchor.shape)
  prefix = words.prompt(rng, "refer", setting, **values)
  return _boxes(drawn, "side", prefix, {item: item.shape})


def _segment(rng, setting):
  """Outlines one of the objects."""
  drawn, item = examples.random_scene(rng, setting)
  name = words.phrase(item)
  prefix = words.prompt(rng, "segment", setting, things=name)
  made = _boxes(drawn, "phrase", prefix, {item: name})
  place = item.box
  mask = setting.canvas.mask(item, (_MASK_RES, _MASK_RES))
  codes = masks.encode(codec(), mask, place)
  return made._replace(suffix=boxes.detect([place], [name], [codes]))


@functools.cache
def codec():
  """Returns the codec of masks that pg has."""
  return masks.load(masks.NANO)


def _boxes(drawn, kind, prefix, names):
  """Returns an Example answered by the boxes of `names`, Object -> label."""
  suffix = boxes.detect([item.box for item in names], list(names.values()))
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
  return lambda rng, setting: rng.choice(tasks)(rng, setting)


TASKS = {
  "caption": functools.partial(_caption, "en"),
  "caption_de": functools.partial(_caption, "de"),
  "caption_es": functools.partial(_caption, "es"),
  "caption_zh": functools.partial(_caption, "zh"),
  "grounded": _grounded,
  "ocr": lines.read,
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
