r"""Damages runs in every way we know, and counts what comes of it.

python -m scripts.chaos
python -m scripts.chaos --only kill,checkpoint --seed 7 --tries 20

A small run is trained undisturbed. Others like it are killed, stopped and
started again, and must end with the same parameters, metric lines, order of
examples and predictions, bit for bit; so do jobs of two processes. Then its
checkpoint and weights, rows, images and config are damaged: each must be read
as it was, or be refused with one message. Prints a table and every failure;
ends with 1 if there is one. The same seed does the same damage, as far as
clocks allow. Linux only.
"""

import concurrent.futures
import functools
import multiprocessing
import os
import sys
import tempfile
import time

from pg import command, config
from pg import table as table_lib
from scripts import chaos
from scripts.chaos import damage, jobs, nonsense, run, stops

# Of all processes: one device, and programs that are ready soon.
ENVIRONMENT = dict(
  JAX_PLATFORMS="cpu", XLA_FLAGS="", JAX_DISABLE_MOST_OPTIMIZATIONS="1"
)

# Row of the table -> function, tries, tries of the short form.
ROWS = {
  "kill": (stops.kills, 50, 2),
  "term": (stops.terms, 10, 1),
  "int": (stops.interrupts, 10, 1),
  "disk": (stops.disk, 5, 1),
  "two": (stops.two, 4, 0),
  "orphans": (stops.orphans, 3, 1),
  "jobterm": (jobs.terms, 10, 1),
  "jobint": (jobs.interrupts, 10, 0),
  "jobkill": (jobs.kills, 8, 1),
  "joberror": (jobs.errors, 6, 0),
  "places": (jobs.places, 6, 0),
  "differ": (jobs.refusals, 4, 1),
  "checkpoint": (damage.checkpoints, 200, 10),
  "weights": (damage.weights, 200, 10),
  "rows": (nonsense.rows, 500, 30),
  "configs": (nonsense.configs, 300, 15),
  "long": (stops.long, 2000, 0),
}


def main(args):
  names = args.only.split(",") if args.only else list(ROWS)
  for name in names:
    config.lookup(ROWS, name, "row")
  os.environ.update(ENVIRONMENT)
  start = time.monotonic()
  # Each row has a process: what breaks one does not end the others.
  spawn = multiprocessing.get_context("spawn")
  found = []
  with tempfile.TemporaryDirectory(prefix="chaos") as folder:
    alone = functools.partial(
      concurrent.futures.ProcessPoolExecutor, 1, spawn, chaos.quiet
    )
    with alone() as pool:
      lab = pool.submit(run.Lab, folder).result()
    for name in names:
      function, *tries = ROWS[name]
      tries = args.tries or tries[args.short]
      if not tries:
        continue
      with alone() as pool:
        todo = chaos.timed, function, lab, tries, args.seed
        try:
          row = pool.submit(*todo).result()
        except Exception as error:  # it has ended, or we have a mistake
          row = chaos.Row(name)
          row.fail("all tries", f"{type(error).__name__}: {error}")
      print("  ".join(cells(row)), file=sys.stderr, flush=True)
      found.append(row)
  print("\n".join(table(found)))
  print(f"seed {args.seed}, {time.monotonic() - start:.0f} s")
  for row in found:
    for text in row.failures[: args.show]:
      print(f"\n{text}")
    if more := row.failures[args.show :]:
      print(f"\n{row.name}: {len(more)} more failures; --show {args.show * 10}")
  sys.exit(any(row.failures for row in found))


def table(rows):
  """Returns the lines of the table."""
  heads = ["", "what came of it", "survived", "refused", "failed", "s"]
  return table_lib.lines([heads, *map(cells, rows)])


def cells(row):
  """Returns the texts of a row of the table."""
  notes = ", ".join(
    text if n == 1 and "->" in text else f"{n} {text}"
    for text, n in row.notes.items()
    if n
  )
  counts = row.survived, row.refused, len(row.failures), round(row.seconds)
  return [row.name, notes, *map(str, counts)]


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    only=dict(help=f"some of {','.join(ROWS)}"),
    seed=dict(type=int, default=0),
    tries=dict(type=int, help="of each row, instead of its own number"),
    show=dict(type=int, default=3, help="failures of a row that are printed"),
    short=dict(action="store_true", help="few tries, for tests"),
  )
