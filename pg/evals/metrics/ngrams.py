"""Runs of words: counts of n-grams and the longest common subsequence."""

import numpy as np


def count(texts, orders):
  """Yields, for n from 1 to `orders`, the n-grams of all texts with counts.

  Args:
    texts: list of lists of str.
    orders: int.

  Yields:
    text, gram, times: i64[M] each, sorted by text and then gram: text number
    `text` has the n-gram number `gram` that many times.
  """
  numbers = {}
  words = np.array(
    [numbers.setdefault(w, len(numbers)) for words in texts for w in words],
    np.int64,
  )
  text = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
  gram = words
  for n in range(1, orders + 1):
    if n > 1:
      # An n-gram is one of n - 1 and the word behind it.
      keys = gram[: len(gram) - 1] * len(numbers) + words[n - 1 :]
      gram = np.unique(keys, return_inverse=True)[1]
    inside = text[: len(gram)] == text[n - 1 :]  # not across two texts
    yield _counted(text[: len(gram)][inside], gram[inside])


def _counted(text, gram):
  size = gram.max(initial=0) + 1
  pairs, times = np.unique(text * size + gram, return_counts=True)
  return pairs // size, pairs % size, times


def common(a, b):
  """Returns the length of the longest common subsequence of two lists.

  Bits of an integer say where a row of the dynamic program grows by one
  (Hyyrö 2004).
  """
  places = {}
  for i, word in enumerate(a):
    places[word] = places.get(word, 0) | 1 << i
  full = (1 << len(a)) - 1
  row = full
  for word in b:
    hits = row & places.get(word, 0)
    row = (row + hits | row - hits) & full
  return len(a) - row.bit_count()
