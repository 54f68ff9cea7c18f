"""Sketches that were laid out by hand, for testing: 32 pictures and questions.

`Hand("caption")[0]` is a picture as somebody makes it with a paint program, and
what a model of scenes of shapes should say about it. Nothing of it is in any
training data, and the renderer is another one than theirs: Pillow's ImageDraw,
at 200 to 900 pixels, on papers of one colour, with thick outlines, pens that
shake, and the bytes of a PNG or JPEG.

What they show is in sketches.py. Captions name objects in the order they have
there; every other order is right as well.
"""

import functools
import itertools
import operator

import numpy as np

from pg import config
from pg.codecs import boxes, masks
from pg.data.synthetic import examples, scenes, shapes, sketches, words


class Hand:
  """Reads the questions of one task about all sketches."""

  def __init__(self, task):
    """Takes the name of a task.

    Args:
      task: str, a key of TASKS.

    Raises:
      ValueError: an unknown task.
    """
    self.task = task
    self._rows = _rows(config.lookup(TASKS, task, "task"))

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, i):
    """Returns row i, as of Shapes; the image is the bytes of a file."""
    i = operator.index(i)
    if not 0 <= i < len(self):
      raise IndexError(f"row {i} of {len(self)}")
    number, made = self._rows[i]
    sketch = sketches.drawn()[number]
    example = dict(
      image=sketch.image,
      prefix=made.prefix,
      suffix=made.suffix,
      task=self.task,
      kind=made.kind,
      scene=f"hand{number}",
      height=sketch.height,
      width=sketch.width,
    )
    if not made.targets:
      return dict(example, answers=list(made.answers))
    example["boxes"] = np.array([t.box for t in made.targets], np.float32)
    example["labels"] = list(made.labels)
    if self.task == "segment":
      example["mask"] = made.targets[0].mask
    return example

  def where(self, i):
    """Returns the name of row i, for error messages."""
    return f"hand:{self.task}[{i}] (sketch {self._rows[i][0]})"


@functools.cache
def _rows(task):
  """Returns [(number of the sketch, Example)] of a function of TASKS."""
  return [
    (number, made)
    for number, sketch in enumerate(sketches.drawn())
    if bool(sketch.texts) == (task is _ocr)
    for made in task(sketch)
  ]


def _answered(kind, suffix, *others, **asked):
  """Returns an Example with right answers, asked in the usual wording."""
  prefix = words.PROMPTS[kind][0].format(**asked)
  return examples.Example((), kind, prefix, suffix, (suffix, *others))


def _caption(sketch):
  orders = itertools.permutations(sketch.objects)
  right = [text for order in orders for text in words.captions(order, "en")]
  yield _answered("caption", *right, language="en")


def _ocr(sketch):
  yield _answered("ocr", " ".join(sketch.texts))


def _answer(sketch):
  """Asks of each object for what it alone has."""
  for item in sketch.objects:
    both = dict(color=item.color, shape=item.shape)
    if [other.shape for other in sketch.objects].count(item.shape) == 1:
      yield _answered("color", item.color, **both)
    if [other.color for other in sketch.objects].count(item.color) == 1:
      yield _answered("shape", item.shape, **both)
    y1, x1, y2, x2 = item.box
    if min(abs(y1 + y2 - 1), abs(x1 + x2 - 1)) > 0.1:
      yield _answered("where", scenes.quadrant(item), **both)


def _yesno(sketch):
  """Asks for what is there, for what is not, and where things are."""
  for item in sketch.objects:
    yield _answered("exists", "yes", color=item.color, shape=item.shape)
    there = {scenes.pair(other) for other in sketch.objects}
    alike = [
      p for p in scenes.KNOWN if p.color == item.color and p not in there
    ]
    yield _answered("exists", "no", **alike[0]._asdict())
  for a, b in itertools.pairwise(sketch.objects):
    for side, other in examples.OPPOSITE.items():
      if examples.is_beside(side, a, b):
        names = dict(a=words.phrase(a), b=words.phrase(b))
        yield _answered("side", "yes", side=side, **names)
        yield _answered("side", "no", side=other, **names)


def _count(sketch):
  yield _answered("total", str(len(sketch.objects)))
  item = sketch.objects[0]
  for kind, name in (("count_color", "color"), ("count_shape", "shape")):
    value = getattr(item, name)
    num = [getattr(other, name) for other in sketch.objects].count(value)
    plural = words.PLURALS[item.shape]
    yield _answered(kind, str(num), color=item.color, shapes=plural)
  there = {other.color for other in sketch.objects}
  absent = next(color for color in scenes.COLORS if color not in there)
  yield _answered("count_color", "0", color=absent)


def _detect(sketch, segment=False):
  """Asks for each object; for its mask, too, if `segment`."""
  kind = "segment" if segment else "detect"
  for item in sketch.objects:
    name = words.phrase(item)
    prefix = words.PROMPTS[kind][0].format(things=name)
    codes = masks.encode(shapes.codec(), item.mask, item.box) if segment else ()
    suffix = boxes.detect([item.box], [name], [codes] if segment else None)
    yield examples.Example(
      (), "phrase", prefix, suffix, targets=(item,), labels=(name,)
    )


TASKS = {
  "caption": _caption,
  "ocr": _ocr,
  "answer": _answer,
  "yesno": _yesno,
  "count": _count,
  "detect": _detect,
  "segment": functools.partial(_detect, segment=True),
}
