r"""COCO captions: a sentence about a photo. Five of them are the references.

Reported for PaliGemma 3B, CIDEr (Karpathy's val): 141.92 at 224 px, 144.60 at
448 px. The same model on nocaps (val): 121.72 and 123.58.

python -m scripts.prepare.cococap --raw DIR --out data/cococap
python -m pg.train --config transfers/cococap.py:res=448 --workdir runs/cococap

nocaps is evaluated where `scripts.prepare.nocaps` was run; captions of its test
are not public. With `tune` 2 % of train are held out; as our files are in the
order of the release, not those that were for the published recipe. Stripping
captions is ours: one in eight ends in white space.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train[:98%] + restval" if c.arg.tune else "train + restval"
  c.data = base.prepared(c, "cococap", split)
  prompt = (
    f"decode | resize({c.res}, antialias=False)"
    " | copy('image/id', out='image_id') | fmt('caption en', out='prefix')"
  )
  answer = " | strip('answers') | cycle('answers', out='suffix')"
  c.pp = f"flatten | {prompt} | rename('captions/text', out='answers'){answer}"

  # The recipe. One of the captions of a photo in each epoch.
  c.total, c.batch_size, c.lr, c.wd = "5ep", 256, 1e-5, 1e-6

  # What is measured.
  captions = dict(metric="cider", every="10%", num_beams=2)
  c.evals.val = dict(
    captions,
    split="val",
    submit="coco_captions",
    published=base.published(c, cider={224: 1.4192, 448: 1.4460}),
  )
  if c.arg.tune:
    c.evals.minival = dict(captions, split="train[-2%:]")
  c.evals.nll = dict(metric="perplexity", split="val", every="10%")
  c.evals.nocaps = dict(
    captions,
    **base.prepared(c, "nocaps", "val"),
    pp=f"{prompt} | rename('texts', out='answers'){answer}",
    optional=True,
    published=base.published(c, cider={224: 1.2172, 448: 1.2358}),
  )
  c.evals.nocaps_test = dict(
    metric="none",
    **base.prepared(c, "nocaps", "test"),
    pp=prompt,
    num_beams=2,
    submit="nocaps",
    every=0,
    optional=True,
  )
  return c
