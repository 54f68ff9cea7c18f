"""Schedules: the factor of a step's size, as a function of the steps before it.

A rule of the config's `schedule` has the name of a shape, or a group of keys:

  ("img/.*", dict(kind="rsqrt", delay="1M ex", warmup="100M ex"))

After `delay` steps at 0 the factor rises linearly from 0 to where its shape
begins (1, but for an rsqrt with a `start`) in `warmup` steps (by default the
config's), then it has the shape to the end of the run; in the last `cooldown`
steps it is multiplied with a line from 1 to 0.
"""

import functools
import json

import jax.numpy as jnp
import optax

from pg import config

# Shape -> the keys that only it has, with defaults.
KINDS = {
  "constant": {},
  "cosine": {},  # to 0
  "linear": {},  # to 0
  "poly": dict(power=2.0),  # a line to 0, to that power
  # big_vision's: continued at will, sqrt(1/2) after `timescale`, in the end
  # halved each 4x. The curve of an earlier stage goes on if that had taken
  # `start` after its warm-up.
  "rsqrt": dict(timescale=10_000, start=0),
  # The factor is that of `mults` from the time of `at` on, 1 before.
  "stair": dict(at=(), mults=()),
}


def key(rule):
  """Returns what a rule says as a str that is equal for equal schedules."""
  if rule is None or isinstance(rule, str):
    return rule
  return json.dumps(dict(rule), sort_keys=True)


def kind(rule):
  """Returns the name of the shape of a rule that is not None."""
  return _group(rule).get("kind")


def _group(rule):
  if not isinstance(rule, str):
    return rule
  return json.loads(rule) if rule.startswith("{") else dict(kind=rule)


def make(rule, total, steps, warmup):
  """Returns a function from step to a factor in [0, 1].

  Args:
    rule: str, the name of a shape, or a group as above, as a dict or as `key`
      has it.
    total: int, steps in the run.
    steps: function from a duration to steps.
    warmup: int, steps of warm-up where the rule has none.

  Raises:
    ValueError: an unknown shape or key, or more steps than there are.
  """
  rule = _group(rule)
  own = config.lookup(KINDS, rule.get("kind"), "schedule")
  known = dict(kind="", warmup=warmup, delay=0, cooldown=0, **own)
  for name in rule:
    what = f"key of schedule {rule['kind']!r}"
    config.lookup(known, name, what)
  rule = {**known, **rule}
  warmup, delay, cooldown = (
    steps(rule[name]) for name in ("warmup", "delay", "cooldown")
  )
  if warmup + delay + cooldown > total > 0:
    raise ValueError(
      f"config.schedule: delay, warmup and cooldown of {rule['kind']!r} are"
      f" {delay}, {warmup} and {cooldown} steps: wanted at most total, {total},"
      " together"
    )
  span = max(1, total - delay - warmup)
  shapes = dict(
    constant=lambda: optax.constant_schedule(1.0),
    cosine=lambda: optax.cosine_decay_schedule(1.0, span),
    linear=lambda: optax.linear_schedule(1.0, 0.0, span),
    poly=lambda: optax.polynomial_schedule(1.0, 0.0, rule["power"], span),
    rsqrt=lambda: functools.partial(
      _rsqrt, start=steps(rule["start"]), timescale=steps(rule["timescale"])
    ),
    stair=lambda: _stair(
      [steps(at) - delay - warmup for at in rule["at"]], rule["mults"]
    ),
  )
  curve = shapes[rule["kind"]]()
  if warmup:
    rise = optax.linear_schedule(0.0, float(curve(0)), warmup)
    curve = optax.join_schedules([rise, curve], [warmup])
  if delay:
    zero = optax.constant_schedule(0.0)
    curve = optax.join_schedules([zero, curve], [delay])
  if not cooldown:
    return curve
  return lambda t: curve(t) * jnp.clip((total - t) / cooldown, 0.0, 1.0)


def _rsqrt(t, start, timescale):
  return jnp.sqrt(1 / (1 + (jnp.float32(t) + start) / timescale))


def _stair(at, mults):
  if len(at) != len(mults) or list(at) != sorted(at):
    raise ValueError(
      f"config.schedule: 'stair' has {len(at)} times in `at` and {len(mults)}"
      " factors in `mults`; wanted as many, the times in their order"
    )
  factors = jnp.array([1.0, *mults])
  return lambda t: factors[jnp.searchsorted(jnp.array(at), t, side="right")]
