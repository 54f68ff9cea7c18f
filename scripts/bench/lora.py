"""Measures a step that trains adapters beside one that trains all weights.

python -m scripts.bench lora [--batch-size 2] [--rank 8]

PaliGemma 3B with 4 layers in each tower, at its real widths, a vocabulary of
32,000 and 224 px, on random rows; both with Adam, in turns. It wants 16 GiB.
"""

import dataclasses
import functools

import jax
import numpy as np

from pg import config, sharding, train
from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import lora, paligemma, variants
from scripts import bench

NUM_LAYERS, VOCAB, TEXT_LEN = 4, 32_000, 32


def model():
  """Returns the paligemma.Config."""
  cfg = variants.from_config(dict(variant="pg1_3b", dtype="auto"), VOCAB)
  img, llm = (
    dataclasses.replace(x, depth=NUM_LAYERS) for x in (cfg.img, cfg.llm)
  )
  return dataclasses.replace(cfg, img=img, llm=llm)


def rows(cfg, batch_size):
  """Returns a batch of noise; half of each text is an answer."""
  rng = np.random.default_rng(0)
  shape = (batch_size, TEXT_LEN + 1)
  answer = np.arange(TEXT_LEN + 1) >= TEXT_LEN // 2
  side = cfg.img.res
  image = rng.integers(0, 256, (batch_size, 1, side, side, 3), np.uint8)
  return dict(
    image=image,
    mask_image=np.ones((batch_size, 1), bool),
    tokens=rng.integers(4, VOCAB, shape, np.int32),
    mask_input=np.ones(shape, bool),
    mask_ar=np.broadcast_to(answer, shape),
    mask_loss=np.broadcast_to(answer, shape),
    index=np.arange(batch_size, dtype=np.int32),
  )


def step_of(c, cfg, weights, batch):
  """Returns a function that takes a step and waits for it."""
  how = lora.from_config(c, weights)
  cfg = dataclasses.replace(cfg, lora=how)
  shapes = paligemma.shapes(cfg)
  tx = optim.make(c, shapes, total=1000, num_examples=1000)
  is_frozen = optim.frozen(shapes, c.schedule)
  params = jax.tree.map(np.copy, weights)
  if how:
    params[lora.ROOT] = lora.init(how, jax.random.key(0), params)
  state = jax.device_put(state_lib.of_params(params, tx))
  update = jax.jit(
    functools.partial(
      train.update,
      cfg=cfg,
      tx=tx,
      is_frozen=is_frozen,
      label_smoothing=0.0,
      seed=0,
    ),
    donate_argnums=0,
  )

  def step():
    nonlocal state
    state, measured = update(state, batch)
    jax.block_until_ready(measured)

  return step


def main(args):
  cfg = model()
  draw = functools.partial(paligemma.init, cfg)
  weights = jax.device_get(jax.jit(draw)(jax.random.key(0)))
  batch = rows(cfg, args.batch_size)
  found = {}
  with jax.set_mesh(sharding.make_mesh({}, devices=jax.devices()[:1])):
    jobs = {}
    for name, rank in dict(full=0, lora=args.rank).items():
      c = config.load(f"transfers/lora.py:lora={rank}")
      jobs[name] = step_of(c, cfg, weights, batch)
    timed = {
      k: functools.partial(bench.seconds, job) for k, job in jobs.items()
    }
    bench.in_turns(timed, 1)  # compiles
    found = bench.in_turns(timed, args.rounds)
  size = sum(x.size for x in jax.tree.leaves(weights))
  print(f"{size:,} parameters, batch {args.batch_size}, rank {args.rank}")
  bench.show(found, "s", digits=2)
  bench.show_ratio(found, "full", "lora")


FLAGS = dict(
  batch_size=dict(type=int, default=2),
  rank=dict(type=int, default=8),
  rounds=dict(type=int, default=5),
)
