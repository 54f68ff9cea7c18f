r"""Trains a model: one config file in, one workdir out.

python -m pg.train --config configs/nano.py --workdir runs/nano
python -m pg.train --config transfers/forkme.py:res=448 --config.lr=3e-6 \
  --workdir runs/mine

The same command continues a run that was stopped, from its last checkpoint. One
that changes the examples is refused; another lr is said, and in history.jsonl.
Read it from the bottom: `main` -> `fit` -> `update`.
"""

import contextlib
import functools
import time

import jax
import jax.numpy as jnp
import optax

from pg import atomic, command, experiment, machine, stop
from pg.data import pipeline
from pg.evals import run as evals_run
from pg.learn import (
  accumulate,
  average,
  finite,
  optim,
  parts,
  schedule_free,
)
from pg.learn import loss as loss_lib
from pg.learn import state as state_lib
from pg.log import history, lock, mirror
from pg.log import run as log_run
from pg.models import lora, paligemma, quantize
from pg.plan import least
from pg.weights import checkpoint, parameters, saver


def weights_to_adapt(c, run, meta):
  """Reads the weights that adapters are trained of.

  Args:
    c: the config.
    run: Experiment.
    meta: dict of the checkpoint that the run goes on from, or empty.

  Returns:
    Tree of arrays, and what is to be in the meta of checkpoints: checksums of
    the weights, which are not saved. Two empty dicts without adapters.

  Raises:
    ValueError: other weights than those of the checkpoint.
  """
  if run.cfg.lora is None:
    return {}, {}
  wanted = dict(abstract_state(c, run)["params"])
  wanted.pop(lora.ROOT)
  before = meta.get("base")
  params, sums = parameters.read_summed(c.init, run.cfg, wanted, before)
  return params, dict(base=sums)


def init_state(c, run, weights=None):
  """Makes the train state on the mesh: parameters from `c.init` or drawn.

  Args:
    c: the config; `c.init` is a name of weights (see pg/weights/load.py), with
      `c.init_optimizer` that of a run.
    run: Experiment.
    weights: those that adapters are trained of; see `weights_to_adapt`.

  Returns:
    dict with `params` (f32, frozen ones of `c.frozen_dtype`), `opt` (optax
    state) and `step` i32[].
  """
  abstract = abstract_state(c, run)
  place = jax.tree.map(lambda x: x.sharding, abstract)

  def draw(rng):
    params = paligemma.init(run.cfg, rng)
    return jax.tree.map(lambda x, y: x.astype(y.dtype), params, run.shapes)

  drawn = lambda: jax.jit(draw, out_shardings=place["params"])(
    jax.random.key(c.seed)
  )
  if weights:
    draw = functools.partial(lora.init, run.cfg.lora, jax.random.key(c.seed))
    place_own = place["params"][lora.ROOT]
    own = jax.jit(draw, out_shardings=place_own)(weights)
    params = {**weights, lora.ROOT: own}
  elif c.init:
    how = abstract["params"], drawn, c.seed, c.dont_load, run.is_frozen
    params = parameters.read(c.init, run.cfg, *how)
  else:
    params = drawn()
  if c.init_optimizer:
    wanted = optim.without_schedules(abstract["opt"])
    found = checkpoint.restore_opt(c.init, wanted)
    opt = optim.restarted(abstract["opt"], found)
  else:
    opt = jax.jit(run.tx.init, out_shardings=place["opt"])(params)
  step = jax.device_put(jnp.int32(0), place["step"])
  return dict(params=params, opt=opt, step=step)


def abstract_state(c, run):
  """Returns the train state's shapes, dtypes and shardings."""
  return state_lib.abstract(run.cfg, run.tx, run.mesh, c.sharding, run.shapes)


def update(
  state,
  batch,
  *,
  cfg,
  tx,
  is_frozen,
  label_smoothing,
  seed,
  num_microbatches=1,
  example_clip=0.0,
  specs=None,
  grad_dtype="float32",
):
  """Takes one step; jitted with the state donated.

  Args:
    state: see `init_state`.
    batch: training rows, see `pg/data/prefix_lm.py`.
    cfg: paligemma.Config.
    tx: the optimizer.
    is_frozen: tree of bool like the parameters.
    label_smoothing: float in [0, 1).
    seed: int, of dropout.
    num_microbatches: int, parts of the batch that are computed in turn.
    example_clip: float, norm to which each example's gradient is scaled down,
      before their mean is taken; 0 is off.
    specs: {name: PartitionSpec} of the parameters; None where a single device
      has the batch.
    grad_dtype: str, in which gradients are summed over devices.

  Returns:
    The new state, and measurements f32[] of this step.
  """
  model = paligemma.PaliGemma(cfg, train=True)
  inputs, labels, mask = loss_lib.targets(batch)
  real = batch["index"] >= 0
  weights = loss_lib.mean_weights(mask, real)
  if scale := loss_lib.SCALES.get(cfg.dtype):
    weights *= scale
  rng = jax.random.fold_in(jax.random.key(seed), state["step"])

  def loss_fn(params, rows, rng):
    inputs, labels, weights = rows
    if specs:
      params = parts.wrap(params, specs, cfg.dtype, grad_dtype)
    params = lora.attach(cfg.lora, params, jax.random.fold_in(rng, 1))
    embedding = params["llm"]["embedder"]["input_embedding"]
    if specs:
      tokens = parts.look_up(embedding, inputs["tokens"])
    elif quantize.is_quantized(embedding):
      tokens = quantize.rows(embedding, inputs["tokens"], cfg.dtype)
    else:
      img = params["img"]
      tokens, embedding, last = loss_lib.tied(
        embedding, inputs["tokens"], weights, img["pos_embedding"], cfg.dtype
      )
      params = {**params, "img": {**img, "pos_embedding": last}}
    inputs = {**inputs, "tokens": tokens}
    hidden = model.apply({"params": params}, **inputs, rngs={"dropout": rng})
    cap = cfg.llm.final_softcap
    return loss_lib.weighted_nll(
      hidden, embedding, labels, weights, cap, label_smoothing
    )

  num_parts, max_norm = num_microbatches, None
  if example_clip:  # of its term of the mean
    num_parts = len(real)
    max_norm = (scale or 1) * example_clip / jnp.maximum(real.sum(), 1)

  def value_and_grad(params, rows):
    return accumulate.value_and_grad(
      loss_fn, params, is_frozen, rows, rng, num_parts, max_norm
    )

  if specs:
    value_and_grad = parts.on_each_device(value_and_grad, specs, is_frozen)
  if scale:
    value_and_grad = loss_lib.unscaled(value_and_grad, scale)
  rows = inputs, labels, weights
  params = schedule_free.at(state["params"], state["opt"])
  loss, grads = value_and_grad(params, rows)
  updates, opt = tx.update(grads, state["opt"], state["params"])
  params = jax.tree.map(
    lambda f, p, u: p if f else p + u, is_frozen, state["params"], updates
  )
  measured = {
    "train/loss": loss,
    "train/grad_norm": optax.tree.norm(grads),
    "train/update_norm": optax.tree.norm(updates),
    **optim.group_norms(grads, is_frozen),
    **finite.counts(opt),
  }
  return dict(params=params, opt=opt, step=state["step"] + 1), measured


def compile_update(c, run):
  """Returns `update` of an Experiment, jitted."""
  model = dict(cfg=run.cfg, tx=run.tx, is_frozen=run.is_frozen)
  model |= dict(specs=parts.specs(run.cfg, run.mesh, c.sharding, run.shapes))
  keys = "label_smoothing", "seed", "num_microbatches", "example_clip"
  model |= {k: c[k] for k in (*keys, "grad_dtype")}
  step = functools.partial(update, **model)
  return jax.jit(step, donate_argnums=0)


def evaluate(run, state, step, workdir, baseline, log):
  """Runs the evaluators that are due after a step, and logs their scores.

  Args:
    run: Experiment.
    state: see `init_state`.
    step: int.
    workdir: str, where predictions are written.
    baseline: blind.Majority or None, scored on the same examples.
    log: log.run.Log.

  Returns:
    {evaluator: evals.run.Result}; those of averaged parameters end in "_ema".
  """
  tasks = [t for t in run.tasks if run.schedules[t.name].due(step)]
  how = run.form, run.mesh, step, workdir, baseline
  with log.timed("evaluation"):
    results = evals_run.evaluate(tasks, run.cfg, state["params"], *how)
    if (params := average.of(state)) is not None:
      tasks = [t._replace(name=f"{t.name}_ema") for t in tasks]
      results |= evals_run.evaluate(tasks, run.cfg, params, *how)
  log.scores(step, results)
  return results


def fit(c, workdir, *, accept=False, profile=""):
  """Trains to the end of the run, from the last checkpoint if there is one.

  Args:
    c: the config.
    workdir: str, made if needed, or a mirror.Mirror.
    accept: bool, whether to go on whatever has changed since it began.
    profile: str, the steps to trace, see log/profiler.py.

  Returns:
    Results of the last evaluation, {evaluator: evals.run.Result}.

  Raises:
    ValueError: a config, data or checkpoint that does not fit.
    FloatingPointError: the loss is not finite.
    stop.Stopped: a signal came; all that was done is saved.
  """
  atomic.check_folder(workdir)
  run = experiment.open(c)
  if run.total:
    least.check(c, run, abstract_state(c, run))
  history.check_same(c, run)
  now = history.describe(c, run)
  with lock.hold(workdir), contextlib.ExitStack() as stack:
    cut = experiment.check_data(run, workdir)
    baseline = experiment.baseline(run)

    # 1) The state, and where in the data it stands.
    pusher = mirror.pusher(workdir)
    keep = dict(max_checkpoints=c.max_checkpoints, before=pusher, best=c.best)
    manager = saver.Manager(str(workdir), **keep)
    stack.enter_context(manager)
    step, meta, changes = manager.latest() or 0, {}, {}
    if step:
      meta = manager.meta(step)
      changes = history.check(meta, now, run.total, workdir, accept=accept)
    else:
      first = min(run.save_every, run.total)
      log_run.check_new(c, workdir, first, interrupted=manager.interrupted)
      if c.init_optimizer:
        meta = history.begun(checkpoint.meta(c.init), now, run.rates, c.init)
    weights, base = weights_to_adapt(c, run, meta)
    if step:
      wanted = state_lib.kept(run.cfg, abstract_state(c, run))
      state = manager.restore(step, wanted)
      state["params"] = {**weights, **state["params"]}
    else:
      state = init_state(c, run, weights)
    record = pipeline.bad_record(run.data, run.options, workdir)
    log = log_run.Log(c, run, workdir, step, record, meta, profile)
    log.start(state["params"], cut, changes)
    stack.callback(log.close)
    results, pending = {}, None
    # A complete run is only scored again, a stopped one where it was not yet.
    if step == run.total or not log.is_scored(step):
      results = evaluate(run, state, step, workdir, baseline, log)

    # 2) The loop: dispatch step k + 1, then look at step k.
    update_fn = compile_update(c, run)
    batches = experiment.batches(c, run, state["params"], step)
    stack.enter_context(contextlib.closing(batches))
    while step < run.total:
      start = time.monotonic()
      rows, bad, batch = next(batches)
      waited = time.monotonic() - start
      with jax.set_mesh(run.mesh):
        state, measured = update_fn(state, batch)
      if pending:
        finite.check(*pending, manager, c.nonfinite)
      step += 1
      pending = step, measured
      stop.requested()  # so that a signal waits: what is logged is saved
      log.step(step, measured, rows, bad, waited)
      due = any(s.due(step) for s in run.schedules.values())
      save = step == run.total or step % run.save_every == 0
      stopped = stop.requested()
      if due or save or stopped:
        finite.check(*pending, manager, c.nonfinite)
      meta = dict(step=step, run=now)
      if due and not stopped:
        try:
          found = evaluate(run, state, step, workdir, baseline, log)
          results |= found
          meta |= log_run.named(found, c.best)
        except stop.Stopped:  # it is done on resume
          stopped = True
      if save or stopped or manager.is_best(meta):
        with log.timed("checkpoint"):
          kept = state_lib.kept(run.cfg, state)
          manager.save(step, kept, meta | base | log.meta(step))
      if stopped:
        raise stop.Stopped(step)
  results = {k: results[k] for k in run.score_names if k in results}
  log.end(results)
  return results


def main(args):
  if not args.config.model.variant.startswith("nano"):
    machine.keep_memory()
  how = dict(accept=args.accept_changes, profile=args.profile)
  with mirror.open(args.workdir, hold=True) as workdir:
    fit(args.config, workdir, **how)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    joins=True,
    workdir=dict(required=True, help="folder of this run"),
    accept_changes=dict(action="store_true", help="go on whatever changed"),
    profile=dict(default="", metavar="100:105", help="steps to trace"),
  )
