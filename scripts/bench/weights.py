"""Converts a random PaliGemma 3B at its real size, and asks it.

python -m scripts.bench weights --tokenizer gemma.model [--variant pg1_3b]

Makes a Hugging Face folder of random bfloat16 weights (5.8 GB), converts it to
npz and to a checkpoint of ours and back, compares bits, and lets `pg.predict`
answer a prompt from it. Each step is a process of its own; its time and its
peak memory are printed with the command. The folder, four times the weights, is
deleted at the end. How fast answers are is measured by the benchmark `answers`.
"""

import filecmp
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from pg.models import variants
from pg.pp import flavours
from pg.weights import hf, hf_config, hf_tokenizer, tensors
from scripts import bench

PROMPT, NUM_TOKENS = "caption en", 16


def make(folder, variant, tokenizer):
  """Writes a folder of random weights, a layer at a time."""
  cfg = variants.VARIANTS[variant]
  rng = np.random.default_rng(0)
  bf16 = tensors.dtype("bfloat16")
  specs = tensors.cast(tensors.shapes(cfg), bf16)

  def draw(name, layer):
    shape = specs[name].shape[layer is not None :]
    if name.endswith(("/scale", "/bias")):
      return np.zeros(shape, bf16)
    out = np.empty(shape, bf16)
    for row in out:  # the embedding has a million times this
      row[...] = rng.standard_normal(row.shape, np.float32)
      row *= bf16.type(0.02)
    return out

  os.mkdir(folder)
  raw = hf_config.raw_of(cfg)
  hf.write(folder, raw, specs, draw)
  hf.write_processor(folder, cfg.img, flavours.named("hf", cfg.img.res))
  hf_tokenizer.write(folder, tokenizer)


def picture():
  """Returns an image of noise."""
  draw = np.random.default_rng(0).integers
  return Image.fromarray(draw(0, 256, (240, 320, 3), np.uint8))


def step(name, *words):
  """Runs a process to its end and prints its time and peak memory."""
  start = time.monotonic()
  process = subprocess.Popen(
    [sys.executable, "-m", *map(str, words)],
    stdout=subprocess.PIPE,
    text=True,
  )
  said = process.stdout.read().strip().splitlines()
  _, status, usage = os.wait4(process.pid, 0)
  seconds, peak = time.monotonic() - start, bench.peak_gib(usage)
  if status:
    raise ValueError(f"{name} failed, see above")
  print(f"{name:24} {seconds:7.1f} s {peak:6.2f} GiB  python -m", *words)
  for line in said[-2:]:
    print(f"{'':24} {line[:100]}")
  sys.stdout.flush()


def run_all(args):
  specs = tensors.shapes(variants.VARIANTS[args.variant])
  largest = max(
    np.prod(x.shape[tensors.is_stacked(name) :]) for name, x in specs.items()
  )
  print(
    f"{2 * sum(np.prod(x.shape) for x in specs.values()) / 1e9:.2f} GB; bound"
    f" of conversions: {2 * 2 * largest / 2**30 + 1:.2f} GiB"
  )
  with tempfile.TemporaryDirectory(dir=args.folder) as made:
    folder = pathlib.Path(made)
    a, b, run, npz = (folder / x for x in ("hf", "hf_again", "run", "a.npz"))
    picture().save(folder / "image.png")
    me = ("scripts.bench", "weights", "--variant", args.variant)
    step("make", *me, "--tokenizer", args.tokenizer, "--make", a)
    step("hf -> npz, compared", "pg.convert", a, npz, "--to", "npz", "--check")
    step("npz -> hf", "pg.convert", npz, b, "--to", "hf")
    same(a, b)
    subprocess.run(["rm", "-r", b], check=True)
    step("npz -> ours", "pg.convert", npz, run, "--to", "orbax")
    npz.unlink()
    step("ours -> hf", "pg.convert", run, b, "--to", "hf")
    same(a, b)
    subprocess.run(["rm", "-r", b], check=True)
    ask = ("--image", folder / "image.png", "--prompt", PROMPT)
    ask += ("--max-len", NUM_TOKENS)
    for dtype in ("float32", "bfloat16"):
      words = ("pg.predict", "--checkpoint", a, *ask, "--dtype", dtype)
      step(f"answer, {dtype}", *words)
    step("answer, from ours", "pg.predict", "--checkpoint", run, *ask)


def same(a, b):
  """Raises ValueError unless two folders hold the same bytes."""
  names = sorted(p.name for p in a.iterdir())
  _, wrong, lost = filecmp.cmpfiles(a, b, names, shallow=False)
  if wrong or lost:
    raise ValueError(
      f"not the same after conversion there and back: {wrong + lost}"
    )
  print(f"{'':24} {len(names)} files, bit for bit the same")


def main(args):
  """Runs the step that is asked for, or all of them."""
  if args.make:
    make(args.make, args.variant, args.tokenizer)
  else:
    run_all(args)


FLAGS = dict(
  tokenizer=dict(help="SentencePiece file, Gemma's"),
  variant=dict(default="pg1_3b", choices=tuple(variants.VARIANTS)),
  folder=dict(help="where the files go; default is the temporary folder"),
  make=dict(help="only this step: folder to make"),
)
