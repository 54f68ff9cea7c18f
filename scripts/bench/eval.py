"""Measures what evaluation costs beside the model: reading, decoding, scoring.

python -m scripts.bench eval [--examples 512] [--rounds 3]

The nano model, with random parameters, answers each task of configs/nano.py as
in a run. In each round, in turns: the evaluators as they are, and the compiled
functions alone on the same batches, which lie on the device already. What the
first takes longer is spent outside of the model.
"""

import functools
import statistics

import jax

from pg import config, experiment, train
from pg.data import cache, evaluation, stream
from pg.evals import run as evals_run
from scripts import bench


def model_alone(task, r, params, batches):
  """Returns a function that runs only what is compiled."""
  if task.settings["metric"] == "perplexity":
    table = params["llm"]["embedder"]["input_embedding"]
    function = evals_run._score(r.cfg, r.mesh, table.sharding.spec)
  else:
    function = evals_run._compiled(task.settings, r.cfg, r.form)

  def call():
    with jax.set_mesh(r.mesh):
      for batch in batches:
        jax.block_until_ready(function(params, batch))

  return call


def main(args):
  c = config.load("configs/nano.py")
  for spec in c.evals.values():
    with spec.unlocked():
      spec.num_examples = args.examples
  r = experiment.open(c)
  params = train.init_state(c, r)["params"]
  unrolled = evals_run.unroll(params, r.cfg.dtype)
  total = {k: [0.0] * args.rounds for k in ("first", "again", "model")}
  print("seconds, and the share of them that is spent outside of the model")
  print(f"{'evaluator':16} {'model':>7} {'first':>7}{'':8} {'again':>7}")
  for task in r.tasks:
    weights = unrolled if task.generates else params
    n, size = task.settings["num_examples"], task.settings["batch_size"]
    read = evaluation.eval_batches(
      task.data, r.form, task.make_row, size, n, task.options
    )
    batches = [item[-1] for item in stream.on_devices(read, r.mesh)]
    run = functools.partial(
      evals_run.run, cfg=r.cfg, params=weights, form=r.form, mesh=r.mesh
    )
    calls = {
      "first": lambda: run(_fresh(task)),  # noqa: B023
      "again": functools.partial(run, task),
      "model": model_alone(task, r, weights, batches),
    }
    jobs = {k: functools.partial(bench.seconds, v) for k, v in calls.items()}
    bench.in_turns(jobs, 1)  # compiles
    spent = bench.in_turns(jobs, args.rounds)
    _tell(task.name, spent)
    for name, values in spent.items():
      total[name] = [a + b for a, b in zip(total[name], values)]
  _tell("all", total)


def _fresh(task):
  """Returns an evaluator that has read nothing yet."""
  return task._replace(replay=cache.Replay(cache.Budget(2**30)))


def _tell(name, spent):
  first, again, model = (statistics.median(v) for v in spent.values())
  shares = [f"{s:7.2f} {1 - model / s:6.1%}" for s in (first, again)]
  print(f"{name:16} {model:7.2f} {'  '.join(shares)}")


FLAGS = dict(
  examples=dict(type=int, default=512, help="of each evaluator"),
  rounds=dict(type=int, default=3, help="of each evaluator"),
)
