r"""MSVD-QA: questions about short clips, answered in a word.

Reported for PaliGemma 3B at 224 px: accuracy 60.22 (test).

python -m scripts.prepare.msvd_qa --raw DIR --out data/msvd_qa
python -m pg.train --config transfers/msvd_qa.py --workdir runs/msvd_qa

The scores that PaliGemma reports are of the clips that were there on 2024-04-28
(29,777 questions to train on, 10,136 to test on): yours, of others, are not
exactly comparable. Frames are every 26th of the video's own, in training from a
random one on, else from the first; the reader that PaliGemma used is not
public. With `tune` val is not trained on.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=64, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "msvd_qa", split)
  c.num_images = 8
  ask = (
    f"resize({c.res}, antialias=False)"
    " | fmt('answer en {question}', out='prefix')"
    " | copy('answer', out='suffix')"
  )
  c.pp = f"video(8, 26, random=True) | {ask}"
  first = f"video(8, 26) | {ask}"  # evaluated from the first frame on
  c.bad.policy = "skip"  # ours: some downloads do not decode

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "1ep", 128, 3e-6, 3e-7

  # What is measured.
  how = dict(pp=first, every="25%")
  base.held_out(c, "val", metric="exact", split="val", **how)
  c.evals.test = dict(
    metric="exact",
    split="test",
    pp=first,
    every=0,
    published=base.published(c, exact={224: 0.6022}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val[:1024]", **how)
  return c
