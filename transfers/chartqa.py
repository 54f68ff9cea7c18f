r"""ChartQA: questions about charts; people's, and ones made from summaries.

Reported for PaliGemma 3B (test, relaxed accuracy), human / augmented / mean:
40.0 / 74.2 / 57.08 at 224 px, 54.2 / 88.5 / 71.36 at 448 px. At 896 px, the
public default, it was not better.

python -m scripts.prepare.chartqa --raw DIR --out data/chartqa
python -m pg.train --config transfers/chartqa.py:res=448 --workdir runs/chartqa

`tune` trains without val.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", res=896, text_len=48, tune=False)

  # What goes in, what should come out. The weights are the sizes of train.
  for kind, size in dict(human=7398, augmented=20901).items():
    split = f"train_{kind}" + ("" if c.arg.tune else f" + val_{kind}")
    c.data[kind] = dict(base.prepared(c, "chartqa", split), weight=size)
  c.pp = (
    f"decode | resize({c.res})"
    " | copy('question', out='prefix') | copy('answer', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "30ep", 256, 1e-5, 1e-6
  c.label_smoothing, c.model.dropout = 0.2, 0.1

  # What is measured.
  val, test = (
    base.prepared(c, "chartqa", f"{split}_human + {split}_augmented")
    for split in ("val", "test")
  )
  reported = {
    "relaxed/human": {224: 0.400, 448: 0.542},
    "relaxed/augmented": {224: 0.742, 448: 0.885},
    "relaxed/mean": {224: 0.5708, 448: 0.7136},
  }
  base.held_out(c, "val", metric="relaxed", **val, every="10%")
  base.held_out(c, "nll", metric="perplexity", **val, every="5%")
  c.evals.test = dict(
    metric="relaxed",
    **test,
    every="10%",
    published=base.published(c, **reported),
  )
  return c
