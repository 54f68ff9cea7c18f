"""The smallest run that has all a run has: two datasets, two evaluators."""

from transfers import base

BATCH_SIZE = 4


def get_config(arg=None):
  c = base.get(arg, model="nano", res=12, total=40)
  # Batches of 64 and of 32 text positions, of which three are sorted.
  c.text_len, c.length_window = 64, 3
  c.total, c.batch_size = c.arg.total, BATCH_SIZE
  c.lr, c.warmup = 1e-3, 2
  c.log_every, c.save_every, c.max_checkpoints = 1, 4, 2
  caption = dict(source="shapes", task="caption", res=48)
  digits = dict(source="digits", res=48)
  asked = "{prefix} of a scene of many small things, as it is"
  long = f"{c.pp} | fmt('{asked}', out='prefix')"
  c.data.caption = dict(caption, weight=0.3, pp=long)
  c.data.digits = dict(digits, split="train", weight=0.7)
  test = dict(split="test", num_examples=32, every=10)
  c.evals.digits = dict(digits, **test, metric="exact", max_len=4)
  c.evals.nll = dict(caption, **test, metric="perplexity")
  return c
