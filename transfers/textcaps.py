r"""TextCaps: captions of photos that say what is written in them.

Reported for PaliGemma 3B, CIDEr (val): 127.48 at 224 px, 153.94 at 448 px.

python -m scripts.prepare.textcaps --raw DIR --out data/textcaps
python -m pg.train --config transfers/textcaps.py:res=448 \
  --workdir runs/textcaps

The model writes in lower case; CIDEr is without case. With `tune` 2 % of train
are held out; as our files are in the order of the release, not those that were
for the published recipe. Captions of test are not public: submissions/ has the
file for the server.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train[:98%]" if c.arg.tune else "train"
  c.data = base.prepared(c, "textcaps", split)
  prompt = (
    f"decode | resize({c.res}, antialias=False)"
    " | copy('image/id', out='image_id') | fmt('caption en', out='prefix')"
  )
  c.pp = (
    f"{prompt} | rename('texts', out='answers')"
    " | cycle('answers', out='suffix') | lower('suffix')"
  )

  # The recipe. One of the five captions of a photo in each epoch.
  c.total, c.batch_size, c.lr, c.wd = "5ep", 256, 1e-5, 1e-6

  # What is measured.
  captions = dict(metric="cider", every="10%", num_beams=3)
  c.evals.val = dict(
    captions,
    split="val",
    published=base.published(c, cider={224: 1.2748, 448: 1.5394}),
  )
  if c.arg.tune:
    c.evals.minival = dict(captions, split="train[-2%:]")
  c.evals.nll = dict(metric="perplexity", split="val", every="10%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=prompt,
    num_beams=3,
    submit="textcaps",
    every=0,
  )
  return c
