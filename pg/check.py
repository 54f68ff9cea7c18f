r"""Checks the data of a run before it trains and reports what is wrong.

python -m pg.check --config transfers/forkme.py:train=a.jsonl,val=b.jsonl
python -m pg.check --train a.jsonl --val b.jsonl --res 224 --out check.html

Reads training and evaluation data, in the same way as training does: all rows
that the run would read, or some of each dataset with --examples. Prints what it
found, and writes it with images and a batch as the model sees it into --out.
Ends with 1 if something would hurt training, else with 0.
"""

import concurrent.futures
import functools
import inspect
import os
import sys
import time

import ml_collections
import numpy as np

from pg import atomic, command, config, limits, pp, progress
from pg.codecs import tokenizer
from pg.data import mixture as mixture_lib
from pg.data import options, pipeline, prefix_lm, stream
from pg.data.formats import checks
from pg.evals import metrics as metrics_lib
from pg.evals import task as evals_task
from pg.inspect import inspection, terminal
from pg.inspect import rows as rows_lib
from pg.log import mirror
from pg.log.pages import check as check_page
from pg.pp import image as image_ops
from pg.weights import load

# Rows that are read at once, rows of the batch and of a finding to show.
CHUNK = 256
NUM_BATCH, NUM_SAMPLES = 16, 3
# Seconds that throughput is measured for, and rows at most.
MEASURE_SECONDS, MEASURE_ROWS = 1.0, 256
# Defaults of the command line for files without a config.
DEFAULTS = dict(
  val="", res=224, text_len=128, num_images=1, batch_size=32, tokenizer=""
)


def check(c, title, *, num_examples=None, step_time=None, quiet=True):
  """Inspects the data of a config.

  Args:
    c: the config.
    title: str, what the report is about.
    num_examples: int, rows of each dataset, evenly spread; None is as many as
      the run reads.
    step_time: float, seconds per step that the input should keep up with.
    quiet: bool, prints no progress.

  Returns:
    inspection.Report.

  Raises:
    ValueError: a config that does not fit, or data that cannot be opened.
  """
  config.validate(c)
  start = time.monotonic()
  tok, missing = tokenizer_of(c)
  form = prefix_lm.Form(tok, c.res, c.num_images, c.text_len, prompt=c.prompt)
  loading = options.from_config(c)
  data = pipeline.datasets(c.data, c.pp, loading.limits)
  names = [d.name for d in data] if len(data) > 1 else ["train"]
  datasets = [
    inspection.DatasetStats(n, d, train=True) for n, d in zip(names, data)
  ]
  datasets += evaluation_datasets(evals_task.tasks(c), c.text_len)
  wanted = [*rows_of_run(c, data), *[None] * len(datasets)]
  rows = [
    checks.spread(stats.size, n if num_examples is None else num_examples)
    for stats, n in zip(datasets, wanted)
  ]
  found = inspection.Inspection(datasets, c.text_len, judged=not missing)
  if missing:
    found.findings.add("tokenizer", "all texts", "", missing)
  total, threads = sum(map(len, rows)), loading.num_threads
  with (
    concurrent.futures.ThreadPoolExecutor(threads) as pool,
    progress.Bar(total=total, unit=" rows", leave=False, disable=quiet) as bar,
  ):
    for number, report in row_reports(datasets, rows, form, c.seed, pool):
      found.add(number, report)
      bar.update(sum(d.num_read for d in datasets) - bar.n)
    found.finish(loading.bad.max_fraction if loading.bad.skips else 0.0)
    count = min(MEASURE_ROWS, pipeline.num_examples(data))
    rows = list(first_rows(c.seed, data, count))
    throughput = measure(form, datasets, c.seed, rows, pool, loading)
  if throughput and step_time:
    throughput = throughput._replace(wanted=c.batch_size / step_time)
    if throughput.wanted > throughput.parallel:
      wanted, read = throughput.wanted, throughput.parallel
      detail = f"{wanted:.3g} rows/s wanted, {read:.3g} read"
      found.findings.add("slow", "training", "", detail)
  form = form._replace(blind=c.blind)
  count = min(c.batch_size, NUM_BATCH)
  shown = dict.fromkeys(first_rows(c.seed, data, count))  # each row once
  return inspection.Report(
    title=title,
    inspection=found,
    throughput=throughput,
    batch=read_samples(form, datasets, c.seed, shown),
    samples={
      f.kind: read_samples(form, datasets, c.seed, f.rows[:NUM_SAMPLES])
      for _, f in found.findings.sorted()
    },
    tok=tok,
    seconds=time.monotonic() - start,
  )


def tokenizer_of(c):
  """Returns the tokenizer of a config.

  Data can be looked at without the weights: where those have a tokenizer that
  cannot be had, as without a network, it is the tiny one.

  Returns:
    Tokenizer, and why it is another one than the run's; "" if it is not.

  Raises:
    ValueError: the one that the config names cannot be read.
  """
  if c.tokenizer:
    return tokenizer.Tokenizer(c.tokenizer), ""
  try:
    return tokenizer.Tokenizer(load.tokenizer_of(c.init)), ""
  except (ValueError, OSError) as e:
    return tokenizer.Tokenizer(tokenizer.NANO), f"that of {c.init}: {e}"


def evaluation_datasets(tasks, text_len):
  """Returns a DatasetStats for each set of rows that evaluators read."""
  groups = {}
  for task in tasks:
    key = task.data.spec, task.settings["num_examples"]
    groups.setdefault(key, []).append(task)
  datasets = []
  for (_, limit), group in groups.items():
    generating = [t for t in group if t.generates]
    stats = inspection.DatasetStats(
      "+".join(f"evals.{t.name}" for t in group),
      group[0].data,
      train=False,
      limit=limit,
      generates=len(generating) == len(group),
      max_len=min(
        (t.settings["max_len"] or text_len for t in generating), default=None
      ),
      seen=all(t.name.startswith("seen_") for t in group),
      metrics=tuple(t.metric for t in group if t.metric),
    )
    datasets.append(stats)
  return datasets


def rows_of_run(c, data):
  """Returns how many rows of each dataset the run reads, repeats included."""
  steps = config.steps(c.total, c.batch_size, pipeline.num_examples(data))
  mixture = mixture_lib.Mixture([d.weight for d in data])
  return mixture.counts(steps * c.batch_size)


def row_reports(datasets, rows, form, seed, pool):
  """Yields (number of the dataset, rows.RowReport) of all rows, in order."""
  for number, (stats, indices) in enumerate(zip(datasets, rows)):
    report_of = functools.partial(inspect_row, stats, form, (seed, number))
    for start in range(0, len(indices), CHUNK):
      for report in pool.map(report_of, indices[start : start + CHUNK]):
        yield number, report


def read_row(stats, form, seed, i, source=None):
  """Returns row i after its ops, and as the batch has it, as a run reads it.

  Args:
    stats: inspection.DatasetStats.
    form: prefix_lm.Form.
    seed: tuple, of the row's randomness in training.
    i: int, the row.
    source: to read through; by default the dataset's.
  """
  dataset = stats.dataset._replace(source=source or stats.dataset.source)
  turn = pp.Turn(seed, i) if stats.train else pp.Turn(row=i)
  example = stream.read(dataset, i, turn, dict)
  is_prompt = stats.generates and "suffix" not in example
  make_row = prefix_lm.decode_row if is_prompt else prefix_lm.train_row
  return example, make_row(form, example)


def inspect_row(stats, form, seed, i):
  """Inspects a row, see `read_row`; returns rows.RowReport."""
  source = rows_lib.RecordingSource(stats.dataset.source)
  with limits.within(stats.dataset.limits):
    try:
      example, _ = read_row(stats, form, seed, i, source)
    except pp.Skip:
      return rows_lib.RowReport(i, status="skipped")
    except Exception as e:  # whatever breaks: the other rows are read, too
      problem = rows_lib.classify_failure(source.row, e)
      return rows_lib.RowReport(i, (problem,), "bad")
    report = rows_lib.inspect(i, source.row, example, form.tok)
    more = unscored(stats.metrics, example)
    if not turns_upright(stats.dataset.pp):
      more += rows_lib.turned(source.row, example)
    return report._replace(problems=report.problems + more)


def turns_upright(pipeline):
  """Says whether a pipeline decodes images as EXIF says they are seen."""
  bind = inspect.signature(image_ops.decode).bind_partial
  return any(
    bind(None, *step.args, **step.kwargs).arguments.get("exif")
    for step in pipeline.args[0]
    if step.function is image_ops.decode
  )


def unscored(metrics, example):
  """Returns the problem that a metric has with a row, as those of RowReport."""
  kept = {k: v for k, v in example.items() if k != "image"}
  for name in metrics:
    try:
      metrics_lib.read(name, kept)
    except ValueError as e:
      return (("unscored", f"{name}: {e}"),)
  return ()


def first_rows(seed, data, count):
  """Yields (number of the dataset, row) in the order that training reads them.

  A dataset is read to its end before a row of it comes again.
  """
  order = stream.Stream(data, None, seed)
  for number, visits in map(order.visits, range(count)):
    yield number, next(visits)[0]


def read_samples(form, datasets, seed, rows):
  """Reads rows as the model sees them; bad ones are left out.

  Args:
    form: pipeline.Form.
    datasets: list of inspection.DatasetStats.
    seed: int.
    rows: iterable of (number of the dataset, row).

  Returns:
    list of inspection.Sample.
  """
  samples = []
  for number, i in rows:
    try:
      example, row = read_row(datasets[number], form, (seed, number), i)
    except Exception:  # it is among the findings
      continue
    where = progress.safe(datasets[number].dataset.source.where(i))
    texts = example["prefix"], example.get("suffix", "")
    texts += (example.get("codec", ""),)
    samples.append(inspection.Sample(where, row, *texts))
  return samples


def measure(form, datasets, seed, rows, pool, loading):
  """Measures the inspection.Throughput of reading; None if all rows are bad.

  Args:
    form, datasets, seed, rows: see `read_samples`.
    pool: executor with the threads of a run.
    loading: options.Options.
  """
  read = lambda row: read_samples(form, datasets, seed, [row])
  results, start = [], time.perf_counter()
  while (
    len(results) < len(rows) and time.perf_counter() - start < MEASURE_SECONDS
  ):
    results.append(read(rows[len(results)]))
  single = len(results) / (time.perf_counter() - start)
  start = time.perf_counter()
  for _ in pool.map(read, rows[: len(results)]):
    pass
  parallel = len(results) / (time.perf_counter() - start)
  readers = f"{loading.num_threads} threads"
  if loading.num_workers:
    parallel = max(parallel, single * min(loading.num_workers, os.cpu_count()))
    readers = f"{loading.num_workers} workers"
  images = [s.row["mask_image"].sum() for samples in results for s in samples]
  if not images:
    return None
  images = float(np.mean(images))
  return inspection.Throughput(single, parallel, readers, images)


def plain_config(args):
  """Returns a config of JSON-lines files and the values of DEFAULTS."""
  c = ml_collections.ConfigDict(DEFAULTS)
  given = {k: getattr(args, k) for k in DEFAULTS}
  c.update({k: v for k, v in given.items() if v is not None})
  c.seed, c.init, c.blind, c.total = 0, "", False, "1ep"
  c.prompt = "full"
  c.pp = f"decode(exif=True) | resize({c.res})"
  root = {"image_root": args.image_root} if args.image_root else {}
  c.data = dict(train=dict(source="jsonl", path=args.train, **root))
  c.evals, c.input, c.bad = {}, {}, {}
  if args.val:
    spec = dict(source="jsonl", path=args.val, **root)
    c.evals.val = dict(metric="perplexity", **spec)
  del c.val
  return c


def main(args):
  with mirror.out(args.out) as args.out:
    _check(args)


def _check(args):
  given = ("train", "image_root", *DEFAULTS)
  given = [k for k in given if getattr(args, k) is not None]
  if args.config and given:
    word = given[0].replace("_", "-")
    raise ValueError(f"--{word} is for files without a config; see --help")
  if not args.config and not args.train:
    raise ValueError("nothing to check: give --config FILE or --train FILE")
  if args.examples is not None and args.examples < 1:
    raise ValueError(f"--examples must be at least 1, got {args.examples}")
  if args.step_time is not None and args.step_time <= 0:
    raise ValueError(f"--step-time must be above 0, got {args.step_time}")
  if args.out:
    atomic.check(args.out)
  files = " and ".join(filter(None, (args.train, args.val)))
  title = args.config_file if args.config else files
  c = args.config or plain_config(args)
  report = check(
    c,
    title,
    num_examples=args.examples,
    step_time=args.step_time,
    quiet=False,
  )
  print(terminal.render(report))
  if args.out:
    print(f"page: {check_page.write(report, args.out)}")
  sys.exit(int(report.inspection.findings.has_errors()))


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config="optional",
    train=dict(help="JSON lines to train on, instead of a config"),
    val=dict(help="JSON lines to evaluate on"),
    image_root=dict(help="folder that has their images"),
    res=dict(type=int, help="pixels per side; default 224"),
    text_len=dict(type=int, help="text positions; default 128"),
    num_images=dict(type=int, help="images per row; default 1"),
    batch_size=dict(type=int, help="rows per step; default 32"),
    tokenizer=dict(help="SentencePiece file; default the tiny one"),
    examples=dict(type=int, help="rows to read of each dataset"),
    step_time=dict(type=float, help="seconds per step to keep up with"),
    out=dict(help="HTML page to write"),
  )
