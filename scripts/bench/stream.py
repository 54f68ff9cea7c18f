"""Measures what the stream of batches costs beside reading its rows.

python -m scripts.bench stream [--rounds 5]

First, in a new process: a mixture of ten million rows is opened, shuffled and
read from step 1,000,000 on. Then, in turns in one run: steps that take their
batch to the device themselves, and steps for which a thread has done that while
the step before was running; a step only waits, as for an accelerator.
"""

import functools
import multiprocessing
import time

import jax
import numpy as np

from pg import sharding
from pg.codecs import tokenizer
from pg.data import options, pipeline, prefix_lm, stream
from pg.pp import parse
from scripts import bench

SIZES = (5_000_000, 3_000_000, 1_500_000, 500_000)
RES, BATCH, STEP, JUMP = 224, 64, 0.05, 1_000_000


class Blank:
  """Rows that cost next to nothing."""

  def __init__(self, size, res):
    self._size = size
    self._image = np.zeros((res, res, 3), np.uint8)

  def __len__(self):
    return self._size

  def __getitem__(self, i):
    return {"image": self._image, "prefix": "say", "suffix": str(i)}

  def where(self, i):
    return f"row {i}"


def data(sizes, res):
  ops = parse.build("decode")
  return tuple(
    pipeline.Dataset(f"{n}", Blank(n, res), ops, n, "{}") for n in sizes
  )


def form(res):
  tok = tokenizer.Tokenizer(tokenizer.NANO)
  return prefix_lm.Form(tok, res, num_images=1, text_len=16)


def jump():
  """Returns seconds to the first batch after the jump, and peak memory."""
  start = time.perf_counter()
  batches = stream.train_batches(
    data(SIZES, 8), form(8), 0, BATCH, start=JUMP * BATCH
  )
  next(batches)
  seconds = time.perf_counter() - start
  batches.close()
  return seconds, bench.peak_gib()


def wait(x):
  time.sleep(STEP)
  return np.float32(0)


@jax.jit
def step(state, batch):
  """Needs the batch, and waits as for an accelerator."""
  pixel = batch["image"][0, 0, 0, 0, 0]
  scalar = jax.ShapeDtypeStruct((), np.float32)
  return jax.pure_callback(wait, scalar, state + pixel)


def steps_per_second(ahead, mesh, num=20):
  """Returns how many steps a second are made of batches of photos' size.

  Like training, it looks at a step when the next one has been dispatched.
  """
  batches = stream.train_batches(
    data((1000,), RES),
    form(RES),
    0,
    BATCH,
    options=options.Options(num_threads=2),
  )
  items = stream.on_devices(batches, mesh) if ahead else batches
  start, state = None, np.float32(0)
  for i, item in enumerate(items):
    batch = item[-1] if ahead else stream.put(item[0], mesh)
    before, state = state, step(state, batch)
    jax.block_until_ready(before)
    if i == 2:  # the first ones fill the buffers
      start = time.perf_counter()
    if i == 2 + num:
      break
  seconds = time.perf_counter() - start
  items.close()
  jax.block_until_ready(state)  # its callback must not meet the end of Python
  return num / seconds


def main(args):
  with multiprocessing.get_context("spawn").Pool(1) as pool:
    seconds, peak = pool.apply(jump)
  print(
    f"a mixture of {sum(SIZES):,} rows gives the batch of step {JUMP:,} after"
    f" {seconds:.2f} s, with {peak:.2f} GiB in use at most"
  )
  mesh = sharding.make_mesh(dict(fsdp=-1))
  jobs = {
    name: functools.partial(steps_per_second, ahead, mesh)
    for name, ahead in (("in turn", False), ("one batch ahead", True))
  }
  found = bench.in_turns(jobs, args.rounds)
  bench.show(found, f"steps/s of {1 / STEP:.0f}", digits=1)
  bench.show_ratio(found, "one batch ahead", "in turn")


FLAGS = dict(rounds=dict(type=int, default=5))
