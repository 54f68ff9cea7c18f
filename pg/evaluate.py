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
    path: str, a workdir or a checkpoint in one.
    workdir: str, where results go.

  Returns:
    {evaluator: evals.run.Result}.

  Raises:
    ValueError: nothing to evaluate, or a checkpoint of another model.
  """
  step = int(checkpoint.find(path).name)
  with c.unlocked():
    c.init = path
  r = train.open_run(c)
  if not r.tasks:
    raise ValueError("the config has no evaluators; add one to c.evals")
  params = checkpoint.restore_params(
    path, train.abstract_state(c, r.cfg, r.tx, r.mesh)["params"]
  )
  os.makedirs(workdir, exist_ok=True)
  results = train.evaluate(
    r.tasks,
    r.cfg,
    params,
    r.form,
    r.mesh,
    step=step,
    workdir=workdir,
    baseline=train.blind_baseline(r),
  )
  log_run.finish(workdir, results)
  return results


def main(args):
  run = train.workdir_of(args.checkpoint)
  workdir = args.workdir or run
  evaluate(args.config, args.checkpoint, workdir)


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    checkpoint=dict(required=True, help="a run's folder, or one step in it"),
    workdir=dict(help="folder for the results"),
  )
