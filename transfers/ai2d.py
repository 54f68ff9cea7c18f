r"""AI2D: multiple choice about diagrams, all choices in the prompt.

Reported for PaliGemma 3B (test): 72.12 at 224 px, 73.28 at 448 px.

python -m scripts.prepare.ai2d --raw DIR --out data/ai2d --format array_record
python -m pg.train --config transfers/ai2d.py:res=448 --workdir runs/ai2d

With `tune` the last 1,024 questions are held out; as our files are in the order
of diagrams, they are not those of the published recipe.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=128, tune=False)

  # What goes in, what should come out. Both spaces are published.
  c.data = base.prepared(c, "ai2d", "train[:-1024]" if c.arg.tune else "train")
  ask = (
    "rename('possible_answers', out='options')"
    " | join('options', ' \\t ', out='shown')"
    " | fmt('answer en  {question} choose from: {shown}', out='prefix')"
    " | copy('answer', out='suffix')"
  )
  c.pp = f"decode | resize({c.res}) | {ask}"
  plain = f"decode | resize({c.res}, antialias=False) | {ask}"  # evaluated so

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 256, 1e-5, 1e-6

  # What is measured; the choices say which letters are large.
  minival = dict(split="train[-1024:]", every="12.5%")
  if c.arg.tune:
    c.evals.minival = dict(metric="exact", pp=plain, **minival)
  base.held_out(c, "nll", metric="perplexity", **minival)
  c.evals.test = dict(
    metric="exact",
    split="test",
    pp=plain,
    every="12.5%",
    published=base.published(c, exact={224: 0.7212, 448: 0.7328}),
  )
  return c
