"""Writes docs/fit.md: what training takes on each kind of chip.

  python -m scripts.fit_table --python .venv/bin/python --on v5e:16x16 v6e:8x8
  python -m scripts.fit_table --python /tmp/gpu/bin/python --on h200:8

Plans every row that docs/fit.jsonl does not have yet, one at a time, with the
given Python (libtpu and JAX for CUDA may be in different ones), and writes the
page anew after each: the same command goes on after a stop, or after an error,
which keeps no other row from being planned. To plan a row again remove its
line.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys

from pg import atomic

ROOT = pathlib.Path(__file__).parent.parent
PAGE, ROWS = ROOT / "docs/fit.md", ROOT / "docs/fit.jsonl"
CONFIG = "transfers/vqav2.py:res={}"
# Pixels -> examples on each chip.
EACH = {224: 8, 448: 4, 896: 1}
ONS = (
  *("v5e:16x16", "v4:4x4x4", "v5p:4x4x4", "v6e:8x8"),
  *("h200:8", "h100:8", "a100:8", "l4:8", "t4:8"),
)
MARK = "<!-- The table is written by scripts/fit_table.py. -->\n"


def plan(python, on, res, num_chips):
  """Returns the figures of a row, by `pg.fit` in a process of its own.

  None: it ended with an error, which it has printed.
  """
  words = [
    *(python, "-m", "pg.fit", "--json", "--on", on),
    *("--config", CONFIG.format(res)),
    f"--config.batch_size={EACH[res] * num_chips}",
  ]
  done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  if done.returncode:
    return None
  return dict(json.loads(done.stdout), res=res)


def size(on):
  """Returns how many chips a name of a Target has."""
  count = 1
  for side in on.partition(":")[2].split("x"):
    count *= int(side)
  return count


def read():
  """Returns {(on, res): figures} of what is there."""
  if not ROWS.exists():
    return {}
  found = map(json.loads, ROWS.read_text().splitlines())
  return {(x["on"], x["res"]): x for x in found}


def table(rows):
  """Returns the lines of the table, in the order of ONS and EACH."""
  lines = [
    "| chips | pixels | examples a chip | state | peak | it has | examples/s a"
    " chip, at most | collectives of a step |",
    "|---|--:|--:|--:|--:|--:|--:|---|",
  ]
  gib = lambda x: f"{x / 2**30:.2f}"
  for key in ((on, res) for on in ONS for res in EACH):
    if x := rows.get(key):
      state = gib(x["parameters"] + x["optimizer"])
      speed, moved = "", ""
      peak = gib(x["peak"]) if "peak" in x else "more"
      if x["fits"] and "examples_per_second" in x:
        speed = f"{x['examples_per_second'] / x['chips']:.2f}"
        moved = ", ".join(
          f"{kind} {gib(n)}" for kind, (_, n) in x["collectives"].items()
        )
      if "peak" in x and not x["fits"]:
        peak += " (does not fit)"
      cells = [*key, EACH[key[1]], state, peak, gib(x["has"]), speed, moved]
      lines.append(f"| {' | '.join(map(str, cells))} |")
  return "\n".join(lines) + "\n"


def write():
  before, _, _ = PAGE.read_text().partition(MARK)
  atomic.write(PAGE, f"{before}{MARK}\n{table(read())}".encode())


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--python", default=sys.executable, help="that plans")
  parser.add_argument("--on", nargs="+", default=ONS, help="chips")
  args = parser.parse_args()
  failed = []
  for on, res in itertools.product(args.on, EACH):
    if (on, res) in read():
      continue
    if found := plan(args.python, on, res, size(on)):
      atomic.append(ROWS, json.dumps(found).encode() + b"\n")
      write()
    else:
      failed.append(f"{on} at {res} px")
  write()
  if failed:
    sys.exit(f"error: not planned, see above: {', '.join(failed)}")


if __name__ == "__main__":
  main()
