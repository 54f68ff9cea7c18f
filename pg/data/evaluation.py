"""What evaluation reads: each row once, in order, and the texts of training.

Batches are filled up with padding examples (index -1).
"""

import functools
import operator
import sys

from pg import pp
from pg.data import stream
from pg.pp import parse


def train_texts(data, seed, options=stream.DEFAULT):
  """Iterates over (prefix, suffix) of training, in the mixture's proportion.

  Images are not decoded for that; so boxes are those before a random crop.
  """
  data = tuple(
    d._replace(pp=functools.partial(parse.run_texts, *d.pp.args)) for d in data
  )
  texts = operator.itemgetter("prefix", "suffix")
  order = stream.Stream(data, texts, seed, skip_bad=options.bad.skips)
  text = lambda k: (stream.Aside(*order[k][2]),)
  return stream.iterate(sys.maxsize, text, options._replace(num_workers=0))


def eval_batches(
  dataset, form, make, batch_size, num_examples=None, options=stream.DEFAULT
):
  """Iterates over this host's rows of a dataset, every row once, in order.

  Skipped and bad rows become padding: where they stand depends on nothing but
  the data, so that all hosts get as many batches.

  Args:
    dataset: pipeline.Dataset.
    form: prefix_lm.Form.
    make: prefix_lm.train_row to score, prefix_lm.decode_row to generate.
    batch_size: int, rows per batch over all hosts.
    num_examples: int, only the first rows; None is all.
    options: Options.

  Returns:
    A generator of (rows, bad, examples): a batch, a list of the Bad rows left
    out of it, and the examples in it (padding left out) without their images.
  """
  first, size = stream.share(batch_size)
  n = len(dataset.source)
  n = n if num_examples is None else min(n, num_examples)
  padding = make(form, {"image": [], "prefix": "", "suffix": ""})

  def row_and_text(example):
    text = {k: v for k, v in example.items() if k != "image"}
    return make(form, example), text

  def visit(i):
    """Returns row i with its index, its text, and Bad rows; or padding."""
    visits = [(i, pp.Turn(row=i))] if i < n else []
    skip_bad = options.bad.skips
    index, item, bad = stream.first_usable(
      dataset, visits, row_and_text, skip_bad
    )
    if item is None:
      return padding, -1, None, bad
    row, text = item
    return row, index, text, bad

  def batch(j):
    at = j * batch_size + first
    rows, indices, texts, bad = zip(*(visit(at + k) for k in range(size)))
    texts = [text for text in texts if text is not None]
    return stream.stack(rows, [0] * size, indices), stream.Aside(
      sum(bad, []), texts
    )

  return stream.iterate(-(-n // batch_size), batch, options)


def image(dataset, form, make, i):
  """Reads the image u8[M, R, R, 3] of row i as a batch has it, once more.

  Args:
    dataset, form, make: as for `eval_batches`.
    i: int.

  Returns:
    None where the row can no longer be read.
  """
  visits = [(i, pp.Turn(row=i))]
  only = lambda example: make(form, example)["image"]
  return stream.first_usable(dataset, visits, only, True)[1]
