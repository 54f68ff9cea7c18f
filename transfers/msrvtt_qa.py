r"""MSRVTT-QA: questions about clips of about 15 seconds, answered in a word.

Reported for PaliGemma 3B at 224 px: accuracy 50.09 (test).

python -m scripts.prepare.msrvtt_qa --raw DIR --out data/msrvtt_qa
python -m pg.train --config transfers/msrvtt_qa.py --workdir runs/msrvtt_qa

The scores that PaliGemma reports are of the clips that were there on 2024-04-28
(122,016 questions to train on, 51,680 to test on): yours, of others, are not
exactly comparable. Frames are every 9th of the video's own, in training from a
random one on, else from the first; the reader that PaliGemma used is not
public. With `tune` val is not trained on.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=64, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "msrvtt_qa", split)
  c.num_images = 16
  ask = (
    f"resize({c.res}, antialias=False)"
    " | fmt('answer en {question}', out='prefix')"
    " | copy('answer', out='suffix')"
  )
  c.pp = f"video(16, 9, random=True) | {ask}"
  first = f"video(16, 9) | {ask}"  # evaluated from the first frame on
  c.bad.policy = "skip"  # ours: some downloads do not decode

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "1ep", 128, 1e-5, 0.0
  c.schedule = (("img/.*", None), (".*", "cosine"))

  # What is measured.
  how = dict(pp=first, every="25%")
  base.held_out(c, "val", metric="exact", split="val", **how)
  c.evals.test = dict(
    metric="exact",
    split="test",
    pp=first,
    every=0,
    published=base.published(c, exact={224: 0.5009}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val[:1024]", **how)
  return c
