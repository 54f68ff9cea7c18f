"""Visual question answering about scenes of shapes.

Every function is `(rng, setting) -> Example`. The answer is drawn before the
scene and, where there is a choice, uniformly: a model that does not see the
image scores a half on yes and no and True and False.
"""

import itertools

from pg.data.synthetic import examples, scenes, words


def color(rng, setting):
  """Asks for the colour of the only object of a shape."""
  focus = examples.pick(rng, setting)
  pairs = examples.fill(
    rng, setting, [focus], lambda pair: pair.shape != focus.shape
  )
  prefix = words.prompt(rng, "color", setting, shape=focus.shape)
  drawn = examples.draw(rng, setting, pairs)
  return examples.one_answer(drawn, "color", prefix, focus.color)


def shape(rng, setting):
  """Asks for the shape of the only object of a colour."""
  focus = examples.pick(rng, setting)
  pairs = examples.fill(
    rng, setting, [focus], lambda pair: pair.color != focus.color
  )
  prefix = words.prompt(rng, "shape", setting, color=focus.color)
  drawn = examples.draw(rng, setting, pairs)
  return examples.one_answer(drawn, "shape", prefix, focus.shape)


def size(rng, setting):
  """Asks whether an object is small or large."""
  drawn, item = examples.random_scene(rng, setting)
  prefix = words.prompt(rng, "size", setting, **scenes.pair(item)._asdict())
  return examples.one_answer(drawn, "size", prefix, words.size(item))


def where(rng, setting):
  """Asks for the quadrant of an object."""
  cells = examples.own_quadrants(rng, setting, 1)
  drawn, item = examples.random_scene(rng, setting, cells=cells)
  prefix = words.prompt(rng, "where", setting, **scenes.pair(item)._asdict())
  return examples.one_answer(drawn, "where", prefix, scenes.quadrant(item))


def objects(rng, setting):
  """Asks for all shapes, each once, in raster order; any order is right."""
  drawn, _ = examples.random_scene(rng, setting)
  names = list(dict.fromkeys(item.shape for item in drawn.objects))
  answers = tuple(map(", ".join, itertools.permutations(names)))
  prefix = words.prompt(rng, "open", setting)
  return examples.Example((drawn,), "open", prefix, answers[0], answers)


def which(rng, setting):
  """Asks which of two shapes are there: none, one or both, equally often."""
  num = rng.randrange(3)
  focus = examples.pick(rng, setting)
  pairs = examples.add(rng, [focus], 1, lambda pair: pair.shape != focus.shape)
  # Two shapes of five are to be left.
  pairs = examples.fill(rng, setting, pairs, most=3)
  drawn = examples.draw(rng, setting, pairs)
  present = sorted({item.shape for item in drawn.objects})
  absent = [name for name in scenes.SHAPES if name not in present]
  asked = rng.sample(present, num) + rng.sample(absent, 2 - num)
  a, b = rng.sample(asked, 2)
  right = [name for name in (a, b) if name in present] or ["none"]
  answers = tuple(map(", ".join, itertools.permutations(right)))
  prefix = words.prompt(rng, "which", setting, a=a, b=b)
  return examples.Example((drawn,), "which", prefix, answers[0], answers)


def exists(rng, setting):
  """Asks for an object that is there, or of which only colour or shape is."""
  yes = rng.randrange(2)
  asked = examples.pick(rng, setting)
  other = examples.pick(rng, setting, lambda pair: pair != asked)
  same = "color" if rng.randrange(2) else "shape"

  def alike(pair):
    return pair != asked and getattr(pair, same) == getattr(asked, same)

  pairs = examples.add(rng, [asked if yes else other], 1, alike)
  pairs = examples.fill(rng, setting, pairs, lambda pair: pair != asked)
  prefix = words.prompt(rng, "exists", setting, **asked._asdict())
  drawn = examples.draw(rng, setting, pairs)
  return examples.one_answer(drawn, "exists", prefix, "yes" if yes else "no")


def side(rng, setting):
  """Asks whether an object is on one side of another, or on the opposite."""
  yes = rng.randrange(2)
  pairs = examples.add(rng, [examples.pick(rng, setting)], 1)
  true = rng.choice(tuple(examples.SIDES))
  name = true if yes else examples.OPPOSITE[true]
  cells = () if setting.is_free else examples.opposite_quadrants(rng, true)
  filled = examples.fill(rng, setting, pairs)

  def fits(drawn):
    both = (examples.find_object(drawn, pair) for pair in pairs)
    return examples.is_beside(true, *both)

  drawn = examples.draw(rng, setting, filled, cells, fits)
  a, b = (" ".join(pair) for pair in pairs)
  prefix = words.prompt(rng, "side", setting, a=a, side=name, b=b)
  return examples.one_answer(drawn, "side", prefix, "yes" if yes else "no")


def total(rng, setting):
  """Asks how many objects there are: one to the most, equally often."""
  drawn, _ = examples.random_scene(rng, setting, setting.canvas.MAX_COUNT)
  prefix = words.prompt(rng, "total", setting)
  return examples.one_answer(drawn, "total", prefix, str(len(drawn.objects)))


def count_color(rng, setting):
  """Asks how many objects have a colour: none to the most, equally often."""
  number, value, drawn = _so_many(rng, setting, "color", scenes.COLORS)
  prefix = words.prompt(rng, "count_color", setting, color=value)
  return examples.one_answer(drawn, "count_color", prefix, str(number))


def count_shape(rng, setting):
  """Asks how many objects have a shape: none to the most, equally often."""
  number, value, drawn = _so_many(rng, setting, "shape", scenes.SHAPES)
  shapes = words.PLURALS[value]
  prefix = words.prompt(rng, "count_shape", setting, shapes=shapes)
  return examples.one_answer(drawn, "count_shape", prefix, str(number))


def _so_many(rng, setting, field, values):
  """Draws a number, a value, and a scene with so many objects of that value."""
  number, most = (
    rng.randrange(setting.canvas.MAX_COUNT + 1),
    setting.canvas.MAX_COUNT,
  )
  focus = examples.pick(rng, setting)
  value = there = getattr(focus, field)
  if number == 0:
    value = rng.choice([v for v in values if v != there])
  own = lambda pair: getattr(pair, field) == value
  num = max(number - 1, 0)
  pairs = examples.add(rng, [focus], num, own, repeat=setting.is_free)
  pairs = examples.fill(rng, setting, pairs, lambda pair: not own(pair), most)
  return number, value, examples.draw(rng, setting, pairs)


def more(rng, setting):
  """States that one of two images has more objects; they never have as many."""
  true = rng.randrange(2)
  nums = rng.choice(((1, 2), (1, 3), (2, 3), (2, 1), (3, 1), (3, 2)))
  images = tuple(
    examples.draw(
      rng, setting, examples.add(rng, [examples.pick(rng, setting)], num - 1)
    )
    for num in nums
  )
  name = "left" if (nums[0] > nums[1]) == true else "right"
  return _statement(rng, setting, images, "more", true, where=name)


def both(rng, setting):
  """States that two images have a shape; if False, exactly one of them has."""
  true = rng.randrange(2)
  name = examples.pick(rng, setting).shape
  has = (True, True) if true else rng.choice(((True, False), (False, True)))
  images = _two(rng, setting, lambda pair: pair.shape == name, has)
  return _statement(rng, setting, images, "both", true, shape=name)


def only(rng, setting):
  """States that one image alone has a colour; else both do or the other one."""
  true, right = rng.randrange(2), rng.randrange(2)
  name = examples.pick(rng, setting).color
  has = (True, False) if true else rng.choice(((True, True), (False, True)))
  images = _two(rng, setting, lambda pair: pair.color == name, has)
  values = dict(where="right" if right else "left", color=name)
  images = images[::-1] if right else images
  return _statement(rng, setting, images, "only", true, **values)


def _two(rng, setting, fits, has):
  """Draws two scenes, of which `has` says whether it has a pair that fits."""
  return tuple(
    _with(rng, setting, fits) if one else _without(rng, setting, fits)
    for one in has
  )


def _with(rng, setting, fits):
  focus = examples.pick(rng, setting, fits)
  return examples.draw(rng, setting, examples.fill(rng, setting, [focus]))


def _without(rng, setting, fits):
  def others(pair):
    return not fits(pair)

  focus = examples.pick(rng, setting, others)
  pairs = examples.fill(rng, setting, [focus], others)
  return examples.draw(rng, setting, pairs)


def _statement(rng, setting, images, kind, true, **values):
  prefix = words.prompt(rng, kind, setting, **values)
  suffix = "True" if true else "False"
  return examples.Example(images, kind, prefix, suffix, (suffix,))


def reverse(rng, setting):
  """Gives an answer and wants the one question of the scene that has it.

  No two objects have the same colour, shape or quadrant, so there is only one,
  in several wordings, of which the first is the suffix.
  """
  kind = rng.choice(("color", "shape", "where"))
  pairs = [examples.pick(rng, setting)]
  for _ in range(rng.randrange(setting.canvas.MAX_OBJECTS)):
    taken = set(itertools.chain(*pairs))
    pairs = examples.add(rng, pairs, 1, lambda p, t=taken: t.isdisjoint(p))
  cells = examples.own_quadrants(rng, setting, len(pairs))
  drawn = examples.draw(rng, setting, pairs, cells)
  item = examples.find_object(drawn, pairs[0])
  values = scenes.pair(item)._asdict()
  asked = scenes.quadrant(item) if kind == "where" else values[kind]
  prefix = words.prompt(rng, "question", setting, answer=asked)
  answers = tuple(words.questions(kind, **values))
  return examples.Example((drawn,), kind, prefix, answers[0], answers)
