r"""SciCap: captions of figures of papers, without those that have parts.

Reported for PaliGemma 3B (test), CIDEr / BLEU-4: 162.25 / 0.192 at 224 px,
181.49 / 0.211 at 448 px.

python -m scripts.prepare.scicap --raw DIR --out data/scicap
python -m pg.train --config transfers/scicap.py:res=448 --workdir runs/scicap

The list of figures is called First-Sentence; what the published recipe reads of
its files is the whole caption, in lower case, in tokens, without "Figure 1".
With `tune` all of val is held out.
"""

from transfers import base

CAPTION = "caption/lowercase_and_token_and_remove_figure_index"


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=96, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "scicap", "train" if c.arg.tune else "train + val")
  c.pp = (
    f"decode | resize({c.res}, antialias=False)"
    f" | fmt('caption en', out='prefix') | copy('{CAPTION}', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "80ep", 256, 3e-5, 0.0
  c.label_smoothing, c.model.dropout = 0.1, 0.1

  # What is measured.
  if c.arg.tune:
    c.evals.val = dict(metric="captions", split="val", every="30%")
  c.evals.nll = dict(metric="perplexity", split="test[-10%:]", every="5%")
  scores = {
    "cider": {224: 1.6225, 448: 1.8149},
    "bleu-4": {224: 0.192, 448: 0.211},
  }
  c.evals.test = dict(
    metric="captions",
    split="test",
    every="30%",
    published=base.published(c, **scores),
  )
  return c
