r"""VSR: is a sentence about the places of two things true of a photo?

Reported for PaliGemma 2 at 224 px, zeroshot / random test split: 74.8 / 81.6
(3B), 79.8 / 86.8 (10B). Higher resolutions were not better.

python -m scripts.prepare.vsr --raw DIR --out data/vsr
python -m pg.train --config transfers/vsr.py:kind=random --workdir runs/vsr

The report (arXiv 2412.03555, 4.7 and B.6) gives the answers True and False,
batches of 1024, 18 tokens of output, and what was tried: lr 1e-7 to 3e-6, wd
1e-7 to 1e-6, dropout 0 to 0.2, 1 to 30 epochs. Which of them were best, how it
was asked and whether dev was trained on is not said, and ours here.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, model="pg2_3b", data="data", text_len=48, kind="zeroshot")

  # What goes in, what should come out.
  kind = c.arg.kind  # or random, where test has the things of train
  c.data = base.prepared(c, "vsr", f"{kind}_train")
  c.pp = (
    f"decode | resize({c.res})"
    " | fmt('answer en {sentence}', out='prefix')"
    " | copy('label', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "15ep", 1024, 3e-6, 3e-7
  c.model.dropout = 0.1

  # What is measured.
  c.evals.dev = dict(
    metric="exact", split=f"{kind}_dev", every="10%", max_len=18
  )
  reported = dict(
    zeroshot={("pg2_3b", 224): 0.748, ("pg2_10b", 224): 0.798},
    random={("pg2_3b", 224): 0.816, ("pg2_10b", 224): 0.868},
  )
  c.evals.test = dict(
    metric="exact",
    split=f"{kind}_test",
    every=0,
    max_len=18,
    published=base.published(c, exact=reported.get(kind, {})),
  )
  return c
