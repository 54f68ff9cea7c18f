r"""RefCOCO, RefCOCO+ and RefCOCOg: the mask of what a sentence means.

Reported for PaliGemma 3B (mean IoU, val of the three): 73.40, 68.32, 67.65 at
224 px; 75.57, 69.76, 70.17 at 448 px; 76.94, 72.18, 72.22 at 896 px.

python -m scripts.prepare.refcoco_seg --raw DIR --out data/refcoco_seg
python -m pg.train --config transfers/refcoco_seg.py --workdir runs/refcoco_seg

The prompt is the bare sentence, the answer a box and the codes of its mask. The
released weights speak the codes of vae-oid.npz, the default of `codec`, which
may also be a path. With `tune` 5 % of the images are held out. The crop that
`zic_mild` names in the published config is not public, and not here; the paper
finds a plain resize as good. Each epoch asks for another object of an image,
with any of its sentences, as published.
"""

from transfers import base

# (split, mean IoU at 224, 448 and 896 px): val is from big_vision's README, the
# others from table 1 of the paper.
SPLITS = (
  ("refcoco_val", 0.7340, 0.7557, 0.7694),
  ("refcoco_testA", 0.757, 0.779, 0.787),
  ("refcoco_testB", 0.707, 0.724, 0.739),
  ("refcocoplus_val", 0.6832, 0.6976, 0.7218),
  ("refcocoplus_testA", 0.719, 0.742, 0.761),
  ("refcocoplus_testB", 0.645, 0.645, 0.669),
  ("refcocog_val", 0.6765, 0.7017, 0.7222),
  ("refcocog_test", 0.682, 0.710, 0.727),
)


def get_config(arg=None):
  c = base.get(
    arg,
    res=448,
    text_len=48,
    data="data",
    tune=False,
    codec="gs://big_vision/paligemma/vae-oid.npz",
  )

  # What goes in, what should come out.
  split = "train[:-1220]" if c.arg.tune else "train"
  c.data = base.prepared(c, "refcoco_seg", split)
  image = f"decode | resize({c.res}, antialias=False)"
  one = (
    " | cycle(['boxes', 'segmentation', 'sentences'],"
    " out=['box', 'segmentation', 'these'])"
    " | choice('these', out='sentence')"
  )
  text = (
    " | fmt('{sentence}', out='prefix')"
    " | gather(['box'], out='boxes') | gather(['segmentation'], out='masks')"
    f" | encode_masks({c.arg.codec!r}) | pick('codes', 0, out='codes')"
    " | loc('box', codes='codes', out='suffix')"
  )
  c.pp = image + one + text

  # The recipe.
  c.total, c.batch_size = "100ep", base.at(c, {224: 256, 896: 64})
  c.lr, c.wd = base.at(c, {224: 3e-5, 448: 1e-5}), 0.0
  c.label_smoothing = 0.3
  c.model.dropout = base.at(c, {224: 0.1, 448: 0.0})

  # What is measured.
  for name, *scores in SPLITS:
    c.evals[name] = dict(
      metric="refcoco",
      split=name,
      pp=image + text,
      max_len=21,  # a box, its mask, eos
      every="20%" if name == "refcoco_val" else 0,
      published=base.published(c, miou=dict(zip((224, 448, 896), scores))),
    )
  part = "train[-1220:]"
  base.held_out(c, "nll", metric="perplexity", split=part, every="20%")
  return c
