"""Scores by language and their means: XM3600, COCO-35L, xGQA, MaRVL."""

import numpy as np
import scipy.linalg

from pg.evals.metrics import exact, statistics


def split(metric, predictions, examples):
  """Scores a metric in each language, and means over languages.

  Args:
    metric: function of predictions and examples to Sums; it sees one language
      at a time, so that CIDEr has document frequencies of its own in each.
    predictions, examples: as of metrics; examples have a `language`.

  Returns:
    Sums of, for each score, <score>/<language>, <score>/mean over all
    languages and, where English is one of several, <score>/mean_no_en, the
    number that papers give. Each language counts alike.

  Raises:
    ValueError: an example without a language; what `metric` raises, with the
      language before it.
  """
  exact.check_lengths(predictions, examples)
  languages = np.array(statistics.required(examples, "language"), object)
  parts, each = {}, np.full(len(examples), None)
  for language in sorted(set(languages)):
    rows = np.flatnonzero(languages == language)
    try:
      parts[language] = metric(
        [predictions[i] for i in rows], [examples[i] for i in rows]
      )
    except ValueError as error:
      raise ValueError(f"language {language!r}: {error}") from error
    each[rows] = parts[language].each
  # Each part has rows and columns of its own.
  sums = scipy.linalg.block_diag(*(part.sums for part in parts.values()))
  edges = np.cumsum([part.sums.shape[1] for part in parts.values()])[:-1]

  def finish(sums):
    blocks = zip(parts.items(), np.split(sums, edges, axis=-1))
    found = {language: part.finish(block) for (language, part), block in blocks}
    return _by_language(found, lambda values: np.mean(values, axis=0))

  num = _by_language({language: p.num for language, p in parts.items()}, sum)
  each = None if None in each else each.tolist()
  return statistics.Sums(sums, finish, num, each)


def _by_language(parts, combine):
  """Returns values of each language and combined ones, as `split` names them.

  Args:
    parts: {language: {score: value}}.
    combine: function of a list of values.
  """
  found, by_score = {}, {}
  for language, values in parts.items():
    for score, value in values.items():
      found[f"{score}/{language}"] = value
      by_score.setdefault(score, {})[language] = value
  for score, values in by_score.items():
    found[f"{score}/mean"] = combine(list(values.values()))
    rest = [value for language, value in values.items() if language != "en"]
    if rest and "en" in values:
      found[f"{score}/mean_no_en"] = combine(rest)
  return found
