r"""DOCCI: descriptions of photos, seven sentences on average.

A task of PaliGemma 2, at 448 px: sentences that the photo does not entail, as
people judged, are 28.4 % of those of the 3B model and 20.3 % of the 10B one. We
have no such metric; those for captions say how near the words are.

python -m scripts.prepare.docci --raw DIR --out data/docci
python -m pg.train --config transfers/docci.py:model=pg2_10b \
  --workdir runs/docci

Of the recipe no source says more than training on train and resolution. Ours is
the simple one that the PaliGemma paper found good for most tasks (section 6.2),
and the prompt that the released models of this task are used with.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", model="pg2_3b", res=448, text_len=512)

  # What goes in, what should come out.
  c.data = base.prepared(c, "docci", "train")
  c.pp = (
    f"decode | resize({c.res}) | fmt('caption en', out='prefix')"
    " | copy('description', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 256, 1e-5, 0.0

  # What is measured.
  c.evals.qual = dict(metric="captions", split="qual_dev", every="25%")
  c.evals.nll = dict(metric="perplexity", split="test[-10%:]", every="10%")
  c.evals.test = dict(metric="captions", split="test", every=0)
  return c
