"""How many are there: TallyQA and CountBenchQA."""

from pg.evals.metrics import exact, statistics

_WORDS = """zero one two three four five six seven eight nine ten eleven twelve
thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty""".split()
_DIGITS = {word: str(i) for i, word in enumerate(_WORDS)} | {"none": "0"}


def tallyqa(predictions, examples):
  """Makes the Table of TallyQA.

  Args:
    predictions: list of str.
    examples: list of dicts with one accepted answer, a count of any size, and
      perhaps `issimple`: 1, 0, or -1 for questions of unknown kind.

  Returns:
    Table of acc, acc/count_<n> for each true count and, with `issimple`,
    acc/simple and acc/complex.
  """
  values = exact.each(per_example, predictions, examples)
  counts = [f"count_{digits(exact.answers(e)[0])}" for e in examples]
  columns = statistics.by("acc", values, counts)
  simple = statistics.field(examples, "issimple")
  for kind, name in ((1, "simple"), (0, "complex")):
    if simple and kind in simple:
      columns[f"acc/{name}"] = [
        v if s == kind else None for v, s in zip(values, simple)
      ]
  return statistics.means(columns)


def digits(text):
  """Returns number words up to twenty in digits, other text as it is.

  digits("Three") == "3";  digits("none") == "0";  digits("a lot") == "a lot"
  """
  return _DIGITS.get(text.lower(), text)


def per_example(prediction, example):
  """Returns 1.0 for the right count, in digits or a word, else 0.0."""
  answers = [digits(a) for a in exact.answers(example)]
  return float(digits(prediction) in answers)
