"""Refuses a config whose state alone is more than its devices have.

Nothing is compiled for it. What else a step takes, pg.fit tells.
"""

import jax

from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import paligemma
from pg.plan import changes, needs, target, text


def check(c, run, state):
  """Raises ValueError when a step cannot fit, with the cheapest ways out.

  Args:
    c: the config.
    run: experiment.Experiment.
    state: abstract, as of `state_lib.abstract`.
  """
  on = target.find(target.HERE)
  least, has = _held(state, run.is_frozen), needs.memory(on)
  if least <= has:
    return
  ways = []
  for words, other in _ways(c):
    try:
      size = _least(other, run)
    except ValueError:  # rules that nothing is left for
      continue
    if size <= has:
      ways.append(f"  {words}: {text.readable(size)}")
  num = -(-least * run.mesh.size // int(has))
  ways.append(f"  {num} of these devices or more")
  raise ValueError(
    f"a step takes at least {text.readable(least)} of a device, for parameters,"
    f" optimizer and gradients, and each has {text.readable(has)}; it may fit"
    " with one of these, the cheapest first (python -m pg.fit tells more):\n"
    + "\n".join(ways[:3])
  )


def _ways(c):
  """Yields (what to write, the config then) of what makes its state less."""

  def without(tower):
    rest = (rule for rule in c.schedule if rule[0] != tower)
    return dict(schedule=((tower, None), *rest), frozen_dtype="bfloat16")

  half = dict(moment_dtype="bfloat16")
  yield "--config.moment_dtype=bfloat16", changes.changed(c, **half)
  words = "that, img/.* frozen in `schedule`, and frozen_dtype=bfloat16"
  yield words, changes.changed(c, **half, **without("img/.*"))
  few = dict(optimizer="adafactor")
  yield "--config.optimizer=adafactor", changes.changed(c, **few)
  words = "llm/.* frozen in `schedule`, and --config.frozen_dtype=bfloat16"
  yield words, changes.changed(c, **without("llm/.*"))


def _least(c, run):
  shapes = paligemma.shapes(run.cfg)
  # Neither number is in shapes.
  tx = optim.make(c, shapes, 2**30, 10**6)
  is_frozen = optim.frozen(shapes, c.schedule)
  params = state_lib.shapes(run.cfg, is_frozen, c.frozen_dtype)
  state = state_lib.abstract(run.cfg, tx, run.mesh, c.sharding, params)
  return _held(state, is_frozen)


def _held(state, is_frozen):
  """Returns bytes on a device of a state, and gradients of what is trained."""
  of_free = lambda frozen, p: None if frozen else p
  grads = jax.tree.map(of_free, is_frozen, state["params"])
  return needs.on_device((state["params"], state["opt"], grads))
