r"""Measures how fast images are decoded and resized, beside other ways.

python -m scripts.bench_data [--rounds 15]

Every way runs in a process of its own, in one thread, because who shares a
process shares warm memory. They take turns, on the same JPEGs of 500 x 400
pixels. Speeds are per second of the processor's time, so that it does not
count when a busy machine runs something else; what counts are the ratios,
medians over rounds. Then the same work in one and in two processes, by the
clock on the wall.
"""

import argparse
import contextlib
import functools
import io
import multiprocessing
import os
import statistics
import time

for name in ("OMP", "OPENBLAS", "MKL"):
  os.environ[f"{name}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402, after the number of threads
from PIL import Image  # noqa: E402
from sklearn import datasets  # noqa: E402

from pg import pp  # noqa: E402
from pg.pp import parse  # noqa: E402

SIZE, HEIGHT, WIDTH = 224, 400, 500
BV = f"decode | resize({SIZE})"
SPARSE = f"decode | resize({SIZE}, antialias=False)"
HF = f"decode(precise=True) | resize({SIZE}, flavour='hf')"


@functools.cache
def photos(num=16):
  """Returns JPEGs that are parts of scikit-learn's two photos.

  Half of them have colours at half the resolution and quality 90, as most
  photos have; the other half full colours and quality 95.
  """
  files = []
  for i in range(num):
    pixels = datasets.load_sample_images().images[i % 2]
    y, x = i * 27 // num, i * 140 // num  # the photos have 640 x 427 pixels
    pixels = Image.fromarray(pixels[y : y + HEIGHT, x : x + WIDTH])
    quality, subsampling = ((90, 2), (95, 0))[i // 2 % 2]
    f = io.BytesIO()
    pixels.save(f, "JPEG", quality=quality, subsampling=subsampling)
    files.append(f.getvalue())
  return files


def pipeline(string):
  build = parse.build(string)
  return lambda data: build({"image": data}, pp.Turn())["image"]


def pillow(data):
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def transformers(name):
  """Returns the preprocessing of a PaliGemma in transformers, in one thread."""
  import torch
  import transformers

  if name == "SiglipImageProcessor":
    import torchvision  # noqa: F401, without it the other one would be measured

  torch.set_num_threads(1)
  process = getattr(transformers, name)(size=dict(height=SIZE, width=SIZE))

  def function(data):
    opened = Image.open(io.BytesIO(data)).convert("RGB")
    return process(opened, return_tensors="np")["pixel_values"]

  return function


WAYS = {
  "Pillow, decode only": lambda: pillow,
  "pg, decode only": lambda: pipeline("decode"),
  "pg, bv": lambda: pipeline(BV),
  "pg, bv without antialias": lambda: pipeline(SPARSE),
  "pg, hf": lambda: pipeline(HF),
  "pg, random ways": lambda: pipeline(f"decode | random_resize({SIZE})"),
  "transformers, PIL": lambda: transformers("SiglipImageProcessorPil"),
  "transformers, torchvision": lambda: transformers("SiglipImageProcessor"),
}


@functools.cache
def way(name):
  return WAYS[name]()


def work(name, num=16):
  """Returns the processor's seconds of preprocessing `num` images."""
  function, files = way(name), photos()
  start = time.process_time()
  for i in range(num):
    function(files[i % len(files)])
  return time.process_time() - start


def rates(rounds):
  """Returns {name: [images per second in each round]}."""
  spawn = multiprocessing.get_context("spawn")
  found = {}
  with contextlib.ExitStack() as stack:
    pools = {name: stack.enter_context(spawn.Pool(1)) for name in WAYS}
    for name, pool in pools.items():
      try:
        pool.apply(work, (name, 32))  # fills caches
        found[name] = []
      except ImportError as e:
        print(f"{name} is not measured: {str(e).splitlines()[0]}")
    for _ in range(rounds):
      for name, values in found.items():
        values.append(32 / pools[name].apply(work, (name, 32)))
  return found


def ratio(found, name, other):
  """Returns the median over rounds of how much faster one is."""
  return statistics.median(a / b for a, b in zip(found[name], found[other]))


def scaling(rounds, num=400):
  """Returns how much faster two processes are than one, one per round."""
  found = []
  with multiprocessing.get_context("spawn").Pool(2) as pool:
    pool.starmap(work, [("pg, bv", 100)] * 2, 1)
    for _ in range(rounds):
      times = []
      for num_processes in (1, 2):
        start = time.perf_counter()
        share = ("pg, bv", num // num_processes)
        pool.starmap(work, [share] * num_processes, 1)
        times.append(time.perf_counter() - start)
      found.append(times[0] / times[1])
  return found


def main(args):
  files = photos()
  size = sum(map(len, files)) / len(files) / 1000
  print(f"{WIDTH} x {HEIGHT} JPEGs of {size:.0f} kB")
  found = rates(args.rounds)
  for name, values in found.items():
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:26} {middle:6.0f} images/s (from {low:.0f} to {high:.0f})")
  for name, other in (
    ("pg, bv", "Pillow, decode only"),
    ("pg, hf", "transformers, PIL"),
    ("pg, hf", "transformers, torchvision"),
  ):
    if other in found:
      print(f"{name} is {ratio(found, name, other):.2f} x {other}")
  values = scaling(max(args.rounds // 3, 1))
  print(
    f"two processes are {statistics.median(values):.2f} x one (from"
    f" {min(values):.2f} to {max(values):.2f}) on {os.cpu_count()} CPUs"
  )


if __name__ == "__main__":
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rounds", type=int, default=15, help="of each way")
  main(parser.parse_args())
