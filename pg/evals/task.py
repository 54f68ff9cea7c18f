"""Opens the evaluators that a config describes, and says when they are due.

An evaluator is described by a group of the config's `evals`. The keys of KEYS
say how it is run; all others replace keys of the training data's spec, so that
an evaluator states only the difference:

  c.evals.val = dict(metric="exact", split="test", every="25%")
"""

import warnings
from typing import NamedTuple

from pg import config
from pg.data import cache as cache_lib
from pg.data import options as options_lib
from pg.data import pipeline, prefix_lm
from pg.data.formats import prepared
from pg.evals import metrics as metrics_lib
from pg.evals import submit

# How an evaluator is run, with defaults.
KEYS = dict(
  metric="exact",  # of METRICS, "perplexity", or "none": predictions alone
  every="100%",  # duration; it also runs at the end. 0: only then
  start=0,  # no earlier than this duration
  end="100%",  # and no later; before 100%, not at the end either
  pp=None,  # None: that of the training data
  batch_size=None,  # None: that of training
  max_len=None,  # tokens in an answer; None: text_len
  num_examples=None,  # only the first ones
  num_beams=1,
  temperature=0.0,
  top_k=0,
  top_p=1.0,
  seed=0,
  forbid=(),  # pieces that are never written, such as "<eos>"
  published={},  # score -> what a paper reports, in our unit
  submit="",  # of submit.FORMATS: also writes the file of a test server
  optional=False,  # left out, with a warning, where its data was not prepared
)


class Task(NamedTuple):
  """An evaluator, ready to run."""

  name: str
  settings: dict  # KEYS
  generates: bool  # else it scores the suffix
  metric: str  # of METRICS; "" where texts are not scored
  data: pipeline.Dataset  # called "evals." and the name
  options: options_lib.Options  # how the data is read
  replay: cache_lib.Replay  # its batches, once they were read

  @property
  def make_row(self):
    """The function that makes rows of examples: form, example -> row."""
    return prefix_lm.decode_row if self.generates else prefix_lm.train_row


class Schedule(NamedTuple):
  """When an evaluator is run, in steps."""

  every: int  # 0: only at the last step
  start: int
  end: int
  total: int
  first: bool = False  # before training, too

  def due(self, step):
    """Returns whether it is run after this step."""
    if step == 0 and self.total:
      return self.first
    if not self.start <= step <= self.end:
      return False
    periodic = self.every and (step - self.start) % self.every == 0
    return step == self.total or bool(periodic)


def schedule(task, period, total, first=False):
  """Returns the Schedule of a Task.

  Args:
    task: Task.
    period: function from a duration to steps.
    total: int, steps in the run.
    first: bool, whether it is also run before training.

  Raises:
    ValueError: not a duration, or a start after the end.
  """
  every, start, end = (
    period(task.settings[k]) for k in ("every", "start", "end")
  )
  if start > end and total:
    raise ValueError(
      f"config.evals.{task.name} starts at step {start} and ends at step {end},"
      f" so it would never run in {total} steps; change its start or its end"
    )
  return Schedule(every, start, end, total, first)


def tasks(c):
  """Opens the evaluators of a config.

  Those that are optional, or only write the file of a test server, are left
  out where their data was not prepared.

  Raises:
    ValueError: an unknown metric, key, source, op or format, or data that is
      not there.
  """
  opened = []
  options = options_lib.from_config(c)
  budget = cache_lib.Budget(int(options.cache_gb * 2**30))
  for name, spec in c.evals.items():
    try:
      settings, data = _open(c, name, dict(spec), options.limits)
      metric = settings["metric"]
      generates = metric != "perplexity"
      metric = metric if metric in metrics_lib.METRICS else ""
      replay = cache_lib.Replay(budget)
      opened.append(
        Task(name, settings, generates, metric, data, options, replay)
      )
    except prepared.Missing as error:
      only_file = spec.get("submit") and spec.get("metric") == "none"
      if not (spec.get("optional") or only_file):
        raise
      warnings.warn(f"evaluator {name} is left out: {error}", stacklevel=2)
  return tuple(opened)


def _open(c, name, spec, limits):
  settings = {k: spec.pop(k, default) for k, default in KEYS.items()}
  settings["batch_size"] = settings["batch_size"] or c.batch_size
  settings["published"] = dict(settings["published"])
  known = [*metrics_lib.METRICS, "perplexity", "none"]
  if settings["metric"] not in known:
    raise ValueError(config.unknown(settings["metric"], known, "metric"))
  if settings["submit"]:
    config.lookup(submit.FORMATS, settings["submit"], "submission format")
  pp = pipeline_of(c, {**settings, **spec})
  spec = {**_training(c, spec), **spec, "pp": pp}
  (data,) = pipeline.datasets(spec, pp, limits)
  return settings, data._replace(name=f"evals.{name}")


def pipeline_of(c, spec):
  """Returns the pipeline string of an evaluator, its own or that of training.

  Args:
    c: the config.
    spec: the evaluator's group in it.
  """
  return spec.get("pp") or _training(c, spec).get("pp") or c.pp


def _training(c, spec):
  """Returns the spec of the training data that an evaluator starts from."""
  source = c.data.get("source")
  same = isinstance(source, str) and spec.get("source", source) == source
  return dict(c.data) if same else {}
