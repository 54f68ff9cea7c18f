"""Guesses answers without looking at the image: what a score is worth."""

import collections
import contextlib
import itertools

from pg.data import evaluation

# Training rows whose texts make the baseline.
NUM_TEXTS = 8192

# Stands after the last word, so that a whole prompt differs from the beginning
# of a longer one.
_END = object()


def fit(data, options):
  """Returns the Majority of the first texts of training.

  Args:
    data: tuple of pipeline.Dataset, those of training.
    options: options.Options.
  """
  texts = evaluation.train_texts(data, seed=0, options=options)
  with contextlib.closing(texts):
    return Majority(itertools.islice(texts, NUM_TEXTS))


class Majority:
  """Answers every prompt with the commonest answer that training gave to it.

  A prompt that training never had gets the commonest answer to the prompts that
  begin with the most of its words; where not even the first word is known, the
  commonest of all. Of equally common answers the alphabetically first wins, so
  the order of training does not matter.

    model = Majority([("how many dots?", "2"), ("how many dots?", "3"),
      ("how many dots?", "3"), ("what color?", "red")])
    model.predict(["how many dots?", "how many stars?", "why?"]) ==
      ["3", "3", "3"]
  """

  def __init__(self, pairs):
    """Learns from training pairs `(prefix, suffix)` of str.

    Raises:
      ValueError: there are none.
    """
    counts = collections.defaultdict(collections.Counter)
    for prefix, suffix in pairs:
      for words in _beginnings(prefix):
        counts[words][suffix] += 1
    if not counts:
      raise ValueError("a blind baseline needs at least one training example")
    self._answers = {words: _commonest(c) for words, c in counts.items()}

  def predict(self, prefixes):
    """Returns an answer, a str, for each prompt."""
    return [
      next(self._answers[w] for w in _beginnings(prefix) if w in self._answers)
      for prefix in prefixes
    ]


def _beginnings(prefix):
  """Yields a prompt's leading words as tuples, from all of them to none."""
  words = (*prefix.split(), _END)
  for count in range(len(words), -1, -1):
    yield words[:count]


def _commonest(counts):
  return min(counts, key=lambda suffix: (-counts[suffix], suffix))
