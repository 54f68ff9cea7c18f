r"""RSVQA-LR: questions about satellite images, without those for a number.

Reported for PaliGemma 3B (test, mean over the types of questions): 92.65 at 224
px, 93.11 at 448 px.

python -m scripts.prepare.rsvqa_lr --raw DIR --out data/rsvqa_lr
python -m pg.train --workdir runs/rsvqa_lr \
  --config transfers/rsvqa_lr.py:res=448

`tune` trains without val.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(
    c, "rsvqa_lr", "train" if c.arg.tune else "train + val"
  )
  ask = (
    "lower('answers') | fmt('answer en {question}', out='prefix')"
    " | cycle('answers', out='suffix')"
  )
  c.pp = f"decode | resize({c.res}) | {ask}"
  plain = f"decode | resize({c.res}, antialias=False) | {ask}"  # evaluated so

  # The recipe.
  c.total, c.batch_size, c.lr, c.label_smoothing = "3ep", 256, 3e-6, 0.2

  # What is measured.
  reported = {"acc/mean_nonum": {224: 0.9265, 448: 0.9311}}
  val = dict(split="val", every="10%")
  base.held_out(c, "val", metric="rsvqa", pp=plain, **val)
  base.held_out(c, "nll", metric="perplexity", **val)
  c.evals.test = dict(
    metric="rsvqa",
    split="test",
    pp=plain,
    every="10%",
    published=base.published(c, **reported),
  )
  return c
