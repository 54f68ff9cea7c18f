"""METRICS, a dict from name to metric; the metrics, one file per family.

A metric is a function `score(predictions: list[str], examples: list[dict]) ->
{score: float}`. An example is a row after the text ops, so with the `suffix`
that the model was to write, or a list of `answers`; docstrings of metrics say
what else it is to have. A metric that returns its scores with the statistics of
each example (`statistics.Sums`, or `Resampled`) also has confidence intervals
and, if it says so, a score of each example.

All raise a ValueError for no predictions, for another number of them than of
examples, and for an example without an answer; it says which example.

Imported by evals and scripts; imports no jax.
"""

import functools

from pg import config
from pg.evals.metrics import (
  anls,
  caption,
  choice,
  coco,
  detect,
  exact,
  languages,
  meteor,
  numbers,
  segment,
  statistics,
  vqa,
)

METRICS = {
  "anls": anls.anls,  # DocVQA, InfographicVQA, ST-VQA
  "bleu": caption.bleu,
  "captions": caption.captions,  # CIDEr, BLEU and ROUGE-L
  "cider": caption.cider,
  "cider_languages": functools.partial(languages.split, caption.cider),
  "coco_bbox": coco.bbox,
  "coco_segm": coco.segm,
  "count": numbers.count,
  "detect": detect.detect,
  "exact": exact.exact,  # GQA, AI2D, OCR-VQA (lower), video QA, A-OKVQA (MC)
  "exact_languages": functools.partial(languages.split, exact.exact),  # xGQA
  "exact_lower": exact.exact_lower,
  "meteor": meteor.meteor,  # needs Java
  "mmvp": choice.mmvp,
  "nlvr2": choice.nlvr2,
  "pope": choice.pope,
  "pope_equal": choice.pope_equal,  # as big_vision scores it
  "refcoco": segment.refcoco,
  "relaxed": numbers.relaxed,  # ChartQA
  "rouge": caption.rouge,
  "rsvqa": exact.rsvqa,
  "scienceqa": choice.scienceqa,
  "segment": segment.segment,
  "soft": vqa.soft,  # OKVQA, A-OKVQA, VizWiz
  "soft_lower": functools.partial(vqa.soft, fold=str.lower),
  "tallyqa": numbers.tallyqa,  # and CountBenchQA
  "textvqa": vqa.textvqa,
  "vizwiz": functools.partial(vqa.vqav2, distinct=False),  # without answer ids
  "vqav2": vqa.vqav2,
}


# What metrics read of an example, as far as that can fail.
_TRUTHS = {
  **dict.fromkeys(
    ("anls", "cider", "captions", "exact", "exact_lower", "relaxed", "vqav2"),
    exact.answers,
  ),
  "coco_bbox": coco.true_boxes,
  "coco_segm": coco.true_masks,
  "detect": detect.truth,
  "refcoco": segment.true_masks,
  "segment": segment.true_masks,
}


def read(name, example):
  """Reads the truth of an example as a metric does; others read nothing.

  Raises:
    ValueError: what the metric would raise.
  """
  _TRUTHS.get(name, lambda _: None)(example)


def score(name, predictions, examples):
  """Scores predictions with a metric of METRICS.

  Returns:
    {score: float}; of a metric with statistics a Sums or Resampled.

  Raises:
    ValueError: an unknown name, what the metric raises, or a metric that
      returns something else than a dict of numbers.
  """
  found = config.lookup(METRICS, name, "metric")(predictions, examples)
  if isinstance(found, statistics.Sums | statistics.Resampled):
    return found
  try:
    return {str(key): float(value) for key, value in found.items()}
  except (AttributeError, TypeError, ValueError) as error:
    raise ValueError(
      f'the metric "{name}" returned {str(found)[:80]}; wanted a dict of'
      f' numbers such as {{"{name}": 0.5}}'
    ) from error
