"""The optimizer: Adam with schedules, freezing and decay by parameter name.

One step is

  p <- p - s(t) * (lr * lr_mult * adam(clip(g)) + wd * wd_mult * p)

with the schedule s of the first rule that matches the parameter's name. The
optimizer "sgd" is the same without adam(), and keeps no moments. Weight decay
follows the schedule but not `lr` (1e-6 here is 0.1 in AdamW at lr 1e-5). A
parameter whose schedule is None is frozen: it gets no gradient, no moments, and
does not count in the clipping norm.
"""

import functools
import operator

import jax.numpy as jnp
import optax

from pg import config, tree

# name -> function from a config to a transformation of gradients
OPTIMIZERS = {
  "adam": lambda c: optax.scale_by_adam(b1=c.b1, b2=c.b2),
  "sgd": lambda c: optax.identity(),
}


# Steps after which "rsqrt" is down to sqrt(1/2): big_vision's.
TIMESCALE = 10_000


def schedule(kind, total, warmup):
  """Returns a function from step to a factor in [0, 1].

  Args:
    kind: "cosine" (to 0 at `total`), "linear" (to 0), "rsqrt" or "constant",
      each after a linear warm-up from 0.
    total: int, steps in the run.
    warmup: int, steps of warm-up.
  """
  span = max(1, total - warmup)
  shapes = {
    "cosine": optax.cosine_decay_schedule(1.0, span),
    "linear": optax.linear_schedule(1.0, 0.0, span),
    "constant": optax.constant_schedule(1.0),
    # The pre-training schedule: continued at will, in the end halved each 4x.
    "rsqrt": lambda t: jnp.sqrt(1 / (1 + jnp.float32(t) / TIMESCALE)),
  }
  shape = config.lookup(shapes, kind, "schedule")
  if not warmup:
    return shape
  rise = optax.linear_schedule(0.0, 1.0, warmup)
  return optax.join_schedules([rise, shape], [warmup])


def frozen(shapes, rules):
  """Returns a tree of bools, True for parameters that are not trained."""
  return _where(rules, shapes, lambda kind: kind is None)


def make(c, shapes, total, num_examples=None):
  """Builds the gradient transformation of a config.

  Args:
    c: the config, with `lr`, `wd`, `warmup` (duration), `schedule` (pairs of
      a regex and a kind or None), `lr_mult` and `wd_mult` (pairs of a regex
      and a factor), `grad_clip` (norm, 0 is off), `optimizer` ("adam" or
      "sgd"), `b1`, `b2`, `batch_size`.
    shapes: tree of parameters or their shapes.
    total: int, steps in the run.
    num_examples: int, in an epoch, for a warmup in epochs.

  Returns:
    optax.GradientTransformation whose updates are added to the parameters.

  Raises:
    ValueError: a parameter without a rule, a rule that nothing matches, or a
      warm-up beyond the run.
  """
  names = tree.flatten(shapes)
  for key in ("schedule", "lr_mult", "wd_mult"):
    idle = [r for r in tree.unused(c[key], names) if r != ".*"]
    if idle:
      raise ValueError(
        f"{key}: no parameter's first match is {idle[0]!r}; names look like"
        f" {next(iter(names))!r}"
      )
  warmup = config.warmup(c, total, num_examples)
  curves = {
    kind: schedule(kind, total, warmup)
    for kind in {tree.match(c.schedule, k) for k in names} - {None}
  }
  decay = lambda factor: optax.add_decayed_weights(c.wd * factor)
  # Zero times the parameters would be a buffer of their size.
  decays = _by_rule(c.wd_mult, shapes, decay, without=0.0) if c.wd else ()
  scheduled = lambda kind: optax.scale_by_learning_rate(curves[kind])
  is_free = _where(c.schedule, shapes, lambda kind: kind is not None)
  clip = optax.clip_by_global_norm(c.grad_clip) if c.grad_clip else None
  steps = [
    clip or optax.identity(),
    config.lookup(OPTIMIZERS, c.optimizer, "optimizer")(c),
    optax.chain(
      optax.scale(c.lr),
      *_by_rule(c.lr_mult, shapes, optax.scale, without=1.0),
      *decays,
    ),
    *_by_rule(c.schedule, shapes, scheduled, without=None),
  ]
  return optax.masked(optax.chain(*steps), is_free)


def _by_rule(rules, shapes, make, without):
  """Returns `make(value)` for each value of the rules but one.

  Each applies to the parameters that have its value.
  """
  values = {tree.match(rules, name) for name in tree.flatten(shapes)}
  if len(values - {without}) == 1 and (
    without is None or without not in values
  ):
    return [make(*(values - {without}))]
  masks = {
    value: _where(rules, shapes, functools.partial(operator.eq, value))
    for value in sorted(values - {without})
  }
  return [optax.masked(make(value), mask) for value, mask in masks.items()]


def _where(rules, shapes, test):
  """Returns the tree of bools: which parameters have a value that passes."""
  return tree.map_named(lambda k, _: test(tree.match(rules, k)), shapes)
