r"""Measures how fast a large JSON-lines file opens.

python -m scripts.bench_lines [--lines 10000000]

Writes a file of short lines to the folder for temporary files, and deletes it.
Prints the seconds of opening it for the first time and again, the memory that
the process then has, and the first as a multiple of Python's loop over lines.
"""

import argparse
import os
import resource
import sys
import tempfile
import time

from pg.data.storage import lines

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


def seconds(function, *args):
  start = time.perf_counter()
  function(*args)
  return time.perf_counter() - start


def memory():
  """Returns the most memory that this process had, in MiB."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--lines", type=int, default=10_000_000)
  num = parser.parse_args().lines
  with tempfile.TemporaryDirectory() as folder:
    os.environ["PG_CACHE"] = folder
    path = os.path.join(folder, "train.jsonl")
    write(path, num)
    seconds(loop, path)  # so that the file is in memory for all of them
    before = memory()
    first = seconds(lines.Lines, path, _LIMIT)
    again = seconds(lines.Lines, path, _LIMIT)
    after, plain = memory(), seconds(loop, path)
    assert len(lines.Lines(path, _LIMIT)) == num
  print(f"{num} lines: first {first:.2f} s, again {again:.4f} s")
  print(f"first / Python's loop: {first / plain:.2f}")
  print(f"most memory: {after:.0f} MiB, before {before:.0f} MiB")


if __name__ == "__main__":
  main()
