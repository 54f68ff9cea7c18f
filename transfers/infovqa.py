r"""InfographicVQA: questions about posters that explain with images.

Reported for PaliGemma 3B (test, ANLS): 28.46 at 224 px, 40.47 at 448 px, 47.75
at 896 px.

python -m scripts.prepare.infovqa --raw DIR --out data/infovqa
python -m pg.train --config transfers/infovqa.py:res=896 --workdir runs/infovqa

`tune` trains without val. The test answers are not public: submissions/ has the
file for the server.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", res=896, text_len=48, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "infovqa", "train" if c.arg.tune else "train + val")
  ask = (
    f"decode | resize({c.res}) | fmt('answer en {{question}}', out='prefix')"
  )
  c.pp = f"{ask} | lower('answers') | cycle('answers', out='suffix')"

  # The recipe.
  c.total, c.label_smoothing = "3ep", 0.4
  c.batch_size = base.at(c, {224: 256, 448: 128, 896: 32})
  c.lr, c.wd = base.at(c, {224: (1e-5, 1e-6), 896: (3e-6, 3e-7)})

  # What is measured.
  reported = base.published(c, anls={224: 0.2846, 448: 0.4047, 896: 0.4775})
  val = dict(split="val", every="10%", published=reported)
  base.held_out(c, "val", metric="anls", **val)
  base.held_out(c, "nll", metric="perplexity", split="val", every="5%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=ask,
    submit="infovqa",
    every=0,
    published=reported,
  )
  return c
