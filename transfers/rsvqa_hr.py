r"""RSVQA-HR: questions about aerial images, without those for a number.

Reported for PaliGemma 3B (mean over the types of questions), test / test_2, of
another city: 92.61 / 90.58 at 224 px, 92.79 / 90.54 at 448 px.

python -m scripts.prepare.rsvqa_hr --raw DIR --out data/rsvqa_hr
python -m pg.train --workdir runs/rsvqa_hr \
  --config transfers/rsvqa_hr.py:res=448

`tune` trains without val.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(
    c, "rsvqa_hr", "train" if c.arg.tune else "train + val"
  )
  ask = (
    "lower('answers') | fmt('answer en {question}', out='prefix')"
    " | cycle('answers', out='suffix')"
  )
  c.pp = f"decode | resize({c.res}) | {ask}"
  plain = f"decode | resize({c.res}, antialias=False) | {ask}"  # evaluated so

  # The recipe.
  c.total, c.batch_size, c.lr = "1ep", 256, 1e-5

  # What is measured; all but the perplexity take long.
  part = dict(split="val", num_examples=6400)
  base.held_out(c, "nll", metric="perplexity", **part, every="10%")
  base.held_out(c, "val", metric="rsvqa", split="val", pp=plain, every=0)
  reported = dict(
    test={224: 0.9261, 448: 0.9279},
    test_2={224: 0.9058, 448: 0.9054},
  )
  for split, means in reported.items():
    c.evals[split] = dict(
      metric="rsvqa",
      split=split,
      pp=plain,
      every=0,
      published=base.published(c, **{"acc/mean_nonum": means}),
    )
  return c
