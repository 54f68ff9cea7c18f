r"""Reads a run's data before it trains, and tells what is wrong with it.

python -m pg.check --config transfers/forkme.py:train=a.jsonl,val=b.jsonl
python -m pg.check --train a.jsonl --val b.jsonl --res 224 --out check.html

Reads training and evaluation data, in the same way as training does: all rows
that the run would read, or some of each dataset with --examples. Prints what it
found, and writes it with pictures and a batch as the model sees it into --out.
Ends with 1 if something would hurt training, else with 0.
"""

import concurrent.futures
import functools
import math
import os
import sys
import time

import ml_collections
import numpy as np

from pg import command, config, pp, progress
from pg.codecs import tokenizer
from pg.data import options, pipeline, prefix_lm, stream
from pg.evals import task as evals_task
from pg.inspect import inspection, terminal
from pg.inspect import rows as visit_lib
from pg.log.pages import check as check_page
from pg.weights import load

# Rows that are read at once, rows of the batch and of a finding to show.
CHUNK = 256
NUM_SHOWN, NUM_PICTURES = 16, 3
# Seconds that a speed is measured for, and rows at most.
MEASURE, MEASURE_ROWS = 1.0, 256
# Values of the command line for files without a config.
PLAIN = dict(
  val="", res=224, text_len=128, num_images=1, batch_size=32, tokenizer=""
)


def check(c, title, *, num_examples=None, step_time=None, quiet=True):
  """Reads the data of a config and reports on it.

  Args:
    c: the config.
    title: str, what the report is about.
    num_examples: int, rows of each dataset, evenly spread; None is as many as
      the run reads.
    step_time: float, seconds per step that the input should keep up with.
    quiet: bool, prints no progress.

  Returns:
    doctor.Report.

  Raises:
    ValueError: a config that does not fit, or data that cannot be opened.
  """
  start = time.monotonic()
  tok = tokenizer.Tokenizer(c.tokenizer or load.tokenizer_of(c.init))
  form = prefix_lm.Form(tok, c.res, c.num_images, c.text_len)
  data = pipeline.datasets(c.data, c.pp)
  names = [d.name for d in data] if len(data) > 1 else ["train"]
  parts = [inspection.Part(n, d, train=True) for n, d in zip(names, data)]
  parts += evaluated(evals_task.tasks(c), c.text_len)
  rows = [
    spread(part.size, n if num_examples is None else num_examples)
    for part, n in zip(parts, [*run_reads(c, data), *[None] * len(parts)])
  ]
  found = inspection.Doctor(parts, c.text_len)
  how = options.from_config(c)
  total = sum(map(len, rows))
  with (
    concurrent.futures.ThreadPoolExecutor(how.num_threads) as pool,
    progress.Bar(total=total, unit=" rows", leave=False, disable=quiet) as bar,
  ):
    for number, visited in visits(parts, rows, form, c.seed, pool):
      found.see(number, visited)
      bar.update(sum(p.num_read for p in parts) - bar.n)
    found.close(how.bad.max_fraction if how.bad.skips else 0.0)
    count = min(MEASURE_ROWS, pipeline.num_examples(data))
    rows = list(draw(c.seed, data, count))
    speed = measure(form, parts, c.seed, rows, pool, how)
  if speed and step_time:
    speed = speed._replace(wanted=c.batch_size / step_time)
    if speed.wanted > speed.many:
      detail = f"{speed.wanted:.3g} rows/s wanted, {speed.many:.3g} read"
      found.found.add("slow", "training", "", detail)
  form = form._replace(blind=c.blind)
  count = min(c.batch_size, NUM_SHOWN)
  return inspection.Report(
    title=title,
    doctor=found,
    speed=speed,
    shown=shown(form, parts, c.seed, draw(c.seed, data, count)),
    pictures={
      f.kind: shown(form, parts, c.seed, f.rows[:NUM_PICTURES])
      for _, f in found.found.sorted()
    },
    tok=tok,
    seconds=time.monotonic() - start,
  )


def evaluated(tasks, text_len):
  """Returns a doctor.Part for each set of rows that evaluators look at."""
  groups = {}
  for task in tasks:
    key = task.data.spec, task.settings["num_examples"]
    groups.setdefault(key, []).append(task)
  parts = []
  for (_, limit), group in groups.items():
    said = [t for t in group if t.generates]
    part = inspection.Part(
      "+".join(f"evals.{t.name}" for t in group),
      group[0].data,
      train=False,
      limit=limit,
      generates=len(said) == len(group),
      max_len=min(
        (t.settings["max_len"] or text_len for t in said), default=None
      ),
      seen=all(t.name.startswith("seen_") for t in group),
    )
    parts.append(part)
  return parts


def run_reads(c, data):
  """Returns how many rows of each dataset the run reads, repeats included."""
  n = pipeline.num_examples(data)
  steps = config.steps(c.total, c.batch_size, n)
  shares = np.array([d.weight for d in data]) / sum(d.weight for d in data)
  return [math.ceil(steps * c.batch_size * share) for share in shares]


def spread(size, limit):
  """Returns rows, all or `limit` of them evenly spread, in order."""
  if limit is None or limit >= size:
    return range(size)
  return np.linspace(0, size - 1, limit).astype(np.int64)


def visits(parts, rows, form, seed, pool):
  """Yields (number of the part, visit.Visit) of all rows, in order."""
  for number, (part, at) in enumerate(zip(parts, rows)):
    look = functools.partial(visit, part, form, (seed, number))
    for start in range(0, len(at), CHUNK):
      for visited in pool.map(look, map(int, at[start : start + CHUNK])):
        yield number, visited


def make(part, form, seed, i, tap=None):
  """Returns row i after its ops, and as the batch has it, as a run reads it.

  Args:
    part: doctor.Part.
    form: prefix_lm.Form.
    seed: tuple, of the row's randomness in training.
    i: int, the row.
    tap: visit.Tap to read through.
  """
  dataset = part.dataset._replace(source=tap or part.dataset.source)
  turn = pp.Turn(seed, i) if part.train else pp.Turn(row=i)
  done = stream.read(dataset, i, turn, dict)
  is_prompt = part.generates and "suffix" not in done
  make_row = prefix_lm.decode_row if is_prompt else prefix_lm.train_row
  return done, make_row(form, done)


def visit(part, form, seed, i):
  """Examines a row, see `make`; returns visit.Visit."""
  tap = visit_lib.Tap(part.dataset.source)
  try:
    done, _ = make(part, form, seed, i, tap)
  except pp.Skip:
    return visit_lib.Visit(i, status="skipped")
  except Exception as e:  # whatever breaks: the other rows are read, too
    return visit_lib.Visit(i, (visit_lib.diagnose(tap.row, e),), "bad")
  return visit_lib.examine(i, tap.row, done, form.tok)


def draw(seed, data, count):
  """Draws (number of the dataset, row) in the mixture's proportion."""
  rng = np.random.default_rng(seed)
  shares = np.array([d.weight for d in data]) / sum(d.weight for d in data)
  for number in rng.choice(len(data), count, p=shares).tolist():
    yield number, int(rng.integers(len(data[number].source)))


def shown(form, parts, seed, rows):
  """Returns list of doctor.Shown of (number of the part, row), no bad ones."""
  out = []
  for number, i in rows:
    try:
      done, row = make(parts[number], form, (seed, number), i)
    except Exception:  # it is among the findings
      continue
    where = parts[number].dataset.source.where(i)
    out.append(
      inspection.Shown(where, row, done["prefix"], done.get("suffix", ""))
    )
  return out


def measure(form, parts, seed, rows, pool, how):
  """Returns the doctor.Speed at which rows are read; None if all are bad.

  Args:
    form, parts, seed, rows: see `shown`.
    pool: executor with the threads of a run.
    how: options.Options.
  """
  read = lambda row: shown(form, parts, seed, [row])
  done, start = [], time.perf_counter()
  while len(done) < len(rows) and time.perf_counter() - start < MEASURE:
    done.append(read(rows[len(done)]))
  one = len(done) / (time.perf_counter() - start)
  start = time.perf_counter()
  for _ in pool.map(read, rows[: len(done)]):
    pass
  many, name = len(done) / (time.perf_counter() - start), "threads"
  if how.num_workers:
    many, name = (
      max(many, one * min(how.num_workers, os.cpu_count())),
      "workers",
    )
  images = [s.row["mask_image"].sum() for good in done for s in good]
  if not images:
    return None
  name = f"{how.num_workers or how.num_threads} {name}"
  return inspection.Speed(one, many, name, float(np.mean(images)))


def plain(args):
  """Returns a config of JSON-lines files and the values of PLAIN."""
  c = ml_collections.ConfigDict(PLAIN)
  c.update({k: getattr(args, k) for k in PLAIN if getattr(args, k) is not None})
  c.seed, c.init, c.blind, c.total = 0, "", False, "1ep"
  c.pp = f"decode(exif=True) | resize({c.res})"
  c.data = dict(train=dict(source="jsonl", path=args.train))
  c.evals, c.input, c.bad = {}, {}, {}
  if args.val:
    how = dict(metric="perplexity", source="jsonl", path=args.val)
    c.evals.val = how
  return c


def main(args):
  given = [k for k in ("train", *PLAIN) if getattr(args, k) is not None]
  if args.config and given:
    word = given[0].replace("_", "-")
    raise ValueError(f"--{word} is for files without a config; see --help")
  if not args.config and not args.train:
    raise ValueError("nothing to check: give --config FILE or --train FILE")
  if args.examples is not None and args.examples < 1:
    raise ValueError(f"--examples must be at least 1, got {args.examples}")
  if args.step_time is not None and args.step_time <= 0:
    raise ValueError(f"--step-time must be above 0, got {args.step_time}")
  files = " and ".join(filter(None, (args.train, args.val)))
  title = args.config_file if args.config else files
  c = args.config or plain(args)
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
  sys.exit(int(report.doctor.found.has_errors()))


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config="optional",
    train=dict(help="JSON lines to train on, instead of a config"),
    val=dict(help="JSON lines to evaluate on"),
    res=dict(type=int, help="pixels per side; default 224"),
    text_len=dict(type=int, help="text positions; default 128"),
    num_images=dict(type=int, help="images per row; default 1"),
    batch_size=dict(type=int, help="rows per step; default 32"),
    tokenizer=dict(help="SentencePiece file; default the tiny one"),
    examples=dict(type=int, help="rows to read of each dataset"),
    step_time=dict(type=float, help="seconds per step to keep up with"),
    out=dict(help="HTML page to write"),
  )
