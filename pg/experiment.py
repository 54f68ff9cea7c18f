"""Opens what a config describes: data, model, optimizer, evaluators.

All that can be wrong is found here, before anything is computed.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax

from pg import config, sharding, tree
from pg.codecs import tokenizer
from pg.data import cache, features, lengths, pipeline, prefix_lm, stream
from pg.data import options as options_lib
from pg.evals import blind
from pg.evals import run as evals_run
from pg.evals import task as evals_task
from pg.learn import accumulate, optim, tower
from pg.learn import state as state_lib
from pg.models import flops, lora, paligemma, quantize, variants
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
  # From its text positions to an example's operations, see models/flops.py.
  flops: Callable
  text_lens: tuple  # text positions that a batch may have, see data/lengths.py


def open(c):  # noqa: A001, it is experiment.open
  """Opens a config.

  Raises:
    ValueError: a config, data or device count that does not fit.
  """
  config.validate(c, complete=True)
  mesh = sharding.make_mesh(c.mesh)
  accumulate.check(c, mesh)
  lengths.parts(c.batch_size, c.length_window)
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
  if c.lora.rank and not c.init:
    raise ValueError(
      f"lora.rank is {c.lora.rank}, and there are no weights to adapt: set init"
    )
  if c.frozen_dtype in quantize.DTYPES and not c.lora.rank:
    raise ValueError(
      f"frozen_dtype is {c.frozen_dtype!r}, which is of weights with adapters:"
      " set lora.rank, such as 8, or frozen_dtype to bfloat16"
    )
  if c.dont_load and (c.lora.rank or c.init_optimizer or not c.init):
    raise ValueError(
      f"dont_load is {list(c.dont_load)}: it is of the weights in `init`, and"
      " not for adapters (lora.rank), whose weights are read again at each"
      " start, nor with init_optimizer, whose state is of all parameters"
    )
  how = lora.from_config(c, paligemma.shapes(cfg))
  cfg = dataclasses.replace(cfg, lora=how)
  shapes = paligemma.shapes(cfg)
  tx = optim.make(c, shapes, total, num_examples)
  is_frozen = optim.frozen(shapes, c.schedule)
  towers = optim.frozen_towers(is_frozen)
  if options.cache_images:
    free = [k for k, frozen in tree.flatten(is_frozen).items() if not frozen]
    trained = [lora.target(name) for name in free]
    features.check(options.cache_images, data, trained)

  def example_flops(num_text):
    forward = flops.per_example(
      cfg,
      num_text,
      num_images=c.num_images,
      has_tower=not options.cache_images,
    )
    return flops.training(forward, towers, cfg.lora).total

  return Experiment(
    mesh=mesh,
    cfg=cfg,
    form=prefix_lm.Form(
      tok, c.res, c.num_images, c.text_len, c.blind, c.prompt
    ),
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
    flops=example_flops,
    text_lens=(
      lengths.worthwhile(c.text_len, example_flops)
      if c.length_window
      else (c.text_len,)
    ),
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


def batches(c, run, params, step):
  """Returns what a run trains on after a step, see `stream.on_devices`.

  Args:
    c: the config.
    run: Experiment.
    params: the parameters, of which a frozen tower may be applied here.
    step: int.
  """
  found = stream.train_batches(
    run.data,
    run.form,
    c.seed,
    c.batch_size,
    start=step * c.batch_size,
    stop=run.total * c.batch_size,
    options=run.options,
    text_lens=run.text_lens,
    window=max(1, c.length_window),
  )
  if where := run.options.cache_images:
    compute = tower.on_own_devices(run.cfg, params, run.mesh)
    if where == "memory":
      kept = features.Memory(cache.Budget(int(run.options.cache_gb * 2**30)))
    else:
      kept = features.Folder(where, tower.probe(run.cfg, compute))
    found = features.embedded(found, kept, compute, run.options.num_threads)
  return stream.on_devices(found, run.mesh)
