"""Bootstrap confidence intervals, and a permutation test of two models."""

from typing import NamedTuple

import numpy as np

from pg.evals.metrics import statistics

# Numbers that are held at a time, of a block of drawn examples.
_BLOCK = 1 << 22


class Interval(NamedTuple):
  """A score and its confidence interval."""

  value: float
  low: float
  high: float
  num: int  # examples that the score is about


class Difference(NamedTuple):
  """How much better the second of two sets of scores is than the first."""

  mean: float
  low: float
  high: float
  p: float  # of a difference at least as large where neither is better
  num: int


def bootstrap(scores, *, resamples=None, level=0.95, seed=0):
  """Returns an Interval for each score of a metric: percentile bootstrap.

  Examples (pairs, sentences: rows of `Sums.sums`) are drawn again with
  replacement and the scores computed from the new sums. That is exact for
  means, quotients and BLEU. For CIDEr the weights of n-grams stay those of the
  whole set: what a caption contributes is drawn, not what it contributes given
  other captions. Average precision is computed anew of every draw. Scores that
  no example supports, nan, are left out; so are draws in which a score has no
  example.

  Args:
    scores: statistics.Sums or Resampled; a plain dict has no intervals.
    resamples: number of draws; None is 1000 of Sums, and of a Resampled, which
      takes a second per ten or so, 100.
    level: share of the draws that an interval holds.
    seed: of the draws; the same seed gives the same interval.

  Returns:
    dict of Interval. One row gives an interval without width: it says nothing.

  Raises:
    ValueError: a summand that is not a finite number, or no rows.
  """
  if isinstance(scores, statistics.Resampled):
    draws = _finish_each(scores, resamples or 100, seed)
  elif isinstance(scores, statistics.Sums):
    _check(scores.sums)
    draws = scores.finish(_draw(scores.sums, resamples or 1000, seed))
  else:
    return {}
  found = {}
  for name, value in scores.items():
    kept = draws[name][np.isfinite(draws[name])]
    if np.isfinite(value) and kept.size:
      low, high = np.quantile(kept, _tails(level))
      ends = float(value), float(low), float(high)
      found[name] = Interval(*ends, scores.num[name])
  return found


def _finish_each(scores, resamples, seed):
  """Returns the scores of draws, dict of f64[resamples]; nan: has none.

  They are moved so that their mean is the score: copies of an image agree with
  each other, and average precision, which has a maximum in it, is larger.
  """
  rng, size = np.random.default_rng(seed), scores.size
  times = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
  found = [scores.finish(row) for row in times]
  draws = {}
  for name, score in scores.items():
    values = np.array([f.get(name, np.nan) for f in found])
    kept = values[np.isfinite(values)]
    bias = kept.mean() - score if kept.size else 0.0
    draws[name] = np.clip(values - bias, 0, 1)
  return draws


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
  step = max(1, _BLOCK // len(kinds))
  blocks = [
    rng.multinomial(len(sums), shares, size=min(step, resamples - i)) @ kinds
    for i in range(0, resamples, step)
  ]
  return np.concatenate(blocks)


def paired(before, after, *, resamples=10_000, level=0.95, seed=0):
  """Compares the scores of two models on the same examples.

  Sign-flipping permutation test of the mean difference: were both as good, each
  example's difference could as well have had the other sign.

  Args:
    before, after: sequences of float, the scores of the same examples.
    resamples, level, seed: as for `bootstrap`.

  Returns:
    Difference. Its p is two-sided and at least 1 / (resamples + 1).

  Raises:
    ValueError: other lengths, no examples, or a score that is not a finite
      number.
  """
  if len(before) != len(after) or not len(before):
    raise ValueError(
      f"got {len(before)} and {len(after)} scores; wanted as many of both, and"
      " at least one"
    )
  num, differences = len(before), np.subtract(after, before)[:, None]
  _check(differences)
  mean = float(differences.mean())
  draws = _draw(differences, resamples, seed) / num
  low, high = np.quantile(draws, _tails(level))
  rng = np.random.default_rng((seed, 1))
  sizes, counts = np.unique(np.abs(differences), return_counts=True)
  step = max(1, _BLOCK // len(sizes))
  as_large = 0
  for i in range(0, resamples, step):
    # Of n differences of a size, this many more are positive than negative.
    shape = min(step, resamples - i), len(sizes)
    signs = 2 * rng.binomial(counts, 0.5, size=shape) - counts
    # Sums in another order differ by rounding: those count as equal.
    bound = abs(mean) * num * (1 - 1e-12)
    as_large += int(np.sum(np.abs(signs @ sizes) >= bound))
  p = (1 + as_large) / (1 + resamples)
  return Difference(mean, float(low), float(high), p, num)


def _check(values):
  bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
  if bad.size or not len(values):
    raise ValueError(
      f"{bad.size} of {len(values)} rows of scores have a number that is not"
      f" finite{f', the first is row {bad[0]}' if bad.size else ''}; wanted at"
      " least one row and finite numbers"
    )
