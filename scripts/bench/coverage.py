"""Measures how often a 95 % interval holds the truth.

python -m scripts.bench coverage [--sets 500] [--images 80,320,1000]
  [--classes 4,80,4=,0]

A made-up detector on made-up images: objects come in groups of a class, some
images are harder than others, scores follow the overlap but not closely. The
truth is the score of 400,000 such images. Then come sets of the size of an
evaluation, each with its intervals, by the functions that evaluations use.
With a = after the number of classes all detections are alike likely. Sets of 0
classes are answers: means and a quotient of what is right, of people that
agree, of a loss, of what a caption scores, of an overlap.

Prints a row for each kind of score: the share of the intervals that hold the
truth, of those above it, of those below it, and the share that they say
themselves. Classes are told apart by the number of images with an object.
"""

import numpy as np

from pg.evals import interval
from pg.evals.metrics import precision, statistics

FLAGS = dict(
  sets=dict(type=int, default=500, help="of images, each with its intervals"),
  images=dict(default="80,320,1000", help="of a set"),
  classes=dict(
    default="4,80,4=,0",
    help="of boxes; with = all of a score of 1; 0: answers instead of boxes",
  ),
)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
# Whether it is recall, and thresholds.
SCORES = {
  "AP": (0, slice(None)),
  "AP50": (0, slice(0, 1)),
  "AP75": (0, slice(5, 6)),
  "AR100": (1, slice(None)),
}
# Images with an object of a class: rows of the table.
GROUPS = ((1, 2), (3, 4), (5, 9), (10, 29), (30, 10**9))
POPULATION = 400_000


def detections(rng, images, classes, scored=True):
  """Returns a Curve for each class: what was found in made-up images."""
  share = 1 / np.arange(1, classes + 1) ** 0.7
  share /= share.sum()
  ease = np.linspace(-0.6, 0.6, classes)
  ease = np.random.default_rng(0).permutation(ease)
  groups = np.repeat(np.arange(images), rng.poisson(3.0, images))
  named = rng.choice(classes, size=len(groups), p=share)
  num = 1 + rng.poisson(1.0, len(groups))
  image, name = np.repeat(groups, num), np.repeat(named, num)
  of_image = rng.normal(0, 0.7, images)
  quality = ease[name] + of_image[image] + rng.normal(0, 1, len(name))
  rough = rng.normal(0, 0.7, len(name))
  overlap = 1 / (1 + np.exp(-1.2 - 0.8 * quality - rough))
  found = quality > -1
  # Wrong boxes: beside objects, and an image's one where nothing is.
  beside = rng.poisson(0.4, len(groups))
  alone = np.repeat(np.arange(images), rng.poisson(1.0, images))
  wrong = np.r_[np.repeat(groups, beside), alone]
  called = rng.choice(classes, size=len(alone), p=share)
  called = np.r_[np.repeat(named, beside), called]
  scores = [
    quality[found] + rng.normal(0, 1, found.sum()),
    rng.normal(-0.7, 1, len(wrong)) - 0.3 * of_image[wrong],
  ]
  where = np.r_[image[found], wrong]
  what = np.r_[name[found], called]
  overlap = np.r_[overlap[found], np.zeros(len(wrong))]
  key = -np.concatenate(scores) if scored else where
  order = np.argsort(key, kind="stable")
  where, what, overlap = where[order], what[order], overlap[order]
  curves = {}
  for one in range(classes):
    kept = what == one
    right = overlap[kept] >= THRESHOLDS[:, None]
    rank = np.zeros(kept.sum(), np.int64)
    curves[one] = precision.Curve(
      image[name == one], where[kept], rank, right, ~right
    )
  return curves


def averages(curve, times):
  """Returns precision and recall, f64[draws, 2, thresholds]; nan: no objects.

  What pg.evals.metrics.precision computes, of all draws at once: the mean over
  101 recalls is a sum over detections of how many recalls each is for.
  """
  num = times[:, curve.true].sum(1)
  found = np.zeros((len(times), 2, len(THRESHOLDS)))
  weight = times[:, curve.image].astype(np.float32)
  seen = np.cumsum(weight, axis=1) + 1e-9
  recalls = np.maximum(num, 1)[:, None].astype(np.float32)
  for i, row in enumerate(curve.right):
    right = np.cumsum(weight * row, axis=1)
    best = np.maximum.accumulate((right / seen)[:, ::-1], axis=1)[:, ::-1]
    until = np.floor(100 * right / recalls + 1e-3) + 1
    found[:, 0, i] = (best * np.diff(until, axis=1, prepend=0)).sum(1) / 101
    found[:, 1, i] = weight @ row / recalls[:, 0]
  return np.where(num[:, None, None] > 0, found, np.nan)


def _of_boxes(rng, images, classes, sets, scored):
  ones = np.ones((1, POPULATION), np.int64)
  curves = detections(rng, POPULATION, classes, scored).values()
  truth = np.array([averages(curve, ones)[0] for curve in curves])
  rows = {}
  for i in range(sets):
    curves = list(detections(rng, images, classes, scored).values())
    num = [len(np.unique(curve.true)) for curve in curves]
    curves = [curve if n else None for curve, n in zip(curves, num)]
    times = interval.halves(images, 100, i)
    times = np.concatenate([np.ones((1, images), np.int64), times])
    shown = [c for c in range(classes) if num[c]]
    each = np.stack([averages(curves[c], times) for c in shown], axis=1)
    support = float(np.mean([num[c] for c in shown]))
    for name, (kind, part) in SCORES.items():
      values = np.nanmean(each[:, :, kind, part], axis=(1, 2))
      one = _interval(values, images, support)
      rows.setdefault(name, []).append((one, truth[:, kind, part].mean()))
    for place, c in enumerate(shown):
      values = each[:, place, 0].mean(-1)
      low, high = next(g for g in GROUPS if g[0] <= num[c] <= g[1])
      text = f"{low} to {high}" if high < 10**9 else f"{low} or more"
      name = f"AP of a class in {text} images"
      one = _interval(values, num[c], None)
      rows.setdefault(name, []).append((one, truth[c, 0].mean()))
  return rows


def _interval(values, num, support):
  ends = interval.around(values[0], values[1:], num)
  level = interval.measured(num, support, 0.95)
  return interval.Interval(float(values[0]), *ends, num, level)


def answers(rng, num):
  """Returns Sums of made-up answers, and what their scores are in truth."""
  right = {f"right {p}": rng.random(num) < p for p in (0.5, 0.8, 0.95)}
  columns = {name: values.astype(float) for name, values in right.items()}
  columns["soft"] = rng.choice(
    [0, 0.3, 0.6, 0.9, 1], num, p=[0.3, *[0.1] * 3, 0.4]
  )
  columns["nll"] = rng.gamma(1, 2, num)
  columns["caption"] = rng.gamma(1.5, 0.7, num)
  columns["iou"] = np.where(rng.random(num) < 0.2, 0, rng.beta(5, 2, num))
  truth = {f"right {p}": p for p in (0.5, 0.8, 0.95)}
  truth |= {"soft": 0.58, "nll": 2.0, "caption": 1.05, "iou": 0.8 * 5 / 7}
  # Boxes found, of a quality, of the number that there are.
  there = 1 + rng.poisson(2.0, num)
  columns["found"] = rng.binomial(there, 0.6).astype(float)
  columns["there"] = there.astype(float)
  more = lambda m: {"quotient": m.pop("found") / m.pop("there")}
  return statistics.means(columns, more), truth | {"quotient": 0.6}


def _of_answers(rng, images, sets):
  rows = {}
  for i in range(sets):
    made, truth = answers(rng, images)
    for name, one in interval.bootstrap(made, seed=i).items():
      rows.setdefault(name, []).append((one, truth[name]))
  return rows


def main(args):
  heads = ["images", "classes", "score", "intervals", "hold the truth"]
  rows = [[*heads, "above it", "below it", "say", "width"]]
  print(" | ".join(rows[0]))
  for kind in args.classes.split(","):
    many, scored = int(kind.rstrip("=")), not kind.endswith("=")
    for size in map(int, args.images.split(",")):
      rng = np.random.default_rng((size, many))
      if many:
        found = _of_boxes(rng, size, many, args.sets, scored)
      else:
        found = _of_answers(rng, size, args.sets)
      for name in sorted(found):
        ones, truth = zip(*found[name])
        above = np.mean([one.low > t for one, t in zip(ones, truth)])
        below = np.mean([one.high < t for one, t in zip(ones, truth)])
        width = np.mean([one.high - one.low for one in ones])
        say = np.mean([one.level for one in ones])
        row = [size, kind, name, len(ones), f"{1 - above - below:.1%}"]
        row += [f"{above:.1%}", f"{below:.1%}", f"{say:.0%}", f"{width:.3f}"]
        print(" | ".join(map(str, row)), flush=True)
