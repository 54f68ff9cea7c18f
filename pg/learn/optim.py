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

import jax
import jax.numpy as jnp
import optax

from pg import config, tree

# name -> function from a config to a transformation of gradients
OPTIMIZERS = {
  "adam": lambda c: optax.scale_by_adam(b1=c.b1, b2=c.b2),
  "sgd": lambda c: optax.identity(),
}


def schedule(kind, total, warmup):
  """Returns a function from step to a factor in [0, 1].

  Args:
    kind: "cosine" (to 0 at `total`), "linear" (to 0), "rsqrt" or "constant",
      each after a linear warm-up from 0.
    total: int, steps in the run.
    warmup: int, steps of warm-up.
  """
  span = max(1, total - warmup)
  decay = {
    "cosine": lambda t: 0.5 * (1 + jnp.cos(jnp.pi * t)),
    "linear": lambda t: 1 - t,
    "constant": jnp.ones_like,
    # The pre-training schedule: continued at will, halved each 4x of steps.
    "rsqrt": lambda t: jnp.sqrt(1 / (1 + t * span / max(1, warmup))),
  }
  shape = config.lookup(decay, kind, "schedule")

  def factor(step):
    t = jnp.clip((step - warmup) / span, 0.0, None)
    t = t if kind == "rsqrt" else jnp.minimum(t, 1.0)
    rise = jnp.minimum(1.0, step / warmup) if warmup else 1.0
    return rise * shape(jnp.float32(t))

  return factor


def frozen(shapes, rules):
  """Returns a tree of bools, True for parameters that are not trained."""
  return tree.map_named(lambda k, _: tree.match(rules, k) is None, shapes)


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
    ValueError: a parameter without a rule, or a rule that nothing matches.
  """
  names = tree.flatten(shapes)
  for key in ("schedule", "lr_mult", "wd_mult"):
    idle = [r for r in tree.unused(c[key], names) if r != ".*"]
    if idle:
      raise ValueError(
        f"{key}: no parameter's first match is {idle[0]!r}; names look like"
        f" {next(iter(names))!r}"
      )
  warmup = config.steps(c.warmup, c.batch_size, num_examples, total)
  factor = {k: tree.match(c.lr_mult, k) for k in names}
  decay = {k: tree.match(c.wd_mult, k) for k in names}
  curve = {
    kind: schedule(kind, total, warmup)
    for kind in {tree.match(c.schedule, k) for k in names} - {None}
  }

  def direction(updates, params):
    """Returns lr * lr_mult * updates + wd * wd_mult * params."""
    step = lambda k, u, p: c.lr * factor[k] * u + c.wd * decay[k] * p
    return _map_named(step, updates, params)

  def scaled(updates, count):
    scale = lambda k, u: -curve[tree.match(c.schedule, k)](count) * u
    return _map_named(scale, updates)

  transformations = [
    optax.clip_by_global_norm(c.grad_clip) if c.grad_clip else optax.identity(),
    config.lookup(OPTIMIZERS, c.optimizer, "optimizer")(c),
    optax.stateless(direction),
    _by_count(scaled),
  ]
  is_free = jax.tree.map(lambda x: not x, frozen(shapes, c.schedule))
  return optax.masked(optax.chain(*transformations), is_free)


def stop_frozen(params, is_frozen):
  """Stops gradients of frozen parameters, so that they cost nothing."""
  stop = lambda p, f: jax.lax.stop_gradient(p) if f else p
  return jax.tree.map(stop, params, is_frozen)


def _by_count(function):
  """Makes a transformation of `function(updates, number of earlier steps)`."""

  def update(updates, state, params=None):
    del params
    return function(updates, state.count), optax.ScaleByScheduleState(
      state.count + 1
    )

  init = lambda params: optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))
  return optax.GradientTransformation(init, update)


def _map_named(function, updates, *rest):
  """Maps `function(name, update, ...)`; what is masked has no leaves."""
  named = lambda path, *leaves: function("/".join(k.key for k in path), *leaves)
  return jax.tree_util.tree_map_with_path(named, updates, *rest)


def global_norm(updates, is_frozen):
  """Returns the L2 norm over the parameters that are not frozen, f32[]."""
  squares = jax.tree.map(
    lambda g, f: 0.0 if f else jnp.sum(jnp.square(g.astype(jnp.float32))),
    updates,
    is_frozen,
  )
  return jnp.sqrt(functools.reduce(jnp.add, jax.tree.leaves(squares)))
