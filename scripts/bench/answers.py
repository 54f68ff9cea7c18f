"""How long answers take: from a cold start, and of a loaded model.

python -m scripts.bench answers --tokenizer gemma.model [--variant pg1_3b]
python -m scripts.bench answers --run runs/nano

The first makes a Hugging Face folder of random bfloat16 weights (5.8 GB), and
asks it one short question about one image, by turns in bfloat16, in float32,
with weights of int8 and with transformers in bfloat16, each in a new process.
Its files are read once before, and as much memory as they all take is touched:
a virtual machine gives out memory that it has not used before many times
slower. The first round fills the cache of compiled programs, and does not
count.

The second asks a run: one process an image, and one for a folder of images.
"""

import collections
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

from pg import machine, table
from pg.models import variants
from scripts import bench
from scripts.bench import weights

PROMPT, NUM_TOKENS = "caption en", 9
THEIRS = "transformers"
OURS = dict(
  bfloat16=dict(dtype="bfloat16"),
  float32=dict(dtype="float32"),
  int8=dict(dtype="float32", quantize="int8"),
)
ROWS = dict(
  load="load",
  first="start to first answer",
  image="image",
  prefill="image + prefill",
  token="a token",
  overhead="second question, beside its programs",
)


def ours(folder, image, how):
  """Asks with pg; returns seconds by name."""
  import jax

  import pg

  start = time.monotonic()
  model = pg.load(folder, **how)
  jax.block_until_ready(model.params)
  found = dict(load=time.monotonic() - start)
  ask = lambda x, n: model.predict(x, PROMPT, max_len=n)
  ask(image, NUM_TOKENS)
  found["first"] = time.time()
  ask(image, 1)
  seen = model.see(image)
  programs, spent = vars(model.programs), []

  def timed(program):
    def run(*args, **options):
      result = []
      call = lambda: result.append(
        jax.block_until_ready(program(*args, **options))
      )
      spent.append(bench.seconds(call))
      return result[0]

    return run

  def overhead():
    spent.clear()
    for name, program in programs.items():
      programs[name] = timed(program)
    seconds = bench.seconds(lambda: ask(seen, NUM_TOKENS)) - sum(spent)
    programs.update(before)
    return seconds

  before = dict(programs)
  jobs = dict(
    image=lambda: jax.block_until_ready(model.see(image).tokens),
    prefill=lambda: ask(image, 1),
    tokens=lambda: ask(image, NUM_TOKENS),
  )
  return found | measured(jobs) | dict(overhead=overhead())


def theirs(folder, image):
  """Asks with transformers; returns seconds by name."""
  import torch
  import transformers

  start = time.monotonic()
  model = transformers.PaliGemmaForConditionalGeneration.from_pretrained(
    folder, dtype=torch.bfloat16
  ).eval()
  processor = transformers.AutoProcessor.from_pretrained(folder)
  found = dict(load=time.monotonic() - start)
  inputs = processor(
    text=f"<image>{PROMPT}", images=Image.open(image), return_tensors="pt"
  ).to(torch.bfloat16)

  def ask(num):
    how = dict(max_new_tokens=num, min_new_tokens=num, do_sample=False)
    return model.generate(**inputs, **how)

  with torch.no_grad():
    ask(NUM_TOKENS)
    found["first"] = time.time()
    pixels = inputs["pixel_values"]
    jobs = dict(
      image=lambda: model.get_image_features(pixels),
      prefill=lambda: ask(1),
      tokens=lambda: ask(NUM_TOKENS),
    )
    return found | measured(jobs)


def measured(jobs):
  """Returns medians of three turns of jobs; of `tokens` that of one token."""
  timed = {
    name: lambda job=job: bench.seconds(job) for name, job in jobs.items()
  }
  found = bench.in_turns(timed, 3)
  found = {name: statistics.median(values) for name, values in found.items()}
  token = (found.pop("tokens") - found["prefill"]) / (NUM_TOKENS - 1)
  return found | dict(token=token)


def ask_in_turns(folder, image, rounds, only):
  """Returns {who: {what: [seconds in each round]}}."""
  found = {}
  for number in range(rounds + 1):
    for who in only:
      me = [sys.executable, "-m", "scripts.bench", "answers"]
      start = time.time()
      done = subprocess.run(
        [*me, "--ask", who, folder, image],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
      )
      seconds = json.loads(done.stdout.splitlines()[-1])
      seconds["first"] -= start
      line = " ".join(f"{k} {v:.2f}" for k, v in seconds.items())
      print(f"  {who}: {line}{' (warms up)' * (not number)}", flush=True)
      if number:
        kept = found.setdefault(who, collections.defaultdict(list))
        for name, value in seconds.items():
          kept[name].append(value)
  return found


def show(found):
  """Prints medians, and of ours how many times theirs they are."""
  rows = [
    ["seconds", *found, *(f"{who} / {THEIRS}" for who in found if who in OURS)]
  ]
  for what, text in ROWS.items():
    middle = {
      who: statistics.median(values[what])
      for who, values in found.items()
      if what in values
    }
    cells = [f"{middle[who]:.3f}" if who in middle else "" for who in found]
    ratios = [
      f"{middle[who] / middle[THEIRS]:.2f}" if THEIRS in middle else ""
      for who in found
      if who in OURS
    ]
    rows.append([text, *cells, *ratios])
  print("\n".join(table.lines(rows, words=[0])))


def ask_random(args):
  """Makes random weights and asks them."""
  with tempfile.TemporaryDirectory(dir=args.folder) as made:
    folder, image = pathlib.Path(made) / "hf", pathlib.Path(made) / "image.png"
    weights.picture().save(image)
    if args.made:
      folder = pathlib.Path(args.made)
    else:
      weights.make(folder, args.variant, args.tokenizer)
    size = sum(file.stat().st_size for file in folder.iterdir())
    # As much as float32 takes, and more, if there is.
    room = min(2 * size + (2 << 30), 0.8 * machine.available_memory())
    np.ones(int(room), np.uint8)
    for file in folder.iterdir():
      with open(file, "rb") as f:
        while f.read(1 << 24):
          pass
    show(ask_in_turns(folder, image, args.rounds, args.only))


def ask_run(args):
  """Asks a run about images, a process for each and one for all."""
  with tempfile.TemporaryDirectory(dir=args.folder) as made:
    images = [os.path.join(made, f"{i}.png") for i in range(args.images)]
    for image in images:
      weights.picture().save(image)

    def ask(image):
      words = ["--checkpoint", args.run, "--image", image, "--prompt", PROMPT]
      me = [sys.executable, "-m", "pg.predict", *words]
      quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
      return bench.seconds(lambda: subprocess.run(me, check=True, **quiet))

    jobs = dict(one=lambda: ask(images[0]), folder=lambda: ask(made))
    for job in jobs.values():
      job()  # fills the cache of compiled programs
    found = bench.in_turns(jobs, args.rounds)
  bench.show(found, "s", digits=2)
  one, folder = (statistics.median(found[name]) for name in jobs)
  print(
    f"{len(images)} images in one process {len(images) * one / folder:.1f} x"
    f" as fast as in {len(images)}"
  )


def main(args):
  if args.ask:
    who, folder, image = args.ask
    ask = theirs if who == THEIRS else functools.partial(ours, how=OURS[who])
    found = ask(folder, image)
    print(json.dumps(found))
  elif args.run:
    ask_run(args)
  elif args.tokenizer or args.made:
    ask_random(args)
  else:
    raise ValueError("--tokenizer of random weights, or a --run")


FLAGS = dict(
  tokenizer=dict(help="SentencePiece file, Gemma's"),
  variant=dict(default="pg1_3b", choices=tuple(variants.VARIANTS)),
  made=dict(help="a folder of such weights, made before"),
  run=dict(help="a run to ask instead"),
  only=dict(
    nargs="+",
    choices=(*OURS, THEIRS),
    default=(*OURS, THEIRS),
    help="who is asked",
  ),
  rounds=dict(type=int, default=3, help="that count"),
  images=dict(type=int, default=32, help="in the folder that a run is asked"),
  folder=dict(help="where files go; default is the temporary folder"),
  ask=dict(nargs=3, help="only this step: who, folder and image"),
)
