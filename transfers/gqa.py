r"""GQA: questions about what stands where and how it looks. Answers are words.

Reported for PaliGemma 3B (testdev balanced): 65.61 at 224 px, 67.03 at 448 px,
where the image tower was frozen. The same model on xGQA, in eight languages:
58.37 and 59.07 on average, 57.3 and 57.9 without English.

python -m scripts.prepare.gqa --raw DIR --out data/gqa
python -m pg.train --config transfers/gqa.py:res=448 --workdir runs/gqa

xGQA is evaluated where `scripts.prepare.xgqa` was run: questions are in the
language, and are asked with "answer en", for answers are English in all. With
`tune` all of val is held out.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train_balanced" if c.arg.tune else "train_balanced + val_balanced"
  c.data = base.prepared(c, "gqa", split)
  c.pp = (
    f"decode | resize({c.res}, antialias=False)"
    " | fmt('answer en {question}', out='prefix')"
    " | copy('answer', out='suffix')"
  )

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "1ep", 256, 1e-5, 0.0
  image_tower = base.at(c, {224: "cosine", 448: None})
  c.schedule = (("img/.*", image_tower), (".*", "cosine"))

  # What is measured.
  if c.arg.tune:
    c.evals.val = dict(metric="exact", split="val_balanced", every="12.5%")
  part = "val_balanced[-5%:]"
  base.held_out(c, "nll", metric="perplexity", split=part, every="25%")
  c.evals.testdev = dict(
    metric="exact",
    split="testdev_balanced",
    every=0,
    submit="gqa",
    published=base.published(c, exact={224: 0.6561, 448: 0.6703}),
  )
  languages = ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
  splits = " + ".join(f"test_zs_{language}" for language in languages)
  mean = {
    "exact/mean": {224: 0.5837, 448: 0.5907},
    "exact/mean_no_en": {224: 0.573, 448: 0.579},
  }
  c.evals.xgqa = dict(
    metric="exact_languages",
    **base.prepared(c, "xgqa", splits),
    every=0,
    optional=True,
    published=base.published(c, **mean),
  )
  return c
