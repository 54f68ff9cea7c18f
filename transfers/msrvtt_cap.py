r"""MSR-VTT: captions of clips of about 15 seconds.

Reported for PaliGemma 3B at 224 px: CIDEr 70.54 (test).

python -m scripts.prepare.msrvtt_cap --raw DIR --out data/msrvtt_cap
python -m pg.train --config transfers/msrvtt_cap.py --workdir runs/msrvtt_cap

The scores that PaliGemma reports are of the clips that were there on 2024-04-28
(4,979 clips to train on, 2,094 to test on): yours, of others, are not exactly
comparable. Frames are every 9th of the video's own, in training from a random
one on, else from the first; the reader that PaliGemma used is not public. With
`tune` val is not trained on.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "msrvtt_cap", split)
  c.num_images = 16
  ask = (
    f"resize({c.res}, antialias=False)"
    " | fmt('caption en', out='prefix') | copy('captions', out='answers')"
    " | choice('captions', out='suffix')"
  )
  c.pp = f"video(16, 9, random=True) | {ask}"
  first = f"video(16, 9) | {ask}"  # evaluated from the first frame on
  c.bad.policy = "skip"  # ours: some downloads do not decode

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "20ep", 128, 1e-5, 0.0
  c.schedule = (("img/.*", None), (".*", "cosine"))

  # What is measured.
  how = dict(pp=first, every="25%")
  base.held_out(c, "val", metric="cider", split="val", **how)
  c.evals.test = dict(
    metric="cider",
    split="test",
    pp=first,
    every=0,
    published=base.published(c, cider={224: 0.7054}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val[:1024]", **how)
  return c
