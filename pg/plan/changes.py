"""What else would fit chips: larger batches, and changes of a config.

Everything is tried by `attempt`, a function from a config, a Target and what is
said of it to the figures of a step of training.
"""

import shlex

from pg.models import layers
from pg.plan import target, text

# From the one that computes nothing twice to the one that keeps least.
POLICIES = tuple(reversed(layers.POLICIES))


def changed(c, **values):
  """Returns a config with other values; `remat` is the model's."""
  c = c.copy_and_resolve_references()
  with c.unlocked():
    if "remat" in values:
      c.model.remat = values.pop("remat")
    c.update(values)
  return c


def largest(c, on, attempt):
  """Returns the figures of the largest batch that fits; None if none does.

  Batches are that of the config times or divided by powers of 2.
  """
  best, size = None, c.batch_size
  found = attempt(c, on)
  while found["fits"]:
    best, size = found, size * 2
    found = attempt(changed(c, batch_size=size), on)
  while not best and not size % 2:
    size //= 2
    try:
      found = attempt(changed(c, batch_size=size), on)
    except ValueError:  # fewer than there are devices
      return None
    best = found if found["fits"] else None
  return best


def search(c, on, attempt):
  """Prints the largest batch that fits with each remat policy."""
  found, size = [], c.batch_size
  for policy in POLICIES:  # which fit no less than the one before
    tried = changed(c, remat=policy, batch_size=size)
    if best := largest(tried, on, attempt):
      found.append(best)
      size = best["batch_size"]
  if not found:
    print(f"nothing fits {on.name}")
    return
  rate = "examples_per_second"
  found.sort(key=lambda x: -x.get(rate, 0))
  text.show_table(
    [
      [
        f"--config.model.remat={x['remat']}",
        f"--config.batch_size={x['batch_size']}",
        text.readable(x["peak"]),
        f"{x.get(rate, 0):.1f} examples/s",
      ]
      for x in found
    ]
  )


def advice(c, on, attempt):
  """Prints up to three changes with which it fits, the cheapest first.

  First come those that leave the numbers of the run as they are.
  """
  num = 0
  for family in changes(c, on):
    for words, other, name in family:
      try:
        found = attempt(other, target.find(name), words)
      except ValueError:  # a batch that the chips do not divide, or no such
        continue
      if found["fits"]:
        if not num:
          print("it would fit, the cheapest change first:")
        num += 1
        rate = found.get("examples_per_second", 0) / found["chips"]
        peak = text.readable(found["peak"])
        print(f"  {words}: {peak}, {rate:.2f} examples/s a chip")
        break
    if num == 3:
      return
  if not num:
    print("nothing that was tried would fit")


def changes(c, on):
  """Returns lists of (what to write, the config then, name of the Target)."""

  def written(key, values):
    return [
      (
        shlex.quote(f"--config.{key}={x}"),
        changed(c, **{key.split(".")[-1]: x}),
        on.name,
      )
      for x in values
    ]

  remat = POLICIES[POLICIES.index(c.model.remat) + 1 :]
  parts = [n * c.num_microbatches for n in (2, 4, 8, 16)]
  halves = [c.batch_size // n for n in (2, 4, 8, 16) if not c.batch_size % n]
  return [
    written("model.remat", remat),
    written("num_microbatches", parts),
    [(f"--on {x}", c, x) for x in larger(on.name)],
    written("moment_dtype", ["bfloat16"]),
    written("batch_size", halves),
    adapters(c, on),
    written("schedule", [(("img/.*", None), *c.schedule)]),
  ]


def adapters(c, on):
  """Returns the change that trains adapters of weights in half precision."""
  if c.lora.rank:
    return []
  other = changed(c, lora=dict(rank=8), frozen_dtype="bfloat16")
  words = "--config.lora.rank=8 --config.frozen_dtype=bfloat16"
  return [(words, other, on.name)]


def larger(name):
  """Returns names of two and of four times as many chips, if there are."""
  kind, _, size = name.partition(":")
  found = []
  while len(found) < 2 and size:
    sides = sorted(map(int, size.split("x")))
    sides = sorted([2 * sides[0], *sides[1:]])
    if sides[-1] > (8 if len(sides) == 1 else 16):
      break
    size = "x".join(map(str, sides))
    found.append(f"{kind}:{size}")
  return found
