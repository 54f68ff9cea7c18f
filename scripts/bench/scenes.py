"""Measures how fast scenes of shapes are made, on the grid and free.

python -m scripts.bench scenes [--num 200]

Every task and the mixture of stage 1 (configs/stage1.py), at three resolutions,
with the pp that the stages have. Examples per second of one processor's time.
"""

import os

for name in ("OMP", "OPENBLAS", "MKL"):
  os.environ[f"{name}_NUM_THREADS"] = "1"

import time  # noqa: E402, after the number of threads

from pg import config, pp  # noqa: E402
from pg.data.synthetic import shapes  # noqa: E402
from pg.pp import parse  # noqa: E402

RES = (48, 96, 128)


def seconds(spec, build, num):
  """Returns the processor's seconds that an example takes."""
  names = ("task", "res", "free")
  source = shapes.Shapes(**{k: spec[k] for k in names if k in spec})
  for warm in (True, False):
    start = time.process_time()
    for i in range(20 if warm else num):
      build(source[num + i], pp.Turn())
  return (time.process_time() - start) / num


def main(args):
  for res in RES:
    for kind in ("grid", "free"):
      words = f"size=nano,scenes={kind},res={res}"
      c = config.load(f"configs/stage1.py:{words}")
      build = parse.build(c.pp)
      took = {k: seconds(dict(d), build, args.num) for k, d in c.data.items()}
      whole = sum(c.data[k].weight * s for k, s in took.items())
      tasks = ", ".join(f"{k} {1 / s:,.0f}" for k, s in took.items())
      print(f"{res} px, {kind}: {1 / whole:,.0f} examples/s ({tasks})")


FLAGS = dict(num=dict(type=int, default=200, help="examples of each task"))
