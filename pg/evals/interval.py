"""Confidence intervals of scores, and a permutation test of two models."""

import statistics as distributions
from typing import NamedTuple

import numpy as np

from pg.evals.metrics import statistics

# Intervals of average precision that are to hold the truth 95 times of 100 do
# so less often where a class has few images: (fewer than these, how often), of
# one class and of a mean over several, by the images of the mean class.
# Measured: python -m scripts.bench coverage, see docs/metrics.md.
_OF_ONE = ((3, 0.5),)
_OF_SEVERAL = ((5, 0.77), (14, 0.9))
# AP50 of several where no detection is likelier than another, of 20 classes.
_OF_TIED_50 = ((14, 0.83), (np.inf, 0.88))
# Of these nothing was measured: they have no interval.
UNMEASURED = {"APs", "APm", "APl", "AR1", "AR10", "ARs", "ARm", "ARl"}
UNMEASURED |= {"unparsable", "unknown"}

# Numbers that are held at a time, of a block of drawn examples.
_BLOCK = 1 << 22


class Interval(NamedTuple):
  """A score and its confidence interval."""

  value: float
  low: float
  high: float
  num: int  # examples that the score is about
  level: float = 0.95  # how often such an interval holds the truth


class Difference(NamedTuple):
  """How much better the second of two sets of scores is than the first."""

  mean: float
  low: float
  high: float
  p: float  # of a difference at least as large where neither is better
  num: int


def bootstrap(scores, *, resamples=None, level=0.95, seed=0):
  """Returns an Interval for each score of a metric.

  Of Sums it is the percentile bootstrap: examples (pairs, sentences: rows of
  `Sums.sums`) are drawn again with replacement and the scores computed from the
  new sums. That is exact for means, quotients and BLEU. For CIDEr the weights
  of n-grams stay those of the whole set: what a caption contributes is drawn,
  not what it contributes given other captions. Of average precision it is
  `around`, of the scores of random halves, where it was measured how often such
  intervals hold the truth. Scores that no example supports, nan, are left out;
  so are draws in which a score has no example.

  Args:
    scores: statistics.Sums or Resampled; a plain dict has no intervals.
    resamples: number of draws; None is 1000 of Sums, and of a Resampled, which
      takes a second per ten or so, 100.
    level: how often an interval is to hold the truth; an Interval's own is
      lower where less was measured, see `measured`.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    dict of Interval. One row gives an interval without width: it says nothing.

  Raises:
    ValueError: a summand that is not a finite number, or no rows.
  """
  if isinstance(scores, statistics.Resampled):
    return _of_halves(scores, resamples or 100, level, seed)
  if not isinstance(scores, statistics.Sums):
    return {}
  _check(scores.sums)
  draws = scores.finish(_draw(scores.sums, resamples or 1000, seed))
  found = {}
  for name, value in scores.items():
    kept = draws[name][np.isfinite(draws[name])]
    if np.isfinite(value) and kept.size:
      num = scores.num[name]
      low, high = np.quantile(kept, _tails(_expanded(level, num)))
      ends = float(value), float(low), float(high)
      found[name] = Interval(*ends, num, level)
  return found


def _of_halves(scores, resamples, level, seed):
  times = halves(scores.size, resamples, seed)
  drawn = [scores.finish(row) for row in times]
  found = {}
  for name, value in scores.items():
    if name in UNMEASURED:
      continue
    draws = np.array([half.get(name, np.nan) for half in drawn])
    num = scores.num[name]
    low, high = around(value, draws, num, level)
    tied_50 = scores.tied and name == "AP50"
    held = measured(num, scores.support.get(name), level, tied_50=tied_50)
    found[name] = Interval(value, low, high, num, held)
  return found


def measured(num, support, level, *, tied_50=False):
  """Returns how often an interval of `around` holds the truth.

  Args:
    num: of examples.
    support: statistics.Resampled.support; None: of one class.
    level: how often it is to.
    tied_50: of AP50 where no detection is likelier than another.
  """
  known = [(num, _OF_ONE)]
  if support is not None:
    known += [(support, _OF_SEVERAL), *[(support, _OF_TIED_50)] * tied_50]
  shares = [share for n, rows in known for most, share in rows if n < most]
  return min([level, *shares])


def halves(size, num, seed):
  """Returns random halves of examples, in pairs, i64[num, size]."""
  rng = np.random.default_rng(seed)
  if size < 2:
    return np.ones((num, size), np.int64)
  pairs = [rng.permutation(size) < size // 2 for _ in range((num + 1) // 2)]
  found = np.array([half for a in pairs for half in (a, ~a)])
  return found[:num].astype(np.int64)


def around(value, draws, num, level=0.95):
  """Returns the ends of an interval around a score that lies in 0..1.

  The score of a half, less that of all, varies as that of all less the truth.
  No example is there twice, unlike in a bootstrap: copies of an image agree
  with each other. Average precision, which has a maximum in it, is the larger
  the fewer objects there are, by about as much in halves as in all: that is
  taken off, and makes the interval wider, for it is only an estimate.

  Args:
    value: the score.
    draws: f64[draws], of random halves; those that are nan do not count.
    num: number of examples with something to find.
    level: how often the interval is to hold the truth.
  """
  apart = draws[np.isfinite(draws)] - value
  if not apart.size:
    return value, value
  width = _quantile(level, num) * np.sqrt(np.mean(apart**2))
  ends = value - apart.mean() + np.array([-width, width])
  low, high = np.clip(ends, 0, 1)
  return float(low), float(high)


def _expanded(level, num):
  """Returns the share of a bootstrap's draws that an interval has to hold.

  They vary less than the score does, by (num - 1) / num in variance, and as if
  that were known: of ten examples it is 98.3 % instead of 95 %.
  """
  wide = _quantile(level, num) * (num / max(num - 1, 1)) ** 0.5
  return 2 * distributions.NormalDist().cdf(wide) - 1


def _quantile(level, num):
  """Returns Student's of num - 1 degrees of freedom, by its expansion."""
  z = distributions.NormalDist().inv_cdf(0.5 + level / 2)
  more = max(num - 1, 1)
  first, second = z**3 + z, 5 * z**5 + 16 * z**3 + 3 * z
  return z + first / (4 * more) + second / (96 * more**2)


def _tails(level):
  return 0.5 - level / 2, 0.5 + level / 2


def _draw(sums, resamples, seed):
  """Returns sums over rows drawn with replacement, f64[resamples, columns].

  Equal rows are drawn together: how often each kind is drawn is multinomial,
  and of a hundred thousand answers that are right or wrong there are two kinds.
  """
  rng = np.random.default_rng(seed)
  kinds, counts = np.unique(sums, axis=0, return_counts=True)
  shares = counts / counts.sum()
  blocks = [
    rng.multinomial(len(sums), shares, size=size) @ kinds
    for size in _blocks(resamples, len(kinds))
  ]
  return np.concatenate(blocks)


def _exchange(sums, resamples, seed):
  """Returns sums over rows of which each has its halves exchanged, or not."""
  rng = np.random.default_rng((seed, 1))
  kinds, counts = np.unique(sums, axis=0, return_counts=True)
  change = np.roll(kinds, kinds.shape[1] // 2, axis=1) - kinds
  blocks = [
    rng.binomial(counts, 0.5, size=(size, len(kinds))) @ change
    for size in _blocks(resamples, len(kinds))
  ]
  return sums.sum(axis=0) + np.concatenate(blocks)


def _blocks(resamples, num_kinds):
  """Yields how many draws of so many kinds of rows are made at a time."""
  step = max(1, _BLOCK // num_kinds)
  for i in range(0, resamples, step):
    yield min(step, resamples - i)


def paired(before, after, *, resamples=1000, level=0.95, seed=0):
  """Compares the scores of two models on the same examples.

  The interval is the paired bootstrap's: examples are drawn with replacement,
  the same ones for both. p is that of approximate randomization: were both as
  good, each example's answers could as well have been exchanged.

  Args:
    before, after: statistics.Sums, row by row of the same examples.
    resamples, level, seed: as for `bootstrap`.

  Returns:
    {score: Difference}. Its p is two-sided and at least 1 / (resamples + 1).

  Raises:
    ValueError: other lengths, no examples, or a summand that is not a finite
      number.
  """
  if len(before.sums) != len(after.sums):
    raise ValueError(
      f"got {len(before.sums)} and {len(after.sums)} scores; wanted as many of"
      " both"
    )
  sums = np.concatenate([before.sums, after.sums], axis=1)
  _check(sums)

  def changes(sums):
    a, b = np.split(sums, 2, axis=-1)
    a, b = before.finish(a), after.finish(b)
    return {name: b[name] - a[name] for name in a}

  drawn = changes(_draw(sums, resamples, seed))
  exchanged = changes(_exchange(sums, resamples, seed))
  found = {}
  for name, mean in changes(sums.sum(axis=0)).items():
    spread = drawn[name][np.isfinite(drawn[name])]
    if np.isfinite(mean) and spread.size:
      low, high = np.quantile(spread, _tails(level))
      # Sums in another order differ by rounding: those count as equal.
      as_large = np.sum(np.abs(exchanged[name]) >= abs(mean) * (1 - 1e-9))
      p = (1 + as_large) / (1 + resamples)
      values = map(float, (mean, low, high, p))
      found[name] = Difference(*values, after.num[name])
  return found


def _check(values):
  bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
  if bad.size or not len(values):
    raise ValueError(
      f"{bad.size} of {len(values)} rows of scores have a number that is not"
      f" finite{f', the first is row {bad[0]}' if bad.size else ''}; wanted at"
      " least one row and finite numbers"
    )
