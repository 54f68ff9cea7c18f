"""Measures how fast captions and answers are scored.

python -m scripts.bench metrics [--images 5000] [--rounds 3]

Prints seconds, and where pycocoevalcap and Java are installed the same of the
reference and the ratio of the two. All are measured in turns in one run, so
that a machine that is busy with something else slows all of them.
"""

import functools
import importlib.util
import shutil

import numpy as np

from pg.evals import interval
from pg.evals import metrics as metrics_lib
from scripts import bench

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


def main(args):
  n, metrics = args.images, metrics_lib.METRICS
  predictions, texts = captions(n, 0), captions(5 * n, 1)
  examples = [{"answers": texts[5 * i : 5 * i + 5]} for i in range(n)]
  said, questions = answers(n, 2)
  made = metrics["captions"](predictions, examples)
  jobs = {
    "CIDEr-D": lambda: metrics["cider"](predictions, examples),
    "CIDEr-D, BLEU, ROUGE-L": lambda: metrics["captions"](
      predictions, examples
    ),
    "VQA accuracy": lambda: metrics["vqav2"](said, questions),
    "1000 draws for intervals": lambda: interval.bootstrap(made),
  }
  if importlib.util.find_spec("pycocoevalcap") and shutil.which("java"):
    jobs["pycocoevalcap"] = lambda: reference(predictions, examples)
    want = reference(predictions, examples)
    wrong = metrics["cider"](predictions, examples)["cider"] - want
    print(f"difference of CIDEr-D from pycocoevalcap's: {wrong:.1e}")
  jobs = {k: functools.partial(bench.seconds, v) for k, v in jobs.items()}
  found = bench.in_turns(jobs, args.rounds)
  print(f"{n} images of 5 references, {n} questions")
  bench.show(found, "s", digits=2)
  # Ten answers of people and that of the model.
  rates = [11 * n / s for s in found["VQA accuracy"]]
  bench.show({"VQA accuracy": rates}, "answers/s")
  if "pycocoevalcap" in found:
    bench.show_ratio(found, "pycocoevalcap", "CIDEr-D")


FLAGS = dict(
  images=dict(type=int, default=5000),
  rounds=dict(type=int, default=3),
)
