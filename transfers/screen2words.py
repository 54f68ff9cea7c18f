r"""Screen2Words: what a screen of an app is for, in a few words.

Reported for PaliGemma 3B, CIDEr (test): 117.57 at 224 px, 119.59 at 448 px.

python -m scripts.prepare.screen2words --raw DIR --out data/screen2words
python -m pg.train --config transfers/screen2words.py \
  --workdir runs/screen2words

With `tune` all of dev is held out.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=24, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + dev"
  c.data = base.prepared(c, "screen2words", split)
  c.pp = (
    f"decode | resize({c.res}, antialias=False)"
    " | fmt('caption en', out='prefix') | rename('summary', out='answers')"
    " | cycle('answers', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 256, 1e-5, 0.0
  c.label_smoothing, c.model.dropout = 0.2, 0.3

  # What is measured.
  if c.arg.tune:
    c.evals.dev = dict(metric="cider", split="dev", every="10%")
  c.evals.nll = dict(metric="perplexity", split="test[-10%:]", every="5%")
  c.evals.test = dict(
    metric="cider",
    split="test",
    every="10%",
    published=base.published(c, cider={224: 1.1757, 448: 1.1959}),
  )
  return c
