r"""VATEX: captions of clips of ten seconds.

Reported for PaliGemma 3B at 224 px: CIDEr 79.73 (test).

python -m scripts.prepare.vatex_cap --raw DIR --out data/vatex_cap
python -m pg.train --config transfers/vatex_cap.py --workdir runs/vatex_cap

The scores that PaliGemma reports are of the clips that were there on 2024-04-28
(24,899 clips to train on, 5,135 to test on): yours, of others, are not exactly
comparable. Frames are every 7th of the video's own, in training from a random
one on, else from the first; the reader that PaliGemma used is not public. That
test is the public one is by its size; submissions/ has the file for the server.
With `tune` val is not trained on.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=64, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "vatex_cap", split)
  c.num_images = 16
  ask = (
    f"resize({c.res}, antialias=False)"
    " | fmt('caption en', out='prefix') | copy('captions', out='answers')"
    " | choice('captions', out='suffix')"
  )
  c.pp = f"video(16, 7, random=True) | {ask}"
  first = f"video(16, 7) | {ask}"  # evaluated from the first frame on
  c.bad.policy = "skip"  # ours: some downloads do not decode

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 128, 3e-6, 3e-7

  # What is measured.
  how = dict(pp=first, every="25%")
  base.held_out(c, "val", metric="cider", split="val", **how)
  c.evals.test = dict(
    metric="cider",
    split="test",
    pp=first,
    submit="vatex",
    every=0,
    published=base.published(c, cider={224: 0.7973}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val[:1024]", **how)
  return c
