r"""ST-VQA: questions about text in photos of streets and things.

Reported for PaliGemma 3B (test, ANLS): 63.29 at 224 px, 81.82 at 448 px, 84.40
at 896 px.

python -m scripts.prepare.stvqa --raw DIR --out data/stvqa
python -m pg.train --config transfers/stvqa.py:res=896 --workdir runs/stvqa

`tune` trains without val, which is our own: the published list of its photos is
not public. The test answers are not either: submissions/ has the file for the
server, in a form that was not verified.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", res=896, text_len=48, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "stvqa", "train" if c.arg.tune else "train + val")
  ask = (
    f"decode | resize({c.res}) | fmt('answer en {{question}}', out='prefix')"
  )
  c.pp = f"{ask} | lower('answers') | cycle('answers', out='suffix')"

  # The recipe.
  c.total, c.label_smoothing = "3ep", 0.1
  c.batch_size = base.at(c, {224: 256, 448: 128, 896: 32})
  c.lr, c.wd = base.at(c, {224: (1e-5, 1e-6), 896: (3e-6, 3e-7)})

  # What is measured.
  reported = base.published(c, anls={224: 0.6329, 448: 0.8182, 896: 0.8440})
  val = dict(split="val", every="10%", published=reported)
  base.held_out(c, "val", metric="anls", **val)
  base.held_out(c, "nll", metric="perplexity", split="val", every="5%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=ask,
    submit="stvqa",
    every=0,
    published=reported,
  )
  return c
