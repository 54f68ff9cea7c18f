r"""ActivityNet Captions: captions of what happens in a part of a video.

Reported for PaliGemma 3B at 224 px: CIDEr 34.62 (test).

python -m scripts.prepare.activitynet_cap --raw DIR --out data/activitynet_cap
python -m pg.train --config transfers/activitynet_cap.py \
  --workdir runs/activitynet_cap

The scores that PaliGemma reports are of the clips that were there on 2024-04-28
(44,883 parts to train on, 13,982 to test on): yours, of others, are not exactly
comparable. Frames are every 30th of the video's own, in training from a random
one on, else from the first; the reader that PaliGemma used is not public. That
test is val_2 of the release is by its size. With `tune` val is not trained on.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=64, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "activitynet_cap", split)
  c.num_images = 16
  ask = (
    f"resize({c.res}, antialias=False)"
    " | fmt('caption en', out='prefix') | copy('captions', out='answers')"
    " | choice('captions', out='suffix')"
  )
  part = "16, 30, start='start', end='end'"
  c.pp = f"video({part}, random=True) | {ask}"
  first = f"video({part}) | {ask}"  # evaluated from the first frame on
  c.bad.policy = "skip"  # ours: some downloads do not decode

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "1ep", 128, 1e-5, 1e-6
  c.schedule = (("img/.*", None), (".*", "cosine"))

  # What is measured.
  how = dict(pp=first, every="25%")
  base.held_out(c, "val", metric="cider", split="val", **how)
  c.evals.test = dict(
    metric="cider",
    split="test",
    pp=first,
    every=0,
    published=base.published(c, cider={224: 0.3462}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val[:1024]", **how)
  return c
