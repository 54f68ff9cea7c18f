r"""Widget captioning: what the button in the red box of a screen does.

Reported for PaliGemma 3B, CIDEr (test): 136.07 at 224 px, 148.36 at 448 px.

python -m scripts.prepare.widgetcap --raw DIR --out data/widgetcap
python -m pg.train --config transfers/widgetcap.py --workdir runs/widgetcap

The box is drawn after resizing, one pixel wide at any resolution. With `tune`
all of dev is held out.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + dev"
  c.data = base.prepared(c, "widgetcap", split)
  c.pp = (
    f"decode | resize({c.res}) | draw_box('bbox')"
    " | fmt('caption en', out='prefix') | rename('texts', out='answers')"
    " | cycle('answers', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "4ep", 64, 3e-6, 3e-7
  c.label_smoothing, c.model.dropout = 0.1, 0.1

  # What is measured.
  if c.arg.tune:
    c.evals.dev = dict(metric="cider", split="dev", every="10%")
  c.evals.nll = dict(metric="perplexity", split="test[-10%:]", every="5%")
  c.evals.test = dict(
    metric="cider",
    split="test",
    every="10%",
    published=base.published(c, cider={224: 1.3607, 448: 1.4836}),
  )
  return c
