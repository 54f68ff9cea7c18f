"""Measures how fast images are decoded and resized, beside other ways.

python -m scripts.bench data [--rounds 15]

Every way runs in a process of its own, in one thread, because who shares a
process shares warm memory. They take turns, on the same JPEGs of 500 x 400
pixels. Speeds are per second of the processor's time, so that it does not
count when a busy machine runs something else; what counts are the ratios,
medians over rounds. Then the same work in one and in two processes, by the
clock on the wall.
"""

import contextlib
import functools
import io
import multiprocessing
import os
import time

for name in ("OMP", "OPENBLAS", "MKL"):
  os.environ[f"{name}_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402, after the number of threads
from PIL import Image  # noqa: E402
from sklearn import datasets  # noqa: E402

from pg import pp  # noqa: E402
from pg.pp import parse  # noqa: E402
from scripts import bench  # noqa: E402

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


def speed(name, pool, num=32):
  """Returns the images per second that a process preprocesses."""
  return num / pool.apply(work, (name, num))


def rates(rounds):
  """Returns {name: [images per second in each round]}."""
  spawn = multiprocessing.get_context("spawn")
  with contextlib.ExitStack() as stack:
    jobs = {}
    for name in WAYS:
      pool = stack.enter_context(spawn.Pool(1))
      try:
        speed(name, pool)  # fills caches
        jobs[name] = functools.partial(speed, name, pool)
      except ImportError as e:
        print(f"{name} is not measured: {str(e).splitlines()[0]}")
    return bench.in_turns(jobs, rounds)


def scaling(rounds, num=400):
  """Returns {name: [images per second]} of one and of two processes."""
  with multiprocessing.get_context("spawn").Pool(2) as pool:

    def job(num_processes):
      share = ("pg, bv", num // num_processes)
      work_all = functools.partial(
        pool.starmap, work, [share] * num_processes, 1
      )
      return num / bench.seconds(work_all)

    pool.starmap(work, [("pg, bv", 100)] * 2, 1)
    names = {"one process": 1, "two processes": 2}
    jobs = {name: functools.partial(job, n) for name, n in names.items()}
    return bench.in_turns(jobs, rounds)


def main(args):
  size = sum(map(len, photos())) / len(photos()) / 1000
  print(f"{WIDTH} x {HEIGHT} JPEGs of {size:.0f} kB")
  found = rates(args.rounds)
  bench.show(found, "images/s of the processor's time")
  for name, other in (
    ("pg, bv", "Pillow, decode only"),
    ("pg, hf", "transformers, PIL"),
    ("pg, hf", "transformers, torchvision"),
  ):
    if other in found:
      bench.show_ratio(found, name, other)
  found = scaling(max(args.rounds // 3, 1))
  bench.show(found, f"images/s on {os.cpu_count()} CPUs")
  bench.show_ratio(found, "two processes", "one process")


FLAGS = dict(
  rounds=dict(type=int, default=15, help="of each way"),
)
