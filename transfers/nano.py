r"""Transfers in miniature: a task that pre-training at size nano has not seen.

python -m pg.train --config transfers/nano.py:task=digits --workdir runs/digits

`task=digits` reads scans of handwritten digits; `task=refer` points at one of
two objects of a shape, by its side of a third one. Starts from a run of
configs/stage2_448.py:size=nano; `init=none` draws the weights, to see what
pre-training is worth; `scale=0.1` is a tenth of the steps. Data and scores are
of pg itself, nothing is published.
"""

from pg import config
from transfers import base

# Task -> source, metric, steps.
TASKS = dict(
  digits=(dict(source="digits"), "exact", 600),
  refer=(dict(source="shapes", task="refer"), "detect", 1500),
)


def get_config(arg=None):
  init = "runs/stage2_448"
  c = base.get(arg, model="nano", res=96, task="digits", init=init, scale=1.0)
  source, metric, steps = config.lookup(TASKS, c.arg.task, "task")
  c.init = "" if c.arg.init == "none" else c.arg.init
  c.text_len = 28

  # What goes in, what should come out.
  c.data = dict(source, res=c.res)
  if c.arg.task == "digits":
    c.data.split = "train"
  c.pp = "decode"

  # The recipe.
  c.total = max(1, round(steps * c.arg.scale))
  c.batch_size, c.lr, c.b2 = 64, 5e-4, 0.99
  c.model.remat = "everything"
  c.log_every, c.save_every = 20, "25%"

  # What is measured, also before the first step.
  c.score_init = True
  c.evals[c.arg.task] = dict(metric=metric, split="test", every="50%")
  return c
