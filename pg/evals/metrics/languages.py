"""Scores in several languages: XM3600 and COCO-35L, xGQA, MaRVL."""

import numpy as np

from pg.evals.metrics import exact, statistics


def split(make, predictions, examples):
  """Makes the Table of a metric in each language and of means over languages.

  Args:
    make: function of predictions and examples to a Table; it sees one language
      at a time, so that CIDEr has document frequencies of its own in each.
    predictions: list of str.
    examples: list of dicts with a `language`.

  Returns:
    Table of, for each score, <score>/<language>, <score>/mean over all
    languages and, where English is one of several, <score>/mean_no_en, the
    number that papers give. Each language counts alike.

  Raises:
    ValueError: an example without a language; what `make` raises, with the
      language before it.
  """
  exact.check_lengths(predictions, examples)
  languages = np.array(statistics.required(examples, "language"), object)
  parts = {}
  for language in sorted(set(languages)):
    rows = np.flatnonzero(languages == language)
    try:
      parts[language] = make(
        [predictions[i] for i in rows], [examples[i] for i in rows]
      )
    except ValueError as error:
      raise ValueError(f"language {language!r}: {error}") from error
  return statistics.Table(_blocks(parts), _finish(parts), _num(parts))


def _blocks(parts):
  """Returns the summands of all parts in one, each in columns of its own."""
  shapes = np.array([part.sums.shape for part in parts.values()])
  sums = np.zeros(shapes.sum(axis=0))
  row = column = 0
  for part, (rows, columns) in zip(parts.values(), shapes):
    sums[row : row + rows, column : column + columns] = part.sums
    row, column = row + rows, column + columns
  return sums


def _finish(parts):
  edges = np.cumsum([part.sums.shape[1] for part in parts.values()])[:-1]

  def finish(sums):
    scores, by_name = {}, {}
    for (language, part), block in zip(
      parts.items(), np.split(sums, edges, axis=-1)
    ):
      for name, value in part.finish(block).items():
        scores[f"{name}/{language}"] = value
        by_name.setdefault(name, {})[language] = value
    for name, values in by_name.items():
      scores[f"{name}/mean"] = np.mean(list(values.values()), axis=0)
      rest = [value for key, value in values.items() if key != "en"]
      if rest and "en" in values:
        scores[f"{name}/mean_no_en"] = np.mean(rest, axis=0)
    return scores

  return finish


def _num(parts):
  num, total = {}, {}
  for language, part in parts.items():
    for name, n in part.num.items():
      num[f"{name}/{language}"] = n
      total.setdefault(name, {})[language] = n
  for name, counts in total.items():
    num[f"{name}/mean"] = sum(counts.values())
    if "en" in counts and len(counts) > 1:
      num[f"{name}/mean_no_en"] = sum(counts.values()) - counts["en"]
  return num
