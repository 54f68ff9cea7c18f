"""Scores what a model wrote: one function per metric, found by name here.

A metric is `score(predictions: list[str], examples: list[dict]) ->
dict[str, float]`; an example is a row after the text ops, so with the `suffix`
the model was to write, or a list of `answers`. TABLES has the function that
makes what scores are computed from, mostly the summands of each example
(statistics.py); `scored` also gives each score's number of examples and an
interval.
PER_EXAMPLE has, where a metric is a mean over examples, the function
`(prediction, example) -> float` of one; captions, which are scored as a set,
have none there.
"""

import functools

from pg.evals.metrics import (
  anls,
  caption,
  coco,
  counting,
  detect,
  exact,
  languages,
  letters,
  meteor,
  pairs,
  relaxed,
  segment,
  statistics,
  vqa,
  yesno,
)

TABLES = {
  "anls": anls.anls,  # DocVQA, InfographicVQA, ST-VQA
  "bleu": caption.bleu,
  "captions": caption.captions,  # CIDEr, BLEU and ROUGE-L
  "cider": caption.cider,
  "cider_languages": functools.partial(languages.split, caption.cider),
  "coco_bbox": coco.bbox,
  "coco_segm": coco.segm,
  "count": exact.count,
  "detect": detect.detect,
  "exact": exact.exact,  # GQA, AI2D, OCR-VQA (lower), video QA, A-OKVQA (MC)
  "exact_languages": functools.partial(languages.split, exact.exact),  # xGQA
  "exact_lower": exact.exact_lower,
  "meteor": meteor.meteor,  # needs Java
  "mmvp": pairs.mmvp,
  "nlvr2": pairs.nlvr2,
  "pope": yesno.pope,
  "pope_equal": yesno.pope_equal,  # as big_vision scores it
  "refcoco": segment.refcoco,
  "relaxed": relaxed.relaxed,  # ChartQA
  "rouge": caption.rouge,
  "rsvqa": exact.rsvqa,
  "scienceqa": letters.scienceqa,
  "segment": segment.segment,
  "soft": vqa.soft,  # OKVQA, A-OKVQA, VizWiz
  "soft_lower": vqa.soft_lower,
  "tallyqa": counting.tallyqa,  # and CountBenchQA
  "textvqa": vqa.textvqa,
  "vizwiz": vqa.vizwiz,  # the official code on annotations without ids
  "vqav2": vqa.vqav2,
}


def _score(make, predictions, examples):
  return statistics.scores(make(predictions, examples))


METRICS = {n: functools.partial(_score, make) for n, make in TABLES.items()}
PER_EXAMPLE = {
  "anls": anls.per_example,
  "count": exact.per_example_count,
  "detect": detect.per_example,
  "exact": exact.per_example,
  "exact_languages": exact.per_example,
  "exact_lower": exact.per_example_lower,
  "mmvp": exact.per_example_lower,
  "nlvr2": exact.per_example_lower,
  "pope": yesno.per_example,
  "pope_equal": yesno.per_example_equal,
  "relaxed": relaxed.per_example,
  "rsvqa": exact.per_example_lower,
  "scienceqa": letters.per_example,
  "soft": vqa.per_example_soft,
  "soft_lower": vqa.per_example_soft_lower,
  "tallyqa": counting.per_example,
  "textvqa": vqa.per_example_textvqa,
  "vizwiz": vqa.per_example_vizwiz,
  "vqav2": vqa.per_example,
}
# The same of many at once, where that is much faster.
EACH = {"refcoco": segment.each_refcoco, "segment": segment.each}


def each(name, predictions, examples):
  """Returns the score of each example, list of float; None: it has none."""
  if name in EACH:
    return EACH[name](predictions, examples)
  if name not in PER_EXAMPLE:
    return None
  return [
    float(PER_EXAMPLE[name](*pair)) for pair in zip(predictions, examples)
  ]
