"""Average normalized Levenshtein similarity: DocVQA, InfographicVQA, ST-VQA."""

from pg.evals.metrics import exact, statistics


def anls(predictions, examples):
  """Scores the best similarity with an accepted answer, without case."""
  return statistics.means({"anls": exact.each(_best, predictions, examples)})


def _best(prediction, example):
  prediction = prediction.lower()
  answers = exact.answers(example)
  return max(similarity(prediction, answer.lower()) for answer in answers)


def similarity(a, b):
  """Returns 1 - distance / length of the longer text; 0.0 from a half on.

    similarity("abcx", "abcd") == 0.75;  similarity("abxx", "abcd") == 0.0

  Biten et al. 2019, equation 1. Nothing is stripped; two empty texts have 1.
  """
  if a == b:
    return 1.0
  length = max(len(a), len(b))
  if abs(len(a) - len(b)) >= length / 2:
    return 0.0
  normalized = distance(a, b) / length
  return 1.0 - normalized if normalized < 0.5 else 0.0


def distance(a, b):
  """Returns the Levenshtein distance of two str.

  The differences of a column of the dynamic program to the entry above are
  bits of two integers, so that a column costs a few operations (Myers 1999, in
  the form of Hyyrö 2003).
  """
  if not a:
    return len(b)
  places = {}
  for i, letter in enumerate(a):
    places[letter] = places.get(letter, 0) | 1 << i
  full, last, score = (1 << len(a)) - 1, 1 << len(a) - 1, len(a)
  plus, minus = full, 0  # where an entry is one more, one less than that above
  for letter in b:
    equal = places.get(letter, 0)
    diagonal = (((equal & plus) + plus) ^ plus) | equal | minus
    right = minus | ~(diagonal | plus) & full  # one more than that to the left
    left = plus & diagonal
    score += bool(right & last) - bool(left & last)
    right, left = (right << 1 | 1) & full, left << 1 & full
    plus, minus = left | ~(diagonal | right) & full, right & diagonal
  return score
