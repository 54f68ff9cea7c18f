"""The log of a training run: progress, metrics, scores and the report.

Everything is written by the first process only; the others run the same code.
"""

import json
import os
import pathlib

import jax
import numpy as np
from jax.experimental import multihost_utils

from pg import atomic, config, tree
from pg import progress as progress_lib
from pg import table as table_lib
from pg.data import bad, mixture, prefix_lm
from pg.log import history, meter, metrics, profiler, progress
from pg.log.pages import pictures, report

# Scores of parts (AP/cat), and scores that are 0, that have a row each in the
# table of an evaluator; of more of them it has a line.
FEW_PARTS, FEW_ZEROS = 8, 3


def _trained(params, is_frozen):
  """Says how many numbers are trained."""
  sizes = tree.map_named(lambda _, x: x.size, params)
  free = jax.tree.map(lambda n, f: 0 if f else n, sizes, is_frozen)
  n, total = (sum(jax.tree.leaves(x)) for x in (free, sizes))
  return f"{n:,} of them are trained, {n / total:.2%}"


class Log:
  """The record of one run in its workdir."""

  def __init__(self, c, run, workdir, step, record, meta, profile=""):
    """Opens the record, cut back to `step`, and keeps config and tokenizer.

    Args:
      c: the config.
      run: experiment.Experiment.
      workdir: str.
      step: int, the step of the checkpoint the run goes on from, or 0.
      record: bad.Record, of the rows that training reads.
      meta: what `meta` was at that step; empty at the start.
      profile: str, the steps to trace, see profiler.py.

    Raises:
      ValueError: no such steps.
    """
    first = jax.process_index() == 0
    self._c, self._run, self._workdir, self._first = c, run, workdir, first
    self._step, self._cut, self._before = step, 0, meta.get("counts", {})
    # Of the runs that this one goes on from.
    self._earlier = meta.get("examples", step * c.batch_size)
    self._earlier -= step * c.batch_size
    self._record = record
    bad_before = [v for k, v in self._before.items() if k.endswith("/bad")]
    self._num_bad = sum(bad_before)
    self._meter = meter.Meter(run, c.batch_size, step, meta.get("spent", {}))
    folder = os.path.join(workdir, "tensorboard")
    self._profiler = profiler.Profiler(profile, folder, run.total)
    self._writer = metrics.MetricWriter(
      workdir, step, enabled=first, config=json.loads(c.to_json())
    )
    self.timed = self._meter.timed
    self._scored = step if self._has_scores(step) else None
    self._progress = progress.Steps(run.total, c.batch_size, disable=not first)
    if first:
      text = c.to_json(indent=2)
      atomic.write(os.path.join(workdir, "config.json"), text)
      model = pathlib.Path(run.form.tok.path).read_bytes()
      atomic.write(os.path.join(workdir, "tokenizer.model"), model)

  def start(self, params, cut, changes):
    """Says what is about to be trained, and which data will be cut.

    Args:
      params: the model's parameters.
      cut: {dataset: (rows cut, rows read)}.
      changes: {kind: list of str}, of history.check; they are written down.
    """
    c, say = self._c, self._progress.say
    for line in sum(changes.values(), []):
      say(line)
    if self._first:
      history.write(self._workdir, self._step, changes)
    if self._earlier:
      say(f"goes on from {c.init}, after {self._earlier:,} examples")
    if not self._step:
      say(progress.parameter_overview(params))
      if any(jax.tree.leaves(self._run.is_frozen)):
        say(_trained(params, self._run.is_frozen))
    for name, (num_cut, n) in cut.items():
      if num_cut:
        say(
          f"warning: {num_cut} of {n} examples of {name} are longer than"
          f" text_len {c.text_len} and lose their end; raise text_len"
        )
    device = jax.devices()[0].device_kind
    where = f"from step {self._step}" if self._step else "from the start"
    say(
      f"{self._run.total} steps of {c.batch_size} examples on"
      f" {jax.device_count()} x {device}, {where}"
    )
    self._profiler.step(self._step, params)
    self._meter.begin(self._step)

  def _has_scores(self, step):
    """Returns, on all hosts, whether the record has scores of a step."""
    found = self._first and any(
      row["step"] == step and "train/loss" not in row
      for row in metrics.read(self._writer.path)
    )
    if jax.process_count() > 1:
      found = multihost_utils.broadcast_one_to_all(found)
    return bool(found)

  def is_scored(self, step):
    """Returns whether nothing is left to score after a step."""
    return self._scored == step

  def meta(self, step):
    """Returns what goes with a step's checkpoint, so that counting goes on.

    `rates` are the learning rates at which it would.
    """
    return dict(
      counts=self.counts(),
      spent=self._meter.spent(),
      examples=self._examples(step),
      rates={name: rate(step) for name, rate in self._run.rates.items()},
    )

  def _examples(self, step):
    """Returns the examples until a step, those of earlier runs included."""
    return self._earlier + step * self._c.batch_size

  def counts(self):
    """Returns what was counted since the start of the run, on all hosts."""
    here = {"train/cut": self._cut}
    if self._record.policy.skips:
      here |= {f"data/{k}/bad": n for k, n in self._record.num_bad.items()}
    values = np.array(list(here.values()))
    if jax.process_count() > 1:
      values = multihost_utils.process_allgather(values).sum(axis=0)
    return {k: int(n) + self._before.get(k, 0) for k, n in zip(here, values)}

  def step(self, step, measured, rows, bad_rows, waited):
    """Counts a step; writes its measurements where a line is due.

    Raises:
      ValueError: more rows are bad than the config allows.
    """
    self._record.add(rows, bad_rows)
    self._cut += int(prefix_lm.is_cut(rows).sum())
    self._meter.add("data_wait", waited)
    self._meter.step(rows["tokens"].shape[1] - 1)
    self._profiler.step(step, measured)
    self._progress.step(step, measured["train/loss"], waited)
    if step % self._c.log_every and step != self._run.total:
      return
    values = jax.device_get(measured)
    rates = self._run.rates.items()
    values |= {name: rate(step - 1) for name, rate in rates}
    counts = self.counts()
    values |= {**counts, **self._meter.speed(step), **self._meter.spent()}
    values |= meter.memory(self._run.mesh.local_devices)
    values["data/examples"] = self._examples(step)
    values |= seen(self._run.data, step * self._c.batch_size)
    self._say_bad(sum(n for k, n in counts.items() if k.endswith("/bad")))
    self._writer.write(step, values)

  def _say_bad(self, num_bad):
    if num_bad > self._num_bad:
      self._progress.say(
        f"warning: {num_bad} times so far, another row was taken for a bad one;"
        f" see {self._record.path}"
      )
    self._num_bad = num_bad

  def scores(self, step, results):
    """Writes the scores of evaluators once, and says the first of each.

    Those of the last step are in the table of final scores.
    """
    if not results or self.is_scored(step):
      return
    self._scored = step
    values = {
      f"{name}/{metric}": value
      for name, result in results.items()
      for metric, value in result.scores.items()
    }
    for name, result in results.items():
      if result.num_bad:
        values[f"{name}/bad"] = result.num_bad
      if result.num_cut:
        values[f"{name}/cut"] = result.num_cut
    self._writer.write(step, values)
    for name, result in results.items() if self._first else ():
      self._writer.pictures(step, name, pictures.first(result.records))
    told = [
      f"{name} {metric} {result.scores[metric]:.3f}"
      for name, result in results.items()
      for metric in list(result.scores)[:1]
    ]
    if told and step != self._run.total:
      self._progress.say(f"step {step}: {', '.join(told)}")
    self._progress.unpause()
    self._meter.begin(step)

  def close(self):
    """Closes the record; a second call does nothing."""
    self._profiler.close()
    self._writer.close()
    self._progress.close()

  def end(self, results):
    """Writes the table of final scores and the report."""
    self.close()
    finish(self._workdir, results)


def named(results, best):
  """Returns {"scores": {name: score}} for a checkpoint's meta.

  Args:
    results: {evaluator: evals.run.Result}, of its step; may be empty.
    best: str, the config's: without it there are none. A score that its
      evaluator does not have is said.
  """
  if not best or not results:
    return {}
  scores = {
    f"{name}/{metric}": value
    for name, result in results.items()
    for metric, value in result.scores.items()
  }
  wanted = best.removeprefix("-")
  if wanted.partition("/")[0] in results and wanted not in scores:
    why = config.unknown(wanted, scores, "score in config.best")
    progress_lib.say(f"warning: {why} No checkpoint is the best")
  return dict(scores=scores)


def check_new(c, workdir, first, *, interrupted):
  """Sees that a run may start from step 0: nothing of an earlier one is lost.

  A run that was killed before its first checkpoint starts over by the same
  command, and says so: it writes the same lines again. That of the checkpoint's
  own step is there before the checkpoint is.

  Args:
    c: the config.
    workdir: str, without a checkpoint.
    first: int, the step of the first checkpoint.
    interrupted: bool, whether that one was being written.

  Raises:
    ValueError: an earlier run has got further, or had another config.
  """
  path = os.path.join(workdir, "metrics.jsonl")
  lines = metrics.read(path) if os.path.exists(path) else []
  last = max((line["step"] for line in lines), default=0)
  if not last:
    return
  config = pathlib.Path(workdir, "config.json")
  same = config.exists() and config.read_text() == c.to_json(indent=2)
  ended = os.path.exists(os.path.join(workdir, "scores.json"))
  if same and (last < first or interrupted or last == first and not ended):
    progress_lib.say(
      f"{path} goes to step {last}, and nothing was saved before that run"
      " ended: starting over"
    )
    return
  raise ValueError(
    f"{path} goes to step {last}, but there is no checkpoint in {workdir} to go"
    " on from. To start anew, use another workdir, or move that file away"
  )


def finish(workdir, results):
  """Writes and prints final scores, and makes the report of them."""
  if jax.process_index() == 0 and results:
    before = _scores_at_start(workdir)
    _write_scores(workdir, results, before)
    print(table(results, before))
    for name, result in results.items():
      if result.num_bad:
        print(
          f"{name} left out {result.num_bad} bad rows; see {bad.FILE} in"
          f" {workdir}"
        )
      if result.num_cut:
        print(
          f"{name} left out {result.num_cut} rows: nothing of their answers is"
          " within text_len"
        )
    print(f"report: {report.write(workdir)}")


def seen(data, num_examples):
  """Returns metrics of how far the datasets are after the first examples.

  Args:
    data: tuple of pipeline.Dataset.
    num_examples: int, examples of the stream.
  """
  metrics = {}
  counts = mixture.Mixture([d.weight for d in data]).counts(num_examples)
  for d, count in zip(data, counts):
    metrics[f"data/{d.name}/examples"] = count
    metrics[f"data/{d.name}/epoch"] = count / len(d.source)
  return metrics


def _scores_at_start(workdir):
  """Returns {"evaluator/metric": score} of step 0, where a run was scored."""
  path = os.path.join(workdir, "metrics.jsonl")
  lines = metrics.read(path) if os.path.exists(path) else ()
  return {k: v for line in lines if not line["step"] for k, v in line.items()}


def _write_scores(workdir, results, before):
  scores = {
    name: {
      metric: _score(name, result, metric, before) for metric in result.scores
    }
    for name, result in results.items()
  }
  text = json.dumps(scores, indent=2)
  atomic.write(os.path.join(workdir, "scores.json"), text)


def _score(name, result, metric, before):
  """Returns what is known of one score, as it is in scores.json."""
  found = {"value": result.scores[metric], "n": result.num_examples}
  if metric in result.intervals:
    _, low, high, num, level = result.intervals[metric]
    found |= {"low": low, "high": high, "n": num}
    if level < 0.95:
      found["level"] = level
  if f"{name}/{metric}" in before:
    found["before"] = before[f"{name}/{metric}"]
  if metric in result.blind:
    found["blind"] = result.blind[metric]
  if metric in result.published:
    found["published"] = result.published[metric]
  if result.num_bad:
    found["bad"] = result.num_bad
  if result.num_cut:
    found["cut"] = result.num_cut
  return found


def table(results, before=()):
  """Returns final scores as text: intervals, baseline, what is published.

  Args:
    results: {evaluator: evals.run.Result}.
    before: {"evaluator/metric": score} before training; empty: not known.
  """
  published = any(result.published for result in results.values())
  extra = ["before"] * any(
    f"{k}/{m}" in before for k, r in results.items() for m in r.scores
  )
  heads = ["evaluator", "metric", *extra, "score", "95 % interval", "blind"]
  rows = [[*heads, *["published"] * published, "n"]]
  notes = []
  for name, result in results.items():
    left, more = _left_out(result)
    notes += [f"{name}: {note}" for note in more]
    for metric in result.scores:
      if metric in left:
        continue
      found = _score(name, result, metric, before)
      counts = ("n", "bad", "cut", "level")
      known = {k: f"{v:.3f}" for k, v in found.items() if k not in counts}
      ends = f"{known['low']} to {known['high']}" if "low" in known else ""
      ends += f" ({100 * found['level']:.0f} %)" if "level" in found else ""
      row = [name, metric, *[known.get("before", "")] * len(extra)]
      row += [known["value"], ends, known.get("blind", "")]
      row += [known.get("published", "")] * published
      rows.append([*row, str(found["n"])])
  return "\n".join([*table_lib.lines(rows), *notes])


def _left_out(result):
  """Returns metrics that have no row in the table, and notes on them."""
  scores, notes = result.scores, []
  parts = [m for m in scores if "/" in m and m not in result.published]
  parts = parts if len(parts) > FEW_PARTS else []
  if parts:
    low, high = min(parts, key=scores.get), max(parts, key=scores.get)
    notes.append(
      f"{len(parts)} scores of parts, from {scores[low]:.3f} ({low}) to"
      f" {scores[high]:.3f} ({high}); scores.json has each"
    )
  rest = [m for m in list(scores)[1:] if m not in {*parts, *result.published}]
  zeros = [m for m in rest if scores[m] == 0 and not result.blind.get(m)]
  zeros = zeros if len(zeros) > FEW_ZEROS else []
  if zeros:
    notes.append(f"0.000, too: {', '.join(zeros)}")
  return {*parts, *zeros}, notes
