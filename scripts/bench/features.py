"""Measures what keeping a frozen image tower's features saves a step.

python -m scripts.bench features [--text-len 32]

Trains the model of `bench lengths`, its tower frozen, on images of which each
is another one. In turns: from pixels; features that are made and kept (the
first epoch of `input.cache_images`); and features that are read again from
memory and from files, with the time that reading takes.
"""

import functools
import itertools
import tempfile

import jax
import numpy as np

from pg import progress, sharding
from pg.data import cache, features
from pg.learn import tower
from pg.models import paligemma
from scripts import bench
from scripts.bench import lengths

FROZEN = (("img/(?!head/).*", None), (".*", "cosine"))


def main(args):
  progress.mute()
  rng, args.long = np.random.default_rng(0), 0.0
  found = lengths.batches(args, 0, lengths.MODEL, 224, 8)
  read = [rows for rows, _ in itertools.islice(found, args.steps)]
  for rows in read:
    rows["image"] = rng.integers(0, 256, rows["image"].shape, np.uint8)
  params = jax.jit(functools.partial(paligemma.init, lengths.MODEL))
  compute = tower.on_own_devices(
    lengths.MODEL, params(jax.random.key(0)), sharding.make_mesh(dict(fsdp=-1))
  )
  run = lengths.training(FROZEN)

  def rate(kept):
    batches = ((rows,) for rows in read)
    if kept:
      batches = features.embedded(batches, kept, compute, 4)
    return args.steps * 8 / bench.seconds(lambda: run(x for x, *_ in batches))

  new = lambda: features.Memory(cache.Budget(2**40))
  memory, (probe,) = new(), compute(read[0]["image"][0])
  with tempfile.TemporaryDirectory() as path:
    files = features.Folder(path, probe)
    jobs = {
      "pixels": lambda: rate(None),
      "made": lambda: rate(new()),
      "memory": lambda: rate(memory),
      "files": lambda: rate(files),
    }
    bench.in_turns(jobs, 1)  # compiles, and keeps
    found = bench.in_turns(jobs, args.rounds)
  bench.show(found, "examples/s", digits=1)
  for name in "made", "memory", "files":
    bench.show_ratio(found, name, "pixels")
  print(f"an image takes {probe.nbytes / 1e6:.2f} MB")


FLAGS = dict(
  text_len=dict(type=int, default=32, help="text positions"),
  steps=dict(type=int, default=8, help="per round"),
  rounds=dict(type=int, default=5),
)
