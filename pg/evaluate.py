r"""Runs the evaluators of a config on a checkpoint.

python -m pg.evaluate --checkpoint runs/nano
python -m pg.evaluate --config configs/nano.py --checkpoint runs/nano

Prints the table of scores, each with an interval and the blind baseline beside
it, and writes predictions, `scores.json`, `report.html`, and `predictions.html`
to look through all predictions, into --workdir, by default the folder of the
checkpoint's run. With --compare OTHER it also tests whether the checkpoint is
better than another one, or than the run whose predictions are in OTHER.

A checkpoint with a record of how it saw images sees them so here, too, in the
evaluators where the config does not tell them apart from its own training;
without a record, as the config says. --pp names another way for all evaluators
(bv, hf, ops; see pg/pp/flavours.py), or `config`: as the config says.

Without a --config a run is evaluated by its own. Without a --checkpoint, too,
it works on predictions that are there: files of them, folders of such files, or
runs.

python -m pg.evaluate --compare runs/a runs/b
python -m pg.evaluate --predictions runs/a --out predictions.html
python -m pg.evaluate --predictions runs/a/predictions/test-000010000.jsonl \
    --submit vqav2 --out test.json

Several files make one submission; those of A-OKVQA's two evaluators need two
formats: --submit aokvqa_da aokvqa_mc.
"""

import json
import os
import pathlib
import re

import ml_collections

from pg import atomic, command, config, experiment, progress
from pg.data.storage import bucket, files
from pg.evals import compare as compare_lib
from pg.evals import records, submit
from pg.evals import run as evals_run
from pg.evals import task as evals_task
from pg.log import history, mirror
from pg.log import run as log_run
from pg.log.pages import predictions, report
from pg.pp import flavours
from pg.weights import checkpoint, load, parameters

PAGE = "predictions.html"


def evaluate(c, path, workdir, pp=None, quantize=None, logits=None):
  """Scores a checkpoint.

  Args:
    c: the config; its tokenizer is, if it names none, that of the checkpoint.
    path: str, a run, a checkpoint in it, or released weights.
    workdir: str, where results go.
    pp: str or None, see `see_as`.
    quantize: str or None, a format to quantise its weights to.
    logits: dict or None, to which `evals.run.first_logits` are added.

  Returns:
    {evaluator: evals.run.Result}.

  Raises:
    ValueError: nothing to evaluate, or a checkpoint of another model.
  """
  atomic.check_folder(workdir)
  name, (path, step) = path, pinned(path)
  c = c.copy_and_resolve_references()
  with c.unlocked():
    c.init, c.lora.rank = path, 0  # an adapter is in its weights by then
    c.frozen_dtype = "float32"
    see_as(c, pp)
  run = experiment.open(c)
  if not run.tasks:
    raise ValueError("the config has no evaluators; add one to c.evals")
  history.check_same(c, run)
  os.makedirs(workdir, exist_ok=True)
  atomic.check(os.path.join(workdir, PAGE))
  progress.say(f"loading {name}")
  how = run.cfg, run.mesh, c.sharding
  params = parameters.to_evaluate(path, *how, quantize)
  baseline = experiment.baseline(run)
  model = run.cfg, params, run.form, run.mesh
  names = ", ".join(task.name for task in run.tasks)
  progress.say(f"compiling and running {names}")
  results = evals_run.evaluate(run.tasks, *model, step, workdir, baseline)
  log_run.finish(workdir, results)
  if logits is not None:
    logits |= evals_run.first_logits(run.tasks, *model)
  return results


def see_as(c, pp):
  """Makes the evaluators of a config see images as its checkpoint does.

  Args:
    c: the config, unlocked; `c.init` is the checkpoint.
    pp: str, "config" to leave all as they are, or for all evaluators a name
      that `flavours.named` takes; None is the checkpoint's record, if it has
      one, for those that see images as the config's training does: published
      recipes differ where they mean to.

  Raises:
    ValueError: pp is nothing that flavours.named takes.
  """
  if pp == "config":
    return
  way, mine = pp and flavours.named(pp, c.res), flavours.of_run(c)
  if not pp:
    weights = load.open(c.init)
    weights.reader.close()
    old = weights.cfg.img.res
    way = weights.pp and flavours.at_resolution(weights.pp, old, c.res)
  for name, how in c.evals.items():
    string = evals_task.pipeline_of(c, how)
    seen = flavours.of_pipeline(string, c.res)
    if way not in (None, seen) and (pp or seen == mine):
      how.pp = flavours.replaced(string, way)
      print(f"{name} sees images by {way}; the config has {seen}")


def pinned(path):
  """Returns the newest checkpoint of a run, and its step.

  The run may train on, and save another one meanwhile. Other weights are
  returned as they are, with step 0.
  """
  try:
    folder = checkpoint.find(path)
  except ValueError:
    return path, 0
  ema = ":ema" if checkpoint.split(path)[1] == "ema" else ""
  return f"{folder}{ema}", int(folder.name)


def read(path):
  """Reads predictions: the last ones of a run, of a folder, or one file.

  Returns:
    {evaluator: list of dict}, pg.evals.records.

  Raises:
    ValueError: none there, or a file with a bad line.
  """
  found = _files(_here(path))
  if not found:
    raise ValueError(
      f"no predictions in {path}; wanted a run's folder, one with files such as"
      " val-000000100.jsonl, or such a file"
    )
  return {name: records.read(file) for name, file in found.items()}


def _here(name):
  """Returns the path of a file, or of a run's folder without its checkpoints.

  That of a bucket is downloaded.
  """
  if bucket.is_bucket(name):
    is_file = os.path.splitext(name)[1] in (".json", ".jsonl")
    small = lambda file: not file.startswith("checkpoints/")
    name = files.local(name, None if is_file else small)
  return pathlib.Path(name)


def _files(path):
  """Returns {evaluator: path} of the predictions in a file or folder."""
  if path.is_file():
    return {re.sub("-[0-9]{9}$", "", path.stem): path}
  folder = path / "predictions"
  last = report.last_predictions(folder if folder.is_dir() else path)
  return {name: file for name, (_, file) in last.items()}


def compare(before, after, metrics):
  """Prints whether the second of two models is better.

  Args:
    before, after: (name, {evaluator: records}).
    metrics: {evaluator: metric}.

  Raises:
    ValueError: predictions of other examples.
  """
  rows, notes = compare_lib.compare(before[1], after[1], metrics)
  print(f"A: {before[0]}\nB: {after[0]}")
  print("\n".join([*([compare_lib.table(rows)] * bool(rows)), *notes]))


def _evaluate(args):
  """Runs a config's evaluators, and those of another checkpoint."""
  c, path, workdir = args.config, args.checkpoint, args.workdir
  if path is None:
    raise ValueError("nothing to evaluate; add --checkpoint, a run or weights")
  c = _config_of_run(path) if c is None else c
  if workdir is None:
    try:
      workdir = checkpoint.workdir_of(path)
    except ValueError as error:
      raise ValueError(
        f"{error}. Released weights have no folder for results: add --workdir"
      ) from error
  with mirror.open(workdir) as workdir:
    _evaluate_into(workdir, c, args)


def _evaluate_into(workdir, c, args):
  """Runs evaluators; results go to a folder."""
  path, how = args.checkpoint, args.quantize
  other, both = args.compare and _other(args.compare), None
  if how and args.compare and not args.compare[0].endswith(".jsonl"):
    other, both = None, ({}, {})  # both are asked, for their logits
  results = evaluate(c, path, workdir, args.pp, how, both and both[1])
  found = {name: r.records for name, r in results.items() if r.records}
  out = os.path.join(workdir, PAGE)
  print(f"predictions: {predictions.write(out, found, args.mask_codec)}")
  if not args.compare:
    return
  if other is None:
    folder = os.path.join(workdir, "compared")
    before = evaluate(
      c, args.compare[0], folder, args.pp, None, both and both[0]
    )
    other = {name: r.records for name, r in before.items() if r.records}
  metrics = {k: x.get("metric", "exact") for k, x in c.evals.items()}
  name = f"{path}, in {how}" if how else path
  compare((args.compare[0], other), (name, found), metrics)
  if both:
    print(compare_lib.agreement(other, found, both))


def _config_of_run(path):
  """Reads the config that a checkpoint's run was trained with.

  Raises:
    ValueError: released weights, which have none.
  """
  try:
    file = os.path.join(checkpoint.workdir_of(path), "config.json")
    with open(files.local(file), encoding="utf-8") as f:
      c = config.complete(ml_collections.ConfigDict(json.load(f)))
  except (ValueError, OSError) as error:
    raise ValueError(
      f"{path} is no run with a config of its own ({error}): say with --config"
      " what to evaluate it on"
    ) from error
  progress.say(f"config: {file}")
  return c


def _other(names):
  """Returns the predictions to compare with; None where they are to be made."""
  if len(names) != 1:
    raise ValueError("with a --config, --compare takes one checkpoint or run")
  path = _here(names[0])
  is_there = path.suffix == ".jsonl" or _files(path)
  return read(path) if is_there else None


def _compare(names):
  """Compares predictions that are there."""
  if len(names) != 2:
    raise ValueError(
      f"--compare got {len(names)} run without a --config; it takes two, or a"
      " --config and --checkpoint to compare one with"
    )
  metrics, here = {}, list(map(_here, names))
  for folder in here:
    path = os.path.join(folder, "config.json")
    if os.path.exists(path):
      with open(path, encoding="utf-8") as f:
        evals = json.load(f).get("evals", {})
      metrics |= {k: how.get("metric", "exact") for k, how in evals.items()}
  compare(*((name, read(path)) for name, path in zip(names, here)), metrics)


def _rewrite(args):
  """Makes a submission, or the page, of predictions that are there."""
  if not args.out:
    raise ValueError("--predictions makes a file: say which with --out")
  found = [(path, read(path)) for path in args.predictions]
  if not args.submit:
    joined = {}
    for path, evaluators in found:
      for name, rows in evaluators.items():
        joined[f"{path}: {name}" if name in joined else name] = rows
    print(predictions.write(args.out, joined, args.mask_codec))
    return
  rows = []
  for path, evaluators in found:
    if len(evaluators) > 1:
      raise ValueError(
        f"{path} has predictions of {', '.join(evaluators)}; name the file of"
        " one to submit"
      )
    rows += evaluators.values()
  submit.write(args.out, args.submit, rows)
  print(args.out)


def main(args):
  if args.predictions:
    with mirror.out(args.out) as args.out:
      _rewrite(args)
  elif args.out or args.submit:
    raise ValueError(
      "--out and --submit go with --predictions; a --config writes into"
      " --workdir"
    )
  elif args.config is not None or args.checkpoint:
    _evaluate(args)
  elif args.compare:
    _compare(args.compare)
  else:
    raise ValueError(
      "wanted a --checkpoint, --compare or --predictions; see --help"
    )


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    joins=True,
    with_config="optional",
    checkpoint=dict(
      help="a run (RUN:best and RUN:ema, too, where it has them), or released"
      " weights"
    ),
    workdir=dict(help="folder for the results"),
    pp=dict(help="how images are seen: bv, hf, ops or config; see above"),
    quantize=dict(help="its weights to int8, int4, nf4 or int4:32"),
    compare=dict(nargs="+", metavar="RUN", help="another one; or two of them"),
    mask_codec=dict(
      metavar="FILE",
      help="what codes of masks mean, an .npz; default what a row names",
    ),
    predictions=dict(
      nargs="+", metavar="PATH", help="files of answers, or runs"
    ),
    submit=dict(nargs="+", metavar="FORMAT", help=", ".join(submit.FORMATS)),
    out=dict(metavar="FILE", help="what --predictions makes"),
  )
