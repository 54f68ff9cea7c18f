"""Measures what padding a batch no further than it needs saves.

python -m scripts.bench lengths [--text-len 128] [--long 0.02]

Trains a model of PaliGemma's proportions at 224 px (256 image tokens; an eighth
of its widths, a ninth of its layers) on short answers, and a share of texts of
any length up to text_len. Three runs over the same rows take turns: all padded
to text_len, as by length_window = 0; no further than a batch needs (1); and
rows of 8 batches sorted by length as well (8). Then, with nothing run for it:
how many fewer operations the steps of the 3B model would be, batch 64.
"""

import functools
import itertools

import jax
import numpy as np

from pg import config, progress, sharding, train
from pg.data import lengths, pipeline, prefix_lm, stream
from pg.learn import optim
from pg.learn import state as state_lib
from pg.models import flops, gemma, paligemma, siglip, variants
from pg.pp import parse
from scripts import bench

WINDOWS = dict(padded=0, fitted=1, sorted=8)
MODEL = paligemma.Config(
  siglip.Config(width=144, depth=3, mlp_dim=538, num_heads=2),
  gemma.Config(width=256, depth=2, mlp_dim=2048, num_heads=1, vocab_size=8192),
)


class Letters:
  """A tokenizer whose tokens are letters."""

  bos, eos, pad, sep = 2, 1, 0, [3]

  def encode(self, text):
    return [ord(letter) for letter in text]


class Texts:
  """Rows with black images, most of them with short texts.

  Of ten short ones eight are a question of 5 to 14 tokens and an answer of 1 to
  3, two a caption of 8 to 20.
  """

  def __init__(self, res, text_len, share):
    self._image = np.zeros((res, res, 3), np.uint8)
    self._text_len, self._share = text_len, share

  def __len__(self):
    return 1_000_000

  def __getitem__(self, i):
    rng = np.random.default_rng(i)
    asked, said = 2, rng.integers(8, 21)
    if rng.random() < self._share:
      said = rng.integers(1, self._text_len - asked - 1)
    elif rng.random() < 0.8:
      asked, said = rng.integers(5, 15), rng.integers(1, 4)
    return {"image": self._image, "prefix": "q" * asked, "suffix": "a" * said}

  def where(self, i):
    return f"row {i}"


def batches(args, window, cfg, res, batch_size):
  """Returns the endless batches of a run of a model with these lengths."""
  source = Texts(res, args.text_len, args.long)
  data = (pipeline.Dataset("texts", source, parse.build("decode"), 1, "{}"),)
  form = prefix_lm.Form(Letters(), res, 1, args.text_len)
  text_lens = lengths.worthwhile(args.text_len, cost(cfg)) if window else ()
  how = dict(text_lens=text_lens, window=max(1, window))
  return stream.train_batches(data, form, 0, batch_size, **how)


def cost(cfg):
  """Returns the function from text positions to an example's operations."""
  return lambda n: flops.training(flops.per_example(cfg, n)).total


def training(schedule=((".*", "cosine"),)):
  """Returns a function that trains on batches of this process."""
  c = config.load("configs/nano.py")
  shapes, mesh = paligemma.shapes(MODEL), sharding.make_mesh(c.mesh)
  tx = optim.make(c, shapes, 1000)
  update = functools.partial(
    train.update,
    cfg=MODEL,
    tx=tx,
    is_frozen=optim.frozen(shapes, schedule),
    label_smoothing=0.0,
    seed=0,
  )
  update = jax.jit(update, donate_argnums=0)
  params = jax.jit(functools.partial(paligemma.init, MODEL))(jax.random.key(0))
  state = state_lib.of_params(params, tx)

  def run(read):
    nonlocal state
    for rows in read:
      state, _ = update(state, stream.put(rows, mesh))
    jax.block_until_ready(state)

  return run


def main(args):
  progress.mute()
  run, seen, jobs = training(), {}, {}

  def job(name, found):
    read = [rows for rows, _ in itertools.islice(found, args.steps)]
    for rows in read:
      size = rows["tokens"].shape[1] - 1
      if size not in seen:  # compiles, whichever round that is
        run([rows])
      seen.setdefault(size, set()).add(name)
    return args.steps * 8 / bench.seconds(lambda: run(read))

  for name, window in WINDOWS.items():
    found = batches(args, window, MODEL, 224, 8)
    jobs[name] = functools.partial(job, name, found)
  bench.in_turns(jobs, 1)  # compiles
  found = bench.in_turns(jobs, args.rounds)
  bench.show(found, "examples/s", digits=1)
  for name in "fitted", "sorted":
    bench.show_ratio(found, name, "padded")
    sizes = sorted(size for size, names in seen.items() if name in names)
    print(f"{name}: {len(sizes)} programs, for {sizes} text positions")
  cfg, spent = variants.VARIANTS["pg1_3b"], {}
  for name, window in WINDOWS.items():
    read = itertools.islice(batches(args, window, cfg, 14, 64), 64)
    sizes = [rows["tokens"].shape[1] - 1 for rows, _ in read]
    spent[name] = sum(map(cost(cfg), sizes))
  for name in "fitted", "sorted":
    ratio = spent["padded"] / spent[name]
    print(f"of pg1_3b, batch 64: {ratio:.2f} x fewer operations {name}")


FLAGS = dict(
  text_len=dict(type=int, default=128, help="text positions"),
  long=dict(type=float, default=0.02, help="share of texts of any length"),
  steps=dict(type=int, default=8, help="per round, a multiple of 8"),
  rounds=dict(type=int, default=5),
)
