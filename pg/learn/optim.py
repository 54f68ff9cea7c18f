"""The optimizer: gradients to steps, freezing and decay by parameter name.

One step is

  p <- p - s(t) * (lr * lr_mult * adam(clip(g)) + wd * wd_mult * p)

with the schedule s of the first rule that matches the parameter's name; the
optimizers that OPTIMIZERS names take the place of adam(), and "sgd" has nothing
there. Weight decay follows the schedule but not `lr` (1e-6 here is 0.1 in AdamW
at lr 1e-5); that of "adamw" is multiplied with the parameter's lr, too. A
parameter whose schedule is None is frozen: it gets no gradient, no moments, and
does not count in the clipping norm. Where there are adapters (models/lora.py),
they alone are trained; rules name them by the weights that they belong to.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from pg import config, tree
from pg.learn import average, finite, moments, schedule, schedule_free
from pg.models import lora, matrices

# name -> function from a config to a transformation of gradients
OPTIMIZERS = {
  "adam": lambda c: optax.scale_by_adam(b1=c.b1, b2=c.b2),
  "adamw": lambda c: optax.scale_by_adam(b1=c.b1, b2=c.b2),
  # The mean squares of rows and of columns, and no first moment. Steps are not
  # relative to the parameters: `lr` is as of Adam.
  "adafactor": lambda c: optax.chain(
    optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)
  ),
  "lion": lambda c: optax.scale_by_lion(b1=c.b1, b2=c.b2),
  "momentum": lambda c: optax.trace(decay=c.b1),
  "muon": lambda c: contrib.muon(
    -1.0,  # the sign is that of gradients, as of all here
    beta=c.b1,
    adam_b1=c.b1,
    adam_b2=c.b2,
    # Steps as large as Adam's (arXiv:2502.16982): `lr` is, too.
    consistent_rms=0.2,
    muon_weight_dimension_numbers=_matrices,
  ),
  # Adam without a first moment, under the average of schedule_free.py.
  "schedule_free": lambda c: optax.scale_by_rms(
    c.b2, eps_in_sqrt=False, bias_correction=True
  ),
  "sgd": lambda c: optax.identity(),
}
# What "muon" makes orthogonal is all other matrices; Adam's is the rest.
PROJECTOR = "img/head/kernel"


def _matrices(params):
  """Returns the tree of contrib.MuonDimensionNumbers, None for the rest."""

  def dimensions(name, _):
    kernel, inner = matrices.letters(name) or ("", "")
    if not inner or name == PROJECTOR:
      return None
    outer = [x for x in kernel if x not in inner]
    at = lambda which: tuple(kernel.index(x) - len(kernel) for x in which)
    return contrib.MuonDimensionNumbers(at(inner), at(outer))

  return tree.map_named(dimensions, params)


def frozen(shapes, rules):
  """Returns a tree of bools, True for parameters that are not trained."""
  fixed = _where(rules, shapes, lambda kind: kind is None)
  if lora.ROOT not in shapes:
    return fixed
  only = lambda name, x: x or not name.startswith(f"{lora.ROOT}/")
  return tree.map_named(only, fixed)


def frozen_towers(is_frozen):
  """Returns the first names, such as "img", of which nothing is trained.

  Args:
    is_frozen: tree of bool, see `frozen`.
  """
  return tuple(k for k, v in is_frozen.items() if all(jax.tree.leaves(v)))


def make(c, shapes, total, num_examples=None):
  """Builds the gradient transformation of a config.

  Args:
    c: the config, with `lr`, `wd`, `warmup` (duration), `schedule` (pairs of
      a regex and None or a rule of schedule.py), `lr_mult` and `wd_mult` (pairs
      of a regex and a factor), `grad_clip` (norm, 0 is off), `optimizer`,
      `moment_dtype`, `b1`, `b2`, `ema`, `nonfinite`, `batch_size`.
    shapes: tree of parameters or their shapes.
    total: int, steps in the run.
    num_examples: int, in an epoch, for a warmup in epochs.

  Returns:
    optax.GradientTransformation whose updates are added to the parameters.

  Raises:
    ValueError: a parameter without a rule, a rule that nothing matches, or a
      warm-up beyond the run.
  """
  names = [lora.target(name) for name in tree.flatten(shapes)]
  for key in ("schedule", "lr_mult", "wd_mult"):
    if alone := tree.unmatched(c[key], names):
      raise ValueError(
        f"{key}: no rule matches parameter {', '.join(tree.some(alone))}; add a"
        " last rule ('.*', ...)"
      )
    idle = [r for r in tree.unused(c[key], names) if r != ".*"]
    if idle:
      raise ValueError(
        f"{key}: no parameter's first match is {idle[0]!r}; names look like"
        f" {names[0]!r}"
      )
  rules, curves = _schedules(c, names, total, num_examples)
  decay = lambda factor: optax.add_decayed_weights(c.wd * factor)
  # Zero times the parameters would be a buffer of their size.
  decays = _by_rule(c.wd_mult, shapes, decay, without=0.0) if c.wd else ()
  scheduled = lambda key: optax.scale_by_learning_rate(curves[key])
  is_free = jax.tree.map(operator.not_, frozen(shapes, rules))
  clip = optax.clip_by_global_norm(c.grad_clip) if c.grad_clip else None
  optimizer = config.lookup(OPTIMIZERS, c.optimizer, "optimizer")(c)
  if c.moment_dtype != "float32":
    optimizer = moments.rounded(optimizer)
  rates = _by_rule(c.lr_mult, shapes, optax.scale, without=1.0)
  lr = _lr(c, shapes)
  parts = [optax.scale(lr), *rates, *decays]
  if c.optimizer == "adamw":
    parts = [*decays, optax.scale(lr), *rates]
  chain = [
    clip or optax.identity(),
    optimizer,
    optax.chain(*parts),
    *_by_rule(rules, shapes, scheduled, without=None),
  ]
  tx = optax.chain(*chain)
  if c.optimizer == "schedule_free":
    tx = schedule_free.averaged(tx, c.b1, _highest(rules, curves))
  if c.ema:
    tx = average.averaged(tx, c.ema)
  tx = optax.masked(tx, is_free)
  return finite.skipping(tx) if c.nonfinite.policy == "skip" else tx


def _highest(rules, curves):
  """Returns the highest of the curves that schedule-free descent has.

  Raises:
    ValueError: one that decays.
  """
  for regex, key in rules:
    kind = key and schedule.kind(key)
    if kind not in (None, "constant"):
      raise ValueError(
        f"optimizer schedule_free with the schedule {kind!r} of {regex!r}: its"
        " average takes the place of a decay; wanted 'constant', which may have"
        " a warm-up, or None"
      )
  each = tuple(curves.values())
  return lambda step: jnp.max(jnp.stack([jnp.float32(f(step)) for f in each]))


def rates(c, shapes, total, num_examples=None):
  """Returns {metric: function from steps done to a learning rate}.

  They are "train/lr/llm" and so on, the highest of each group; only "train/lr"
  where all that is trained has the same one.

  Args:
    c, shapes, total, num_examples: as for `make`.
  """
  is_frozen = tree.flatten(frozen(shapes, c.schedule))
  names = [lora.target(name) for name, x in is_frozen.items() if not x]
  rules, curves = _schedules(c, names, total, num_examples)
  found = {}
  for name in names:
    pair = tree.match(rules, name), _lr(c, shapes) * tree.match(c.lr_mult, name)
    found.setdefault(f"train/lr/{_group(name)}", set()).add(pair)
  if len(every := set().union(*found.values())) == 1:
    found = {"train/lr": every}

  def highest(pairs):
    return lambda step: max(lr * float(curves[key](step)) for key, lr in pairs)

  return {name: highest(pairs) for name, pairs in found.items()}


def _lr(c, shapes):
  """Returns the learning rate before `lr_mult`, that of adapters if any."""
  return c.lr * (c.lora.lr_mult if lora.ROOT in shapes else 1.0)


def _schedules(c, names, total, num_examples):
  """Returns the config's rules with hashable values, and the curve of each."""
  rules = [(regex, schedule.key(rule)) for regex, rule in c.schedule]
  steps = functools.partial(
    config.steps,
    batch_size=c.batch_size,
    num_examples=num_examples,
    total=total,
  )
  warmup = config.warmup(c, total, num_examples)
  return rules, {
    key: schedule.make(key, total, steps, warmup)
    for key in {tree.match(rules, k) for k in names} - {None}
  }


def group_norms(grads, is_frozen):
  """Returns {"train/grad_norm/llm": f32[], ...} of groups that are trained."""
  free, groups = tree.flatten(is_frozen), {}
  for name, grad in tree.flatten(grads).items():
    if not free[name]:
      group = f"train/grad_norm/{_group(lora.target(name))}"
      groups.setdefault(group, []).append(grad)
  return {name: optax.tree.norm(each) for name, each in groups.items()}


def _group(name):
  """Returns "img", "projector" or "llm" of a parameter's name."""
  return "projector" if name.startswith("img/head/") else name.split("/")[0]


def without_schedules(opt):
  """Returns an optimizer's state with None where its schedules are.

  Moments, the steps they have seen and averages are left: what goes on in
  another run, whose schedules may be others.
  """
  leave_out = lambda x: None if _is_schedule(x) else x
  return jax.tree.map(leave_out, opt, is_leaf=_is_schedule)


def restarted(abstract, rest):
  """Returns an optimizer's state whose schedules start anew.

  Args:
    abstract: the state's shapes, dtypes and shardings.
    rest: what `without_schedules` leaves of it, of another run.
  """

  def start(x, other):
    if not _is_schedule(x):
      return other
    return x._replace(count=jax.device_put(np.int32(0), x.count.sharding))

  return jax.tree.map(start, abstract, rest, is_leaf=_is_schedule)


def _is_schedule(x):
  return isinstance(x, optax.ScaleByScheduleState)


def _by_rule(rules, shapes, make, without):
  """Returns `make(value)` for each value of the rules but one.

  Each applies to the parameters that have its value.
  """
  names = map(lora.target, tree.flatten(shapes))
  values = {tree.match(rules, name) for name in names}
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
  find = lambda name, _: test(tree.match(rules, lora.target(name)))
  return tree.map_named(find, shapes)
