"""Scores what a model wrote: one function per metric, found by name here.

A metric is `score(predictions: list[str], examples: list[dict]) ->
dict[str, float]`; an example is a row after the text ops, so with the `suffix`
the model was to write, or a list of `answers`. PER_EXAMPLE has, where a metric
is a mean over examples, the function `(prediction, example) -> float` of one.
"""

from pg.evals import detect, exact

METRICS = {
  "count": exact.count,
  "detect": detect.score,
  "exact": exact.score,
}
PER_EXAMPLE = {
  "count": exact.per_example_count,
  "detect": detect.per_example,
  "exact": exact.per_example,
}
