r"""Trains a model: one config file in, one workdir out.

python -m pg.train --config configs/nano.py --workdir runs/nano
python -m pg.train --config transfers/forkme.py:res=448 --config.lr=3e-6 \
  --workdir runs/mine

The same command continues a run that was stopped, from its last checkpoint.
Read it from the bottom: `main` -> `fit` -> `update`.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pg import command, config, sharding, tree
from pg.codecs import tokenizer
from pg.data import options as options_lib
from pg.data import pipeline, stream
from pg.evals import blind
from pg.evals import run as evals_run
from pg.evals import task as evals_task
from pg.learn import loss as loss_lib
from pg.learn import optim
from pg.log import run as log_run
from pg.models import paligemma
from pg.weights import checkpoint, load

# Training rows whose texts make the blind baseline.
NUM_BLIND = 8192


def init_state(c, cfg, tx, mesh):
  """Makes the train state on the mesh: parameters from `c.init` or drawn.

  Args:
    c: the config.
    cfg: paligemma.Config.
    tx: the optimizer.
    mesh: the mesh.

  Returns:
    dict with `params` f32, `opt` (optax state) and `step` i32[].
  """
  abstract = abstract_state(c, cfg, tx, mesh)
  place = jax.tree.map(lambda x: x.sharding, abstract)

  def fresh(rng):
    return state_of(paligemma.init(cfg, rng), tx)

  if not c.init:
    return jax.jit(fresh, out_shardings=place)(jax.random.key(c.seed))

  def draw():
    init = functools.partial(paligemma.init, cfg)
    return jax.jit(init, out_shardings=place["params"])(jax.random.key(c.seed))

  params = load_init(c, cfg, abstract["params"], draw)
  opt = jax.jit(tx.init, out_shardings=place["opt"])(params)
  step = jax.device_put(jnp.int32(0), place["step"])
  return dict(params=params, opt=opt, step=step)


def load_init(c, cfg, abstract, draw):
  """Reads the parameters to start from, cast and placed like `abstract`.

  Args:
    c: the config; `c.init` is a name of weights (see pg/weights/load.py).
    cfg: paligemma.Config.
    abstract: tree of ShapeDtypeStruct with shardings.
    draw: function () -> parameters, where `c.init` is one tower alone.
  """
  weights = load.open(c.init, seed=c.seed)
  with contextlib.closing(weights.reader):
    return load.params(weights, cfg, abstract, draw)


def state_of(params, tx):
  """Returns the train state of fresh parameters."""
  return dict(params=params, opt=tx.init(params), step=jnp.int32(0))


def abstract_state(c, cfg, tx, mesh):
  """Returns the train state's shapes, dtypes and shardings.

  Moments are placed like their parameters, everything else is replicated.
  """
  shapes = paligemma.shapes(cfg)
  state = jax.eval_shape(functools.partial(state_of, tx=tx), shapes)
  flat = tree.flatten(shapes)

  def place(path, leaf):
    keys = [str(getattr(k, "key", "")) for k in path]
    names = ("/".join(keys[i:]) for i in range(len(keys)))
    name = next((n for n in names if n in flat), None)
    spec = sharding.replicated(mesh)
    if name:
      rule = sharding.spec(name, leaf.shape, mesh, c.sharding)
      spec = jax.sharding.NamedSharding(mesh, rule)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec)

  return jax.tree_util.tree_map_with_path(place, state)


def update(state, batch, *, cfg, tx, is_frozen, label_smoothing, seed):
  """Takes one step; jitted with the state donated.

  Args:
    state: see `init_state`.
    batch: training rows, see `pg/data/prefix_lm.py`.
    cfg: paligemma.Config.
    tx: the optimizer.
    is_frozen: tree of bool like the parameters.
    label_smoothing: float in [0, 1).
    seed: int, of dropout.

  Returns:
    The new state, and measurements f32[] of this step.
  """
  model = paligemma.PaliGemma(cfg, train=True)
  inputs, labels, mask = loss_lib.targets(batch)
  weights = loss_lib.mean_weights(mask, batch["index"] >= 0)
  rng = jax.random.fold_in(jax.random.key(seed), state["step"])

  def loss_fn(params):
    params = optim.stop_frozen(params, is_frozen)
    hidden = model.apply({"params": params}, **inputs, rngs={"dropout": rng})
    embedding = params["llm"]["embedder"]["input_embedding"]
    cap = cfg.llm.final_softcap
    return loss_lib.weighted_nll(
      hidden, embedding, labels, weights, cap, label_smoothing
    )

  loss, grads = jax.value_and_grad(loss_fn)(state["params"])
  updates, opt = tx.update(grads, state["opt"], state["params"])
  params = jax.tree.map(
    lambda p, u, f: p if f else p + u, state["params"], updates, is_frozen
  )
  measured = {
    "train/loss": loss,
    "train/grad_norm": optim.global_norm(grads, is_frozen),
    "train/update_norm": optim.global_norm(updates, is_frozen),
  }
  return dict(params=params, opt=opt, step=state["step"] + 1), measured


def compile_update(c, r):
  """Returns `update` of a run, jitted."""
  step = functools.partial(
    update,
    cfg=r.cfg,
    tx=r.tx,
    is_frozen=r.is_frozen,
    label_smoothing=c.label_smoothing,
    seed=c.seed,
  )
  return jax.jit(step, donate_argnums=0)


def evaluate(tasks, cfg, params, form, mesh, *, step, workdir, baseline=None):
  """Runs evaluators and writes what was predicted.

  Args:
    tasks: `evals.task.Task`s that are due.
    cfg: paligemma.Config.
    params: the model's parameters.
    form: pipeline.Form of training.
    mesh: the mesh.
    step: int, for the file names.
    workdir: str.
    baseline: blind.Majority or None, scored on the same examples.

  Returns:
    {evaluator: evals.run.Result}.
  """
  results = {}
  unrolled = evals_run.unroll(params, cfg.dtype)
  for task in tasks:
    scoring = task.how["metric"] == "perplexity"
    weights = params if scoring else unrolled
    results[task.name] = result = evals_run.run(
      task, cfg, weights, form, mesh, baseline, workdir
    )
    evals_run.write_predictions(workdir, task, step, result)
  return results


class Run(NamedTuple):
  """Everything that a config opens, checked: what `fit` works with."""

  mesh: jax.sharding.Mesh
  cfg: paligemma.Config
  form: pipeline.Form
  data: tuple  # pipeline.Dataset
  options: options_lib.Options  # how they are read
  tasks: tuple  # evals.task.Task
  total: int  # steps
  period: Callable  # duration -> steps
  tx: optax.GradientTransformation
  is_frozen: dict  # tree of bool like the parameters
  order: dict  # what the order of examples depends on


def open_run(c):
  """Opens data, evaluators and optimizer: all that can be wrong is found here.

  Raises:
    ValueError: a config, data or device count that does not fit.
  """
  mesh = sharding.make_mesh(c.mesh)
  sharding.check_batch(c.batch_size, mesh)
  tok = tokenizer.Tokenizer(c.tokenizer or inherited_tokenizer(c.init))
  cfg = model_config(c, tok)
  form = pipeline.Form(tok, c.res, c.num_images, c.text_len, blind=c.blind)
  data = pipeline.datasets(c.data, c.pp)
  durations = dict(
    batch_size=c.batch_size, num_examples=pipeline.num_examples(data)
  )
  total = config.steps(c.total, **durations)
  shapes = paligemma.shapes(cfg)
  return Run(
    mesh=mesh,
    cfg=cfg,
    form=form,
    data=data,
    options=options_lib.from_config(c),
    tasks=evals_task.tasks(c),
    total=total,
    period=functools.partial(config.steps, **durations, total=total),
    tx=optim.make(c, shapes, total, durations["num_examples"]),
    is_frozen=optim.frozen(shapes, c.schedule),
    order=pipeline.fingerprint(data, c.seed, c.batch_size),
  )


def fit(c, workdir):
  """Trains to the end of the run, from the last checkpoint if there is one.

  Args:
    c: the config.
    workdir: str, made if needed.

  Returns:
    Results of the last evaluation, {evaluator: evals.run.Result}.

  Raises:
    ValueError: a config, data or checkpoint that does not fit.
    FloatingPointError: the loss is not finite.
  """
  r = open_run(c)
  cut = check_data(r, workdir)
  baseline = blind_baseline(r) if r.tasks else None
  save_every = r.period(c.save_every) or r.total  # 0: only at the end
  when = [evals_task.schedule(t, r.period, r.total) for t in r.tasks]

  # 1) The state, and where in the data it stands.
  with contextlib.ExitStack() as stack:
    manager = checkpoint.Manager(workdir, max_checkpoints=c.max_checkpoints)
    stack.enter_context(manager)
    step, position, counts = manager.latest() or 0, 0, {}
    if step:
      abstract = abstract_state(c, r.cfg, r.tx, r.mesh)
      state, meta = manager.restore(step, abstract)
      check_order(meta["data"], r.order, workdir)
      position, counts = meta["next_example"], meta["counts"]
    else:
      state = init_state(c, r.cfg, r.tx, r.mesh)
    record = stream.record(r.data, r.options, workdir)
    log = log_run.Log(c, r, workdir, step, record, counts)
    log.start(state["params"], cut)

    def score(tasks):
      place = dict(step=step, workdir=workdir, baseline=baseline)
      params = state["params"]
      return evaluate(tasks, r.cfg, params, r.form, r.mesh, **place)

    # 2) The loop: dispatch step k + 1, then look at step k.
    step_fn = compile_update(c, r)
    batches = train_batches(c, r, start=position)
    stack.enter_context(contextlib.closing(batches))
    results, pending = {}, None
    while step < r.total:
      (rows, bad, batch), waited = timed(next, batches)
      with jax.set_mesh(r.mesh):
        state, measured = step_fn(state, batch)
      if pending:
        check_finite(*pending, manager)
      step += 1
      pending = step, measured
      last = step == r.total
      log.step(step, measured, rows, bad, waited)
      due = [t for t, schedule in zip(r.tasks, when) if schedule.due(step)]
      if due or last or step % save_every == 0:
        check_finite(*pending, manager)
      if due:
        results |= score(due)
        log.scores(step, {t.name: results[t.name] for t in due})
      if last or step % save_every == 0:
        place = dict(step=step, next_example=step * c.batch_size)
        meta = dict(**place, data=r.order, counts=log.counts())
        manager.save(step, state, meta)

    # 3) A run that was complete already is only scored again.
    if not results:
      results = score(
        [t for t, schedule in zip(r.tasks, when) if schedule.due(r.total)]
      )
  results = {t.name: results[t.name] for t in r.tasks if t.name in results}
  log.end(results)
  return results


def check_data(r, workdir):
  """Reads some rows of all data; returns {dataset: (rows cut, rows read)}."""
  decode = r.form._replace(form="decode")
  looked_at = [(r.data, r.form)]
  for t in r.tasks:
    said = t.how["metric"] != evals_task.GENERATES_NOTHING
    looked_at.append(((t.data,), decode if said else r.form))
  cut = {}
  for data, form in looked_at:
    record = stream.record(data, r.options, workdir)
    cut |= pipeline.check(data, form, record=record)
  return cut


def train_batches(c, r, start=0):
  """Yields (rows, bad, arrays on the devices) up to the end of the run."""
  end = r.total * c.batch_size
  batches = stream.train_batches(
    r.data,
    r.form,
    c.seed,
    c.batch_size,
    start=start,
    stop=end,
    options=r.options,
  )
  return stream.on_devices(batches, r.mesh)


def model_config(c, tok):
  """Returns the paligemma.Config of a run; "auto" is bfloat16 but on CPUs."""
  model = dict(c.model, res=c.res, dtype=compute_dtype(c.model.dtype))
  return paligemma.from_config(model, tok.vocab_size)


def compute_dtype(name):
  """Returns the dtype of activations; None and "auto" choose by the device."""
  if name not in (None, "auto"):
    return name
  return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def workdir_of(path):
  """Returns the run's folder that a checkpoint path is in, or is."""
  return str(checkpoint.find(path).parent.parent)


def inherited_tokenizer(init):
  """Returns the tokenizer that comes with `init`, else the tiny one.

  Raises:
    ValueError, OSError: `init` comes without one, or cannot be opened.
  """
  if not init:
    return tokenizer.NANO
  weights = load.open(init)
  weights.reader.close()
  return load.need_tokenizer(weights)


def timed(function, *args):
  """Returns what a function returns, and the seconds that it took."""
  start = time.monotonic()
  return function(*args), time.monotonic() - start


def check_order(saved, order, workdir):
  """Raises ValueError when a run would continue with other data."""
  old, new = tree.flatten(saved), tree.flatten(order)
  changed = [k for k in {**new, **old} if new.get(k) != old.get(k)]
  if changed:
    k = changed[0]
    raise ValueError(
      f"{workdir} was trained with other data: {k} was {old.get(k)} and is"
      f" {new.get(k)} now; the examples would not continue where they stopped."
      " Use another workdir, with --config.init to keep the weights"
    )


def check_finite(step, measured, manager):
  """Raises FloatingPointError when a measurement of a step is not finite.

  The loss is that of the parameters before the step; the norm of the update
  tells whether those after it may be kept.
  """
  for name, value in jax.device_get(measured).items():
    if not np.isfinite(value):
      manager.close()
      raise FloatingPointError(
        f"{name} is {value} at step {step}; the last good checkpoint is of step"
        f" {manager.latest()}. Try a smaller lr or a longer warmup"
      )


def blind_baseline(r):
  """Fits the baseline that sees prompts only to the texts of training.

  Returns:
    blind.Majority; None of a run that does not train: its data are the test's.
  """
  if not r.total:
    return None
  texts = stream.train_texts(r.data, seed=0, options=r.options)
  with contextlib.closing(texts):
    return blind.Majority().fit(itertools.islice(texts, NUM_BLIND))


def main(args):
  fit(args.config, args.workdir)


if __name__ == "__main__":
  command.run(
    main, __doc__, workdir=dict(required=True, help="folder of this run")
  )
