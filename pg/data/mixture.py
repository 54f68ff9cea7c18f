"""Which row of which dataset stands at a position of training's stream.

A function of weights, seed and position alone, found without a table.
"""

import fractions
import math

ROUNDS = 6  # of the Feistel network
_64 = 2**64 - 1


class Mixture:
  """Shares a stream of positions out to datasets, exactly by their weights.

  After k positions a dataset of weight w among weights that sum to W has had
  k * w / W of them, up to fewer than one for each dataset of the mixture;
  where all of these are whole numbers, it has had exactly as many.
  """

  def __init__(self, weights):
    """Takes positive numbers; 0.35 means 35/100, not its nearest double."""
    exact = [fractions.Fraction(str(w)) for w in weights]
    unit = math.lcm(*(w.denominator for w in exact))
    self._shares = [int(w * unit) for w in exact]

  def __getitem__(self, k):
    """Returns the dataset's number at position k, and how many it had before.

    The first dataset gets its share of all positions, the second one of those
    that are left, and so on.
    """
    here, behind, left = k, k + 1, sum(self._shares)
    for number, share in enumerate(self._shares):
      before, after = -(-here * share // left), -(-behind * share // left)
      if after > before:
        return number, before
      here, behind, left = here - before, behind - after, left - share
    raise AssertionError("the last dataset takes all that is left")

  def counts(self, k):
    """Returns how many of the first k positions each dataset has."""
    left, counts = sum(self._shares), []
    for share in self._shares:
      counts.append(-(-k * share // left))
      k, left = k - counts[-1], left - share
    return counts


def shuffled(place, n, *key):
  """Returns place's row in the order of n rows that a key draws.

  A permutation without a table, so that millions of rows cost nothing: a
  Feistel network over the next power of four, walked until it lands inside.

  Args:
    place, n: int, 0 <= place < n.
    *key: ints.
  """
  seed = 0
  for part in key:
    seed = _mix(seed ^ part)
  half = max(1, (n - 1).bit_length() + 1 >> 1)
  mask = (1 << half) - 1
  while True:
    left, right = place >> half, place & mask
    for turn in range(ROUNDS):
      left, right = right, left ^ _mix(seed + turn ^ right << 8) & mask
    place = left << half | right
    if place < n:
      return place


def _mix(x):
  """Scatters 64 bits; the step of SplitMix64 (Steele et al., OOPSLA 2014)."""
  x = x + 0x9E3779B97F4A7C15 & _64
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _64
  x = (x ^ x >> 27) * 0x94D049BB133111EB & _64
  return x ^ x >> 31


def stride(n):
  """Returns the step that leads through all of n places, each far on.

  Who finds a place unusable looks this much further on, again and again: it
  meets every place once, and none that a neighbour is just using.
  """
  return next(
    s for s in range(max(1, round(0.618 * n)), n + 1) if math.gcd(s, n) == 1
  )
