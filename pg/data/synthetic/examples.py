"""Synthetic examples before their images are rendered: `Example`, its scenes.

A task decides on the answer first and draws a scene where it is right: so the
answers are as balanced as the task wants them, whatever the split.
"""

from typing import NamedTuple

from pg.data.synthetic import scenes

MAX_OBJECTS = 3  # in a scene
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


def pick(rng, split, fits=anything):
  """Draws a pair to ask about: in "combo" a held-out one, else a known one."""
  pool = scenes.HELD_OUT if split == "combo" else scenes.KNOWN
  return rng.choice([pair for pair in pool if fits(pair)])


def add(rng, pairs, num, fits=anything):
  """Returns a list of the pairs and `num` more known ones, all different."""
  pool = [p for p in scenes.KNOWN if p not in pairs and fits(p)]
  return [*pairs, *rng.sample(pool, num)]


def fill(rng, pairs, fits=anything):
  """Returns a list of the pairs and as many more as may still be, or none."""
  return add(rng, pairs, rng.randrange(MAX_OBJECTS + 1 - len(pairs)), fits)


def draw(rng, split, pairs, cells=()):
  """Draws a Scene of the pairs that belongs to the split.

  Args:
    rng: random.Random.
    split: str.
    pairs: list of Pair.
    cells: indices into scenes.QUADRANTS for the first pairs; the others get
      any.
  """
  # A scene of other pairs would never belong: the loop would not end.
  held_out = any(pair in scenes.HELD_OUT for pair in pairs)
  assert held_out == (split == "combo"), (split, pairs)
  free = [cell for cell in range(4) if cell not in cells]
  while True:
    others = rng.sample(free, len(pairs) - len(cells))
    drawn = scenes.place(rng, pairs, [*cells, *others])
    if scenes.belongs(drawn, split):
      return drawn


def random_scene(rng, split):
  """Draws a Scene of one to three objects; returns it and one of them."""
  focus = pick(rng, split)
  drawn = draw(rng, split, fill(rng, [focus]))
  return drawn, find_object(drawn, focus)


def find_object(drawn, pair):
  """Returns the Object of a pair, of which a scene has at most one."""
  return next(item for item in drawn.objects if scenes.pair(item) == pair)


def offset(side, a, b):
  """Returns how far Object a's centre lies on a side of b's, in half units."""
  down = 2 * a.y + a.size - 2 * b.y - b.size
  right = 2 * a.x + a.size - 2 * b.x - b.size
  signed = {"left of": -right, "right of": right, "above": -down, "below": down}
  return signed[side]


def opposite_quadrants(rng, side):
  """Draws two quadrants, the first on the given side of the second."""
  return rng.choice(SIDES[side]), rng.choice(SIDES[OPPOSITE[side]])
