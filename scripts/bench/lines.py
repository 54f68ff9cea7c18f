"""Measures how fast a large JSON-lines file opens.

python -m scripts.bench lines [--lines 10000000]

Writes a file of short lines to the folder for temporary files, and deletes it.
Prints the seconds of opening it for the first time and again, the memory that
the process then has, and the first as a multiple of Python's loop over lines.
"""

import functools
import os
import tempfile

from pg.data.formats import jsonl
from scripts import bench

_PIECE = 100_000  # lines that are written together
_LIMIT = 16 << 20


def write(path, num):
  with open(path, "w") as f:
    for start in range(0, num, _PIECE):
      f.writelines(
        f'{{"image": "{i}.jpg", "prefix": "caption en", "suffix": "a bus"}}\n'
        for i in range(start, min(start + _PIECE, num))
      )


def loop(path):
  """Returns how many lines are not blank."""
  with open(path, "rb") as f:
    return sum(1 for line in f if line.strip())


def main(args):
  num = args.lines
  with tempfile.TemporaryDirectory() as folder:
    os.environ["PG_CACHE"] = folder
    path = os.path.join(folder, "train.jsonl")
    write(path, num)
    read = functools.partial(jsonl.Lines, path, _LIMIT)
    loop(path)  # so that the file is in memory for all of them
    before = bench.peak_gib()
    first, again = bench.seconds(read), bench.seconds(read)
    after = bench.peak_gib()
    plain = bench.seconds(functools.partial(loop, path))
    assert len(read()) == num
  print(f"{num} lines: first {first:.2f} s, again {again:.4f} s")
  print(f"first / Python's loop: {first / plain:.2f}")
  print(f"most memory: {after:.3f} GiB, before {before:.3f} GiB")


FLAGS = dict(lines=dict(type=int, default=10_000_000))
