r"""Measures how fast captions and answers are scored.

python -m scripts.bench_metrics [--images 5000] [--rounds 3]

Prints seconds, and where pycocoevalcap and Java are installed the same of the
reference and the ratio of the two. All are measured in turns in one run, so
that a machine that is busy with something else slows all of them.
"""

import argparse
import importlib.util
import shutil
import statistics
import time

import numpy as np

from pg.evals import interval
from pg.evals import metrics as metrics_lib

# Words of captions, frequent ones first.
WORDS = """a on of the in with and is man to sitting an two at standing people
woman holding dog cat are street table train white black next red person
tennis its field it riding plate top ball her looking large small water's that
skateboard bus some group up front clock beach (left) U.S. can't T-shirt
half-eaten '90s 10 St. o'clock zebras giraffe refrigerator umbrella surfboard
motorcycle"""


def captions(n, seed):
  """Returns n captions of 8 to 14 words, every other with a full stop."""
  rng = np.random.default_rng(seed)
  words = np.array(WORDS.split())
  shares = 1 / np.arange(2, len(words) + 2)
  sizes = rng.integers(8, 15, size=n)
  drawn = rng.choice(words, size=sizes.sum(), p=shares / shares.sum())
  parts = np.split(drawn, np.cumsum(sizes)[:-1])
  return [" ".join(part) + "." * (i % 2) for i, part in enumerate(parts)]


def ours(predictions, examples):
  return metrics_lib.METRICS["cider"](predictions, examples)["cider"]


def reference(predictions, examples):
  """The same by pycocoevalcap, its tokenizer in Java."""
  from pycocoevalcap.cider.cider import Cider
  from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

  tokenizer = PTBTokenizer()
  truths = {
    i: [{"caption": text} for text in e["answers"]]
    for i, e in enumerate(examples)
  }
  said = {i: [{"caption": text}] for i, text in enumerate(predictions)}
  truths, said = tokenizer.tokenize(truths), tokenizer.tokenize(said)
  return Cider().compute_score(truths, said)[0]


def answers(n, seed):
  """Returns predictions and examples of ten answers each."""
  rng = np.random.default_rng(seed)
  known = np.array(
    [f"{a} {b}" for a in ("a", "two", "the", "") for b in WORDS.split()]
  )
  drawn = rng.choice(known, size=(n, 11))
  return list(map(str, drawn[:, 0])), [
    {"answers": list(map(str, row)), "answer_type": "other"}
    for row in drawn[:, 1:]
  ]


def measure(jobs, rounds):
  """Returns {name: median seconds} and {name: result}."""
  times, results = {name: [] for name in jobs}, {}
  for _ in range(rounds):
    for name, job in jobs.items():
      start = time.perf_counter()
      results[name] = job()
      times[name].append(time.perf_counter() - start)
  return {k: statistics.median(v) for k, v in times.items()}, results


def report(seconds, results, n):
  """Yields the lines of what was measured on n images and n questions."""
  yield "CIDEr-D", f"{seconds['cider']:.2f} s"
  if "reference" in seconds:
    yield "CIDEr-D, pycocoevalcap", f"{seconds['reference']:.2f} s"
    ratio = seconds["reference"] / seconds["cider"]
    yield "ratio", f"{ratio:.1f}"
    difference = results["reference"] - results["cider"]
    yield "difference of the scores", f"{difference:.1e}"
  yield "CIDEr-D, BLEU, ROUGE-L", f"{seconds['captions']:.2f} s"
  yield "1000 draws for intervals", f"{seconds['interval']:.2f} s"
  # Ten answers of people and that of the model.
  yield "VQA accuracy", f"{11 * n / seconds['vqav2']:,.0f} answers/s"


def main(n, rounds):
  predictions, texts = captions(n, 0), captions(5 * n, 1)
  examples = [{"answers": texts[5 * i : 5 * i + 5]} for i in range(n)]
  said, questions = answers(n, 2)
  made = metrics_lib.METRICS["captions"](predictions, examples)
  jobs = {
    "cider": lambda: ours(predictions, examples),
    "captions": lambda: metrics_lib.METRICS["captions"](predictions, examples),
    "vqav2": lambda: metrics_lib.METRICS["vqav2"](said, questions),
    "interval": lambda: interval.bootstrap(made),
  }
  if importlib.util.find_spec("pycocoevalcap") and shutil.which("java"):
    jobs["reference"] = lambda: reference(predictions, examples)
  seconds, results = measure(jobs, rounds)
  print(f"{n} images of 5 references, median of {rounds} rounds")
  for name, value in report(seconds, results, n):
    print(f"{name:25} {value:>18}")


if __name__ == "__main__":
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--images", type=int, default=5000)
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args()
  main(args.images, args.rounds)
