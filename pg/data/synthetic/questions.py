"""Visual question answering about scenes of shapes.

Every function is `(rng, split) -> Example`. The answer is drawn before the
scene and, where there is a choice, uniformly: a model that does not see the
image scores a half on yes and no and True and False.
"""

import itertools

from pg.data.synthetic import examples, scenes, words


def color(rng, split):
  """Asks for the colour of the only object of a shape."""
  focus = examples.pick(rng, split)
  pairs = examples.fill(rng, [focus], lambda pair: pair.shape != focus.shape)
  prefix = words.prompt(rng, "color", split, shape=focus.shape)
  drawn = examples.draw(rng, split, pairs)
  return examples.one_answer(drawn, "color", prefix, focus.color)


def shape(rng, split):
  """Asks for the shape of the only object of a colour."""
  focus = examples.pick(rng, split)
  pairs = examples.fill(rng, [focus], lambda pair: pair.color != focus.color)
  prefix = words.prompt(rng, "shape", split, color=focus.color)
  drawn = examples.draw(rng, split, pairs)
  return examples.one_answer(drawn, "shape", prefix, focus.shape)


def size(rng, split):
  """Asks whether an object is small or large."""
  drawn, item = examples.random_scene(rng, split)
  prefix = words.prompt(rng, "size", split, **scenes.pair(item)._asdict())
  return examples.one_answer(drawn, "size", prefix, words.size(item))


def where(rng, split):
  """Asks for the quadrant of an object."""
  drawn, item = examples.random_scene(rng, split)
  prefix = words.prompt(rng, "where", split, **scenes.pair(item)._asdict())
  return examples.one_answer(drawn, "where", prefix, scenes.quadrant(item))


def objects(rng, split):
  """Asks for all shapes, each once, in raster order; any order is right."""
  drawn, _ = examples.random_scene(rng, split)
  names = list(dict.fromkeys(item.shape for item in drawn.objects))
  answers = tuple(map(", ".join, itertools.permutations(names)))
  prefix = words.prompt(rng, "open", split)
  return examples.Example((drawn,), "open", prefix, answers[0], answers)


def which(rng, split):
  """Asks which of two shapes are there: none, one or both, equally often."""
  num = rng.randrange(3)
  focus = examples.pick(rng, split)
  pairs = examples.add(rng, [focus], 1, lambda pair: pair.shape != focus.shape)
  drawn = examples.draw(rng, split, examples.fill(rng, pairs))
  present = sorted({item.shape for item in drawn.objects})
  absent = [name for name in scenes.SHAPES if name not in present]
  asked = rng.sample(present, num) + rng.sample(absent, 2 - num)
  a, b = rng.sample(asked, 2)
  right = [name for name in (a, b) if name in present] or ["none"]
  answers = tuple(map(", ".join, itertools.permutations(right)))
  prefix = words.prompt(rng, "which", split, a=a, b=b)
  return examples.Example((drawn,), "which", prefix, answers[0], answers)


def exists(rng, split):
  """Asks for an object that is there, or of which only colour or shape is."""
  yes = rng.randrange(2)
  asked = examples.pick(rng, split)
  other = examples.pick(rng, split, lambda pair: pair != asked)
  same = "color" if rng.randrange(2) else "shape"

  def alike(pair):
    return pair != asked and getattr(pair, same) == getattr(asked, same)

  pairs = examples.add(rng, [asked if yes else other], 1, alike)
  pairs = examples.fill(rng, pairs, lambda pair: pair != asked)
  prefix = words.prompt(rng, "exists", split, **asked._asdict())
  drawn = examples.draw(rng, split, pairs)
  return examples.one_answer(drawn, "exists", prefix, "yes" if yes else "no")


def side(rng, split):
  """Asks whether an object is on one side of another, or on the opposite."""
  yes = rng.randrange(2)
  pairs = examples.add(rng, [examples.pick(rng, split)], 1)
  true = rng.choice(tuple(examples.SIDES))
  name = true if yes else examples.OPPOSITE[true]
  cells = examples.opposite_quadrants(rng, true)
  drawn = examples.draw(rng, split, examples.fill(rng, pairs), cells)
  a, b = (" ".join(pair) for pair in pairs)
  prefix = words.prompt(rng, "side", split, a=a, side=name, b=b)
  return examples.one_answer(drawn, "side", prefix, "yes" if yes else "no")


def total(rng, split):
  """Asks how many objects there are: one to three, equally often."""
  drawn, _ = examples.random_scene(rng, split)
  prefix = words.prompt(rng, "total", split)
  return examples.one_answer(drawn, "total", prefix, str(len(drawn.objects)))


def count_color(rng, split):
  """Asks how many objects have a colour: none to three, equally often."""
  number, value, drawn = _so_many(rng, split, "color", scenes.COLORS)
  prefix = words.prompt(rng, "count_color", split, color=value)
  return examples.one_answer(drawn, "count_color", prefix, str(number))


def count_shape(rng, split):
  """Asks how many objects have a shape: none to three, equally often."""
  number, value, drawn = _so_many(rng, split, "shape", scenes.SHAPES)
  shapes = words.PLURALS[value]
  prefix = words.prompt(rng, "count_shape", split, shapes=shapes)
  return examples.one_answer(drawn, "count_shape", prefix, str(number))


def _so_many(rng, split, field, values):
  """Draws a number, a value, and a scene with so many objects of that value."""
  number = rng.randrange(examples.MAX_OBJECTS + 1)
  focus = examples.pick(rng, split)
  value = own = getattr(focus, field)
  if number == 0:
    value = rng.choice([v for v in values if v != own])
  pairs = examples.add(
    rng, [focus], max(number - 1, 0), lambda pair: getattr(pair, field) == value
  )
  pairs = examples.fill(rng, pairs, lambda pair: getattr(pair, field) != value)
  return number, value, examples.draw(rng, split, pairs)


def more(rng, split):
  """States that one of two images has more objects; they never have as many."""
  true = rng.randrange(2)
  nums = rng.choice(((1, 2), (1, 3), (2, 3), (2, 1), (3, 1), (3, 2)))
  images = tuple(
    examples.draw(
      rng, split, examples.add(rng, [examples.pick(rng, split)], num - 1)
    )
    for num in nums
  )
  name = "left" if (nums[0] > nums[1]) == true else "right"
  return _statement(rng, split, images, "more", true, where=name)


def both(rng, split):
  """States that two images have a shape; if False, exactly one of them has."""
  true = rng.randrange(2)
  name = examples.pick(rng, split).shape
  has = (True, True) if true else rng.choice(((True, False), (False, True)))
  images = _two(rng, split, lambda pair: pair.shape == name, has)
  return _statement(rng, split, images, "both", true, shape=name)


def only(rng, split):
  """States that one image alone has a colour; else both do or the other one."""
  true, right = rng.randrange(2), rng.randrange(2)
  name = examples.pick(rng, split).color
  has = (True, False) if true else rng.choice(((True, True), (False, True)))
  images = _two(rng, split, lambda pair: pair.color == name, has)
  values = dict(where="right" if right else "left", color=name)
  images = images[::-1] if right else images
  return _statement(rng, split, images, "only", true, **values)


def _two(rng, split, fits, has):
  """Draws two scenes, of which `has` says whether it has a pair that fits."""
  return tuple(
    _with(rng, split, fits) if one else _without(rng, split, fits)
    for one in has
  )


def _with(rng, split, fits):
  focus = examples.pick(rng, split, fits)
  return examples.draw(rng, split, examples.fill(rng, [focus]))


def _without(rng, split, fits):
  def others(pair):
    return not fits(pair)

  focus = examples.pick(rng, split, others)
  pairs = examples.fill(rng, [focus], others)
  return examples.draw(rng, split, pairs)


def _statement(rng, split, images, kind, true, **values):
  prefix = words.prompt(rng, kind, split, **values)
  suffix = "True" if true else "False"
  return examples.Example(images, kind, prefix, suffix, (suffix,))


def reverse(rng, split):
  """Gives an answer and wants the one question of the scene that has it.

  No two objects have the same colour, shape or quadrant, so there is only one,
  in several wordings, of which the first is the suffix.
  """
  kind = rng.choice(("color", "shape", "where"))
  pairs = [examples.pick(rng, split)]
  for _ in range(rng.randrange(examples.MAX_OBJECTS)):
    taken = set(itertools.chain(*pairs))
    pairs = examples.add(rng, pairs, 1, lambda p, t=taken: t.isdisjoint(p))
  drawn = examples.draw(rng, split, pairs)
  item = examples.find_object(drawn, pairs[0])
  values = scenes.pair(item)._asdict()
  asked = scenes.quadrant(item) if kind == "where" else values[kind]
  prefix = words.prompt(rng, "question", split, answer=asked)
  answers = tuple(words.questions(kind, **values))
  return examples.Example((drawn,), kind, prefix, answers[0], answers)
