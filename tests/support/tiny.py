"""Runs that take seconds: the main job's config, cut down."""

from pg import config
from tests.support import paths

ROOT = paths.ROOT


TOTAL = 24  # steps


def nano(total=TOTAL, **changes):
  """Returns the nano config with two datasets, two evaluators, few steps."""
  c = config.load(str(ROOT / "configs/nano.py") + f":total={total}")
  with c.unlocked():
    c.data = {k: c.data[k] for k in ("caption", "digits")}
    c.evals = {k: c.evals[k] for k in ("caption", "nll")}
    for spec in c.evals.values():
      spec.num_examples = 12
      spec.every = "100%"
    c.evals.caption.max_len = 6
    c.batch_size, c.log_every, c.save_every = 8, 1, 4
    c.update(changes)
  return c
