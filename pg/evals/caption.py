"""Scores of captions: CIDEr-D, BLEU-1 to 4, ROUGE-L, METEOR.

As pycocoevalcap computes them, on its scale: a CIDEr of 1.413 is the 141.3 of
papers. All captions go through pg/evals/ptb.py first. An example is an image:
its `answers` are its references, and one that gives an `image_id` comes once.
"""

import warnings

import numpy as np

from pg.evals import exact, ngrams, ptb, table

_ORDERS = 4  # n-grams of 1 to 4 words
# Kept from the reference: they decide the score where nothing matches.
_TINY, _SMALL = 1e-15, 1e-9


def cider(predictions, examples):
  """Makes the Table of CIDEr-D; its rows are images.

  tf-idf vectors of n-grams, clipped, compared by cosine and penalized for
  another length (Vedantam et al. 2015); the mean over n, references and images,
  times 10. How rare an n-gram is comes from the references of these very
  examples: scores of two sets, or of a part, do not compare.

  Args:
    predictions: list of str.
    examples: list of dicts with the references in `answers` or `suffix`.

  Returns:
    Table of `cider`. With one image it is 0, as no n-gram is rarer than
    another: that is warned of.

  Raises:
    ValueError: no predictions, not as many as examples, an example without a
      reference, or an image that comes twice.
  """
  return _cider(*_tokens(predictions, examples))


def bleu(predictions, examples):
  """Makes the Table of bleu-1 to bleu-4 of the whole set; rows are images.

  The reference length is that closest to the prediction's (the shorter of two).
  Arguments and errors as for `cider`.
  """
  return _bleu(*_tokens(predictions, examples))


def rouge(predictions, examples):
  """Makes the Table of `rouge_l`, the mean over images.

  Of the longest common subsequence with each reference, the best precision and
  the best recall, each of whichever reference has it; beta is 1.2. Arguments
  and errors as for `cider`.
  """
  return _rouge(*_tokens(predictions, examples))


def captions(predictions, examples):
  """Makes the Table of cider, bleu-1 to bleu-4 and rouge_l together."""
  tokens = _tokens(predictions, examples)
  parts = [_cider(*tokens), _bleu(*tokens), _rouge(*tokens)]
  edges = np.cumsum([part.sums.shape[1] for part in parts])[:-1]

  def finish(sums):
    blocks = np.split(sums, edges, axis=-1)
    scores = [part.finish(block) for part, block in zip(parts, blocks)]
    return scores[0] | scores[1] | scores[2]

  sums = np.concatenate([part.sums for part in parts], axis=1)
  return table.Table(sums, finish, parts[0].num | parts[1].num | parts[2].num)


def texts(predictions, examples):
  """Returns the predictions and lists of references, both checked."""
  exact.check_lengths(predictions, examples)
  ids = table.field(examples, "image_id") or ()
  if len(set(ids)) < len(ids):
    twice = next(i for i in ids if ids.count(i) > 1)
    raise ValueError(
      f"the image_id {twice!r} comes {ids.count(twice)} times; give each image"
      " once, with all its captions in answers"
    )
  return list(predictions), [exact.answers(example) for example in examples]


def _tokens(predictions, examples):
  """Returns tokens of predictions [N] and of references [N][any]."""
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
  image = np.repeat(np.arange(len(references)), [len(r) for r in references])
  flat = [r for group in references for r in group]
  similarity = np.zeros(len(flat))
  for counts in ngrams.count(predictions + flat, _ORDERS):
    similarity += _cosine(*counts, image, len(predictions))
  # The reference counts bigrams for the length.
  length = np.array([max(0, len(words) - 1) for words in predictions + flat])
  difference = length[len(predictions) :] - length[image]
  similarity *= np.exp(-(difference**2) / (2 * 6.0**2))
  total = np.bincount(image, similarity, len(predictions))
  each = 10 * total / _ORDERS / np.bincount(image, minlength=len(predictions))
  return table.means({"cider": each})


def _cosine(text, gram, times, image, num_images):
  """Returns the clipped cosine of each reference and its prediction, f64[R].

  Args:
    text, gram, times: i64[M] each: how many times a text has an n-gram. Texts
      are the predictions and, from `num_images`, the references.
    image: i64[R], the image of each reference.
    num_images: number of predictions.
  """
  is_reference = text >= num_images
  owner = text.copy()
  owner[is_reference] = image[text[is_reference] - num_images]
  num_grams = gram.max(initial=-1) + 1
  key = owner * num_grams + gram  # an n-gram in an image
  documents = np.unique(key[is_reference]) % max(1, num_grams)
  frequency = np.bincount(documents, minlength=num_grams)
  rarity = np.log(num_images) - np.log(np.maximum(1, frequency))
  weight = times * rarity[gram]
  norm = np.sqrt(np.bincount(text, weight**2, num_images + len(image)))
  mine, theirs = key[~is_reference], key[is_reference]  # sorted; not sorted
  ours = np.zeros(len(theirs))
  if len(mine):
    place = np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)
    found = mine[place] == theirs
    ours[found] = weight[~is_reference][place[found]]
  product = np.minimum(ours, weight[is_reference]) * weight[is_reference]
  row = text[is_reference] - num_images
  dot = np.bincount(row, product, len(image))
  norms = norm[:num_images][image] * norm[num_images:]
  return np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0)


def _bleu(predictions, references):
  rows = []
  for words, group in zip(predictions, references):
    allowed = ngrams.most(group, _ORDERS)
    own = ngrams.most([words], _ORDERS)
    right = [0] * _ORDERS
    for gram, times in own.items():
      right[len(gram) - 1] += min(times, allowed.get(gram, 0))
    guessed = [max(0, len(words) - n) for n in range(_ORDERS)]
    closest = min((abs(len(r) - len(words)), len(r)) for r in group)[1]
    rows.append([*right, *guessed, len(words), closest])

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

  num = {f"bleu-{n}": len(rows) for n in range(1, _ORDERS + 1)}
  return table.Table(np.array(rows, np.float64), finish, num)


def _rouge(predictions, references):
  scores = []
  for words, group in zip(predictions, references):
    words, *group = (t or [""] for t in (words, *group))  # as "".split(" ")
    common = [ngrams.common(words, r) for r in group]
    precision = max(common) / len(words)
    recall = max(c / len(r) for c, r in zip(common, group))
    weighted = recall + 1.2**2 * precision
    scores.append(weighted and (1 + 1.2**2) * precision * recall / weighted)
  return table.means({"rouge_l": scores})
