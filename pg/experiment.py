"""Opens what a config describes: data, model, optimizer, evaluators.

All that can be wrong is found here, before anything is computed.
"""

import functools
from typing import NamedTuple

import jax
import optax

from pg import config, sharding
from pg.codecs import tokenizer
from pg.data import options as options_lib
from pg.data import pipeline, prefix_lm
from pg.evals import blind
from pg.evals import run as evals_run
from pg.evals import task as evals_task
from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import flops, paligemma, variants
from pg.weights import load


class Experiment(NamedTuple):
  """Everything that a config opens, checked."""

  mesh: jax.sharding.Mesh
  cfg: paligemma.Config
  form: prefix_lm.Form
  data: tuple  # pipeline.Dataset
  options: options_lib.Options  # how they are read
  tasks: tuple  # evals.task.Task
  schedules: dict  # {evaluator: evals.task.Schedule}
  score_names: tuple  # of evaluators, and those of averaged parameters
  total: int  # steps
  save_every: int  # steps
  tx: optax.GradientTransformation
  is_frozen: dict  # tree of bool like the parameters
  shapes: dict  # tree of jax.ShapeDtypeStruct, the parameters as trained
  rates: dict  # {metric: function from steps done to a learning rate}
  flops: float  # operations of an example in training, see models/flops.py


def open(c):  # noqa: A001, it is experiment.open
  """Opens a config.

  Raises:
    ValueError: a config, data or device count that does not fit.
  """
  config.validate(c, complete=True)
  mesh = sharding.make_mesh(c.mesh)
  sharding.check_batch(c.batch_size, mesh, c.num_microbatches)
  tok = tokenizer.Tokenizer(c.tokenizer or load.tokenizer_of(c.init))
  cfg = variants.from_config(dict(c.model, res=c.res), tok.vocab_size)
  options = options_lib.from_config(c)
  data = pipeline.datasets(c.data, c.pp, options.limits)
  num_examples = pipeline.num_examples(data)
  steps = functools.partial(
    config.steps, batch_size=c.batch_size, num_examples=num_examples
  )
  total = steps(c.total)
  if total and not data:
    raise ValueError(f"config.data has no dataset to train {total} steps on")
  period = functools.partial(steps, total=total)
  tasks = evals_task.tasks(c)
  names = [n for t in tasks for n in (t.name, *[f"{t.name}_ema"] * bool(c.ema))]
  if c.best and (name := c.best.removeprefix("-").split("/")[0]) not in names:
    raise ValueError(config.unknown(name, names, "evaluator in config.best"))
  for task in tasks:
    for text in task.settings["forbid"]:
      evals_run.piece(tok, text)
  shapes = paligemma.shapes(cfg)
  tx = optim.make(c, shapes, total, num_examples)
  is_frozen = optim.frozen(shapes, c.schedule)
  forward = flops.per_example(cfg, c.text_len, num_images=c.num_images)
  return Experiment(
    mesh=mesh,
    cfg=cfg,
    form=prefix_lm.Form(tok, c.res, c.num_images, c.text_len, c.blind),
    data=data,
    options=options,
    tasks=tasks,
    schedules={
      t.name: evals_task.schedule(t, period, total, c.score_init) for t in tasks
    },
    score_names=tuple(names),
    total=total,
    save_every=period(c.save_every) or total,  # 0: only at the end
    tx=tx,
    is_frozen=is_frozen,
    shapes=state_lib.shapes(cfg, is_frozen, c.frozen_dtype),
    rates=optim.rates(c, shapes, total, num_examples),
    flops=flops.training(forward, optim.frozen_towers(is_frozen)).total,
  )


def check_data(run, workdir):
  """Reads some rows of all data, as the run will.

  Args:
    run: Experiment.
    workdir: str, where bad rows are written down.

  Returns:
    {dataset: (rows cut, rows read)}.

  Raises:
    ValueError: see `pipeline.check`.
  """
  groups = [(run.data, prefix_lm.train_row)]
  groups += [((t.data,), t.make_row) for t in run.tasks]
  cut = {}
  for data, make_row in groups:
    make = functools.partial(make_row, run.form)
    targets = make_row is prefix_lm.train_row
    cut |= pipeline.check(data, make, run.options, workdir, targets=targets)
  return cut


def baseline(run):
  """Returns the blind.Majority that scores stand beside, or None.

  Args:
    run: Experiment.
  """
  if not run.tasks or not run.total:  # without steps, the data are the test's
    return None
  return blind.fit(run.data, run.options)
