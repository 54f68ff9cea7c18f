r"""Runs the evaluators of a config on a checkpoint.

python -m pg.evaluate --config configs/nano.py --checkpoint runs/nano

Prints the table of scores with the blind baseline beside it, and writes
predictions, `scores.json` and `report.html` into --workdir, by default the
folder of the checkpoint's run.
"""

import os

from pg import command, train
from pg.log import run as log_run
from pg.weights import checkpoint


def evaluate(c, path, workdir):
  """Scores a checkpoint.

  Args:
    c: the config; its tokenizer is, if it names none, that of the checkpoint.
    path: str, a run, a checkpoint in it, or released weights.
    workdir: str, where results go.

  Returns:
    {evaluator: evals.run.Result}.

  Raises:
    ValueError: nothing to evaluate, or a checkpoint of another model.
  """
  with c.unlocked():
    c.init = path
  r = train.open_run(c)
  if not r.tasks:
    raise ValueError("the config has no evaluators; add one to c.evals")
  abstract = train.abstract_state(c, r.cfg, r.tx, r.mesh)["params"]
  params = train.load_init(c, r.cfg, abstract, _no_draw)
  os.makedirs(workdir, exist_ok=True)
  results = train.evaluate(
    r.tasks,
    r.cfg,
    params,
    r.form,
    r.mesh,
    step=step_of(path),
    workdir=workdir,
    baseline=train.blind_baseline(r),
  )
  log_run.finish(workdir, results)
  return results


def step_of(path):
  """Returns the step of a checkpoint of ours, 0 of other weights."""
  try:
    return int(checkpoint.find(path).name)
  except ValueError:
    return 0


def _no_draw():
  raise ValueError("one tower alone cannot be evaluated; name a whole model")


def main(args):
  workdir = args.workdir
  if workdir is None:
    try:
      workdir = train.workdir_of(args.checkpoint)
    except ValueError as error:
      raise ValueError(
        f"{error}. Released weights have no folder for results: add --workdir"
      ) from error
  evaluate(args.config, args.checkpoint, workdir)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    checkpoint=dict(required=True, help="a run, or released weights"),
    workdir=dict(help="folder for the results"),
  )
