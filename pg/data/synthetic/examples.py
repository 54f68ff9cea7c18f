"""Synthetic examples before their images are rendered: `Example`, its scenes.

A task decides on the answer first and draws a scene where it is right: so the
answers are as balanced as the task wants them, whatever the split.
"""

from typing import NamedTuple

from pg.data.synthetic import free, scenes

# The quadrants on each side of the middle.
SIDES = {
  "left of": (0, 2),
  "right of": (1, 3),
  "above": (0, 1),
  "below": (2, 3),
}
OPPOSITE = {
  "left of": "right of",
  "right of": "left of",
  "above": "below",
  "below": "above",
}


class Setting(NamedTuple):
  """Which scenes to draw."""

  split: str
  files: float | None = None  # as in Shapes; None is the grid

  @property
  def is_free(self):
    return self.files is not None

  @property
  def canvas(self):
    """The module that places and renders."""
    return free if self.is_free else scenes


class Example(NamedTuple):
  """One example without its image."""

  scenes: tuple  # one Scene per image
  kind: str  # the form of question within a task
  prefix: str
  suffix: str
  answers: tuple = ()  # every right suffix; empty where boxes are the answer
  targets: tuple = ()  # the Objects whose boxes are the answer
  labels: tuple = ()  # what each target is called


def one_answer(drawn, kind, prefix, suffix):
  """Returns an Example about one scene with one right answer."""
  return Example((drawn,), kind, prefix, suffix, (suffix,))


def anything(pair):
  """Fits every pair."""
  return True


def pick(rng, setting, fits=anything):
  """Draws a pair to ask about: in "combo" a held-out one, else a known one."""
  pool = scenes.HELD_OUT if setting.split == "combo" else scenes.KNOWN
  return rng.choice([pair for pair in pool if fits(pair)])


def add(rng, pairs, num, fits=anything, *, repeat=False):
  """Returns a list of the pairs and `num` more known ones.

  All are different, unless they may `repeat`.
  """
  pool = [p for p in scenes.KNOWN if p not in pairs and fits(p)]
  more = rng.choices(pool, k=num) if repeat else rng.sample(pool, num)
  return [*pairs, *more]


def fill(rng, setting, pairs, fits=anything, most=0):
  """Returns a list of the pairs and as many more as may still be, or none.

  Args:
    rng: random.Random.
    setting: Setting.
    pairs: list of Pair.
    fits: says which pairs may be added.
    most: int, how many there may be in all; 0 is the setting's.
  """
  most = most or setting.canvas.MAX_OBJECTS
  return add(rng, pairs, rng.randrange(most + 1 - len(pairs)), fits)


def draw(rng, setting, pairs, cells=(), fits=anything):
  """Draws a Scene of the pairs that belongs to the split.

  Args:
    rng: random.Random.
    setting: Setting.
    pairs: list of Pair.
    cells: indices into scenes.QUADRANTS for the first pairs; the others get
      any.
    fits: says whether a Scene will do.
  """
  # A scene of other pairs would never belong: the loop would not end.
  held_out = any(pair in scenes.HELD_OUT for pair in pairs)
  assert held_out == (setting.split == "combo"), (setting, pairs)
  others = [cell for cell in range(4) if cell not in cells]
  while True:
    if setting.is_free:
      drawn = free.place(rng, setting.files, pairs, cells)
    else:
      rest = rng.sample(others, len(pairs) - len(cells))
      drawn = scenes.place(rng, pairs, [*cells, *rest])
    if scenes.belongs(drawn, setting.split) and fits(drawn):
      return drawn


def random_scene(rng, setting, most=0, cells=()):
  """Draws a Scene of one object to `most`; returns it and one of them.

  That one is in the first of the cells; 0 is the setting's most.
  """
  focus = pick(rng, setting)
  pairs = fill(rng, setting, [focus], most=most)
  drawn = draw(rng, setting, pairs, cells)
  return drawn, find_object(drawn, focus)


def find_object(drawn, pair):
  """Returns the Object of a pair, of which a scene has at most one."""
  return next(item for item in drawn.objects if scenes.pair(item) == pair)


def offset(side, a, b):
  """Returns how far a's centre lies on a side of b's, in half images."""
  ay1, ax1, ay2, ax2 = a.box
  by1, bx1, by2, bx2 = b.box
  down, right = ay1 + ay2 - by1 - by2, ax1 + ax2 - bx1 - bx2
  signed = {"left of": -right, "right of": right, "above": -down, "below": down}
  return signed[side]


def is_beside(side, a, b):
  """Says whether Object a is on a side of b and ends before b begins."""
  ay1, ax1, ay2, ax2 = a.box
  by1, bx1, by2, bx2 = b.box
  clear = {
    "left of": ax2 <= bx1,
    "right of": bx2 <= ax1,
    "above": ay2 <= by1,
    "below": by2 <= ay1,
  }
  return clear[side]


def opposite_quadrants(rng, side):
  """Draws two quadrants, the first on the given side of the second."""
  return rng.choice(SIDES[side]), rng.choice(SIDES[OPPOSITE[side]])


def own_quadrants(rng, setting, num):
  """Draws cells for `draw` that put each of `num` objects in its own quadrant.

  On the grid they are there without being asked.
  """
  return rng.sample(range(4), num) if setting.is_free else ()
