"""Reading: the task whose scenes have lines of characters."""

from pg.data.synthetic import examples, free, scenes, words


def read(rng, setting):
  """Reads two short lines, or a longer one beside an object."""
  two = setting.split != "combo" and rng.randrange(2)
  while True:
    if setting.is_free:
      drawn = _free_lines(rng, setting, two)
    else:
      drawn = _two_lines(rng) if two else _one_line(rng, setting)
    if scenes.belongs(drawn, setting.split):
      break
  prefix = words.prompt(rng, "ocr", setting)
  suffix = " ".join(label.text for label in drawn.labels)
  kind = f"lines_{len(drawn.labels)}"
  return examples.one_answer(drawn, kind, prefix, suffix)


def _two_lines(rng):
  labels = tuple(_line(rng, half, most=2) for half in range(2))
  return scenes.place(rng, [], [], labels)


def _one_line(rng, setting):
  half = rng.randrange(2)
  empty = examples.SIDES["above" if half else "below"]
  labels = (_line(rng, half, most=3),)
  pairs = [examples.pick(rng, setting)]
  return scenes.place(rng, pairs, [rng.choice(empty)], labels)


def _line(rng, half, most):
  """Draws a Label of one to `most` characters in the upper or lower half."""
  text = _characters(rng, most)
  x = rng.randrange(0, scenes.UNITS - 2 * len(text) + 1, scenes.GRID)
  return scenes.Label(text, half * scenes.HALF, x)


def _free_lines(rng, setting, two):
  """Draws the same anywhere."""
  if two:
    texts = [_characters(rng, most=2) for _ in range(2)]
    return free.place(rng, setting.files, [], texts=texts)
  pairs = [examples.pick(rng, setting)]
  texts = [_characters(rng, most=3)]
  return free.place(rng, setting.files, pairs, texts=texts)


def _characters(rng, most):
  num = rng.randint(1, most)
  return "".join(rng.choices(tuple(scenes.FONT), k=num))
