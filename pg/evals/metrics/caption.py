"""Scores of captions: CIDEr-D, BLEU-1 to 4, ROUGE-L, METEOR.

As pycocoevalcap computes them, on its scale: a CIDEr of 1.413 is the 141.3 of
papers. All captions go through ptb.py first. An example is an image: its
`answers` are its references, and one that gives an `image_id` comes once. Rows
with one caption each are joined where they have the same image and prompt.
"""

import warnings

import numpy as np
from scipy import sparse

from pg.evals.metrics import exact, ptb, statistics

_ORDERS = 4  # n-grams of 1 to 4 words
# Kept from the reference: they decide the score where nothing matches.
_TINY, _SMALL = 1e-15, 1e-9


def cider(predictions, examples):
  """Scores CIDEr-D: Sums over images.

  tf-idf vectors of n-grams, clipped, compared by cosine and penalized for
  another length (Vedantam et al. 2015); the mean over n, references and images,
  times 10. How rare an n-gram is comes from the references of these very
  examples: scores of two sets, or of a part, do not compare. With one image it
  is 0, as no n-gram is rarer than another: that is warned of.

  Raises:
    ValueError: an image that comes twice.
  """
  return _cider(*_tokens(predictions, examples))


def bleu(predictions, examples):
  """Scores bleu-1 to bleu-4 of the whole set: Sums over images.

  The reference length is that closest to the prediction's (the shorter of two).
  """
  return _bleu(*_tokens(predictions, examples))


def rouge(predictions, examples):
  """Scores `rouge_l`, the mean over images.

  Of the longest common subsequence with each reference, the best precision and
  the best recall, each of whichever reference has it; beta is 1.2.
  """
  return _rouge(*_tokens(predictions, examples))


def captions(predictions, examples):
  """Scores cider, bleu-1 to bleu-4 and rouge_l together."""
  tokens = _tokens(predictions, examples)
  parts = [_cider(*tokens), _bleu(*tokens), _rouge(*tokens)]
  edges = np.cumsum([part.sums.shape[1] for part in parts])[:-1]

  def finish(sums):
    blocks = np.split(sums, edges, axis=-1)
    scores = [part.finish(block) for part, block in zip(parts, blocks)]
    return scores[0] | scores[1] | scores[2]

  sums = np.concatenate([part.sums for part in parts], axis=1)
  num = parts[0].num | parts[1].num | parts[2].num
  return statistics.Sums(sums, finish, num)


def texts(predictions, examples):
  """Returns the predictions and lists of references, both checked."""
  exact.check_lengths(predictions, examples)
  predictions, examples = _by_image(predictions, examples)
  references = exact.each(lambda _, e: exact.answers(e), predictions, examples)
  ids = statistics.field(examples, "image_id") or ()
  if len(set(ids)) < len(ids):
    twice = next(i for i in ids if ids.count(i) > 1)
    raise ValueError(
      f"the image_id {twice!r} comes {ids.count(twice)} times; give each image"
      " once, with all its captions in answers"
    )
  return list(predictions), references


def _by_image(predictions, examples):
  """Joins the captions of rows with the same `image_ref` and prompt.

  Rows that have `answers` stay as they are. Of the predictions, which are about
  the same image and prompt, the first counts.
  """
  joined = {}
  for prediction, example in zip(predictions, examples):
    image, suffix = example.get("image_ref"), example.get("suffix")
    key = len(joined)
    if image and suffix is not None and example.get("answers") is None:
      key = str(image), example.get("prefix")
      example = {**example, "answers": [suffix]}
    if key in joined:
      joined[key][1]["answers"].append(suffix)
    else:
      joined[key] = prediction, example
  return [p for p, _ in joined.values()], [e for _, e in joined.values()]


def _tokens(predictions, examples):
  """Returns tokens of each prediction, and of its references."""
  predictions, references = texts(predictions, examples)
  flat = iter(ptb.tokenize_all(r for group in references for r in group))
  grouped = [[next(flat) for _ in group] for group in references]
  return ptb.tokenize_all(predictions), grouped


def _cider(predictions, references):
  if len(predictions) == 1:
    warnings.warn(
      "CIDEr of one image is 0 whatever the caption: give it two or more",
      stacklevel=4,
    )
  image, flat = _flat(references)
  similarity = sum(
    _cosine(counts[: len(predictions)], counts[len(predictions) :], image)
    for counts in count_ngrams(predictions + flat, _ORDERS)
  )
  # The reference counts bigrams for the length.
  length = np.array([max(0, len(words) - 1) for words in predictions + flat])
  difference = length[len(predictions) :] - length[image]
  similarity *= np.exp(-(difference**2) / (2 * 6.0**2))
  total = np.bincount(image, similarity, len(predictions))
  each = 10 * total / _ORDERS / np.bincount(image, minlength=len(predictions))
  return statistics.means({"cider": each}, each=False)


def _flat(references):
  """Returns i64[references], the image of each, and the references."""
  image = np.repeat(np.arange(len(references)), [len(r) for r in references])
  return image, [r for group in references for r in group]


def _cosine(predicted, true, image):
  """Returns f64[references], the clipped cosine of each and its prediction.

  Args:
    predicted, true: i64[images or references, n-grams] sparse, counts.
    image: i64[references], the image of each reference.
  """
  num_images = predicted.shape[0]
  documents = (_rows(image, num_images) @ true > 0).sum(axis=0)
  rarity = np.log(num_images) - np.log(np.maximum(1, documents))
  predicted, true = (x.multiply(rarity).tocsr() for x in (predicted, true))
  norm, true_norm = (np.sqrt(x.power(2).sum(axis=1)) for x in (predicted, true))
  dot = predicted[image].minimum(true).multiply(true).sum(axis=1)
  norms = norm[image] * true_norm
  return np.divide(dot, norms, out=np.zeros(len(image)), where=norms > 0)


def _rows(to, num_rows):
  """Returns a sparse matrix that adds row i of another to its row `to[i]`."""
  ones, places = np.ones(len(to), np.int64), np.arange(len(to))
  return sparse.csr_array((ones, (to, places)), shape=(num_rows, len(to)))


def _bleu(predictions, references):
  image, flat = _flat(references)
  columns = []
  turn = np.concatenate([np.arange(len(group)) for group in references])
  for counts in count_ngrams(predictions + flat, _ORDERS):
    said, true = counts[: len(predictions)], counts[len(predictions) :]
    allowed = sparse.csr_array(said.shape, dtype=np.int64)
    for i in range(turn.max() + 1):  # the i-th reference of each image
      rows = _rows(image[turn == i], len(predictions))
      allowed = allowed.maximum(rows @ true[turn == i])
    columns.append(said.minimum(allowed).sum(axis=1))
  length = np.array([len(words) for words in predictions])
  columns += [np.maximum(0, length - n) for n in range(_ORDERS)]
  closest = [
    min((abs(len(r) - len(words)), len(r)) for r in group)[1]
    for words, group in zip(predictions, references)
  ]
  columns += [length, closest]

  def finish(sums):
    right, guessed, (mine, theirs) = np.split(
      np.moveaxis(sums, -1, 0), [_ORDERS, 2 * _ORDERS]
    )
    product = np.cumprod((right + _TINY) / (guessed + _SMALL), axis=0)
    ratio = (mine + _TINY) / (theirs + _SMALL)
    penalty = np.exp(np.minimum(0, 1 - 1 / ratio))
    return {
      f"bleu-{n}": product[n - 1] ** (1 / n) * penalty
      for n in range(1, _ORDERS + 1)
    }

  num = {f"bleu-{n}": len(length) for n in range(1, _ORDERS + 1)}
  return statistics.Sums(np.array(columns, np.float64).T, finish, num)


def _rouge(predictions, references):
  scores = []
  for words, group in zip(predictions, references):
    words, *group = (t or [""] for t in (words, *group))  # as "".split(" ")
    common = [longest_common(words, r) for r in group]
    precision = max(common) / len(words)
    recall = max(c / len(r) for c, r in zip(common, group))
    weighted = recall + 1.2**2 * precision
    scores.append(weighted and (1 + 1.2**2) * precision * recall / weighted)
  return statistics.means({"rouge_l": scores}, each=False)


def count_ngrams(texts, orders):
  """Yields, for n from 1 to `orders`, the n-grams of all texts with counts.

  Args:
    texts: list of lists of str.
    orders: int.

  Yields:
    i64[texts, n-grams] sparse.
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
      # An n-gram is one of n - 1 and the word after it.
      keys = gram[: len(gram) - 1] * len(numbers) + words[n - 1 :]
      gram = np.unique(keys, return_inverse=True)[1]
    inside = text[: len(gram)] == text[n - 1 :]  # not across two texts
    where = text[: len(gram)][inside], gram[inside]
    shape = len(texts), gram.max(initial=0) + 1
    yield sparse.csr_array((np.ones(inside.sum(), np.int64), where), shape)


def longest_common(a, b):
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
