r"""NLVR2: is a sentence true of two photos? Both go in, without a separator.

Reported for PaliGemma 3B (test, the public one): 90.02 at 224 px, 88.93 at
448 px. The same model on MaRVL, in five languages: 80.57 and 76.78 on average.

python -m scripts.prepare.nlvr2 --raw DIR --out data/nlvr2
python -m pg.train --config transfers/nlvr2.py --workdir runs/nlvr2

MaRVL is evaluated where `scripts.prepare.marvl` was run. No source says which
words the labels were: here those of the release, "True" and "False". `tune`
trains without dev.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=64, tune=False)

  # What goes in, what should come out.
  c.num_images = 2
  c.data = base.prepared(c, "nlvr2", "train" if c.arg.tune else "train + dev")
  c.pp = (
    f"decode | resize({c.res}, antialias=False)"
    " | fmt('answer en {sentence}', out='prefix')"
    " | copy('label', out='suffix')"
  )

  # The recipe.
  c.total = base.at(c, {224: "3ep", 448: "10ep"})
  c.batch_size = 256
  c.lr, c.wd = base.at(c, {224: (1e-5, 1e-6), 448: (3e-6, 3e-7)})

  # What is measured; `consistency` is over all pairs of photos of a sentence.
  if c.arg.tune:
    c.evals.dev = dict(metric="nlvr2", split="dev", every="10%")
  c.evals.test = dict(
    metric="nlvr2",
    split="test",
    every=0,
    published=base.published(c, acc={224: 0.9002, 448: 0.8893}),
  )
  languages = ("id", "sw", "ta", "tr", "zh")
  splits = " + ".join(f"test_{language}" for language in languages)
  c.evals.marvl = dict(
    metric="exact_languages",
    **base.prepared(c, "marvl", splits),
    every=0,
    optional=True,
    published=base.published(c, **{"exact/mean": {224: 0.8057, 448: 0.7678}}),
  )
  return c
