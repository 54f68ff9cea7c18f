r"""COCO-35L: captions in 35 languages, translated from English; and XM3600.

Reported for PaliGemma 3B, CIDEr in English / mean of the others / of all: dev
139.2 / 115.8 / 116.4 at 224 px, 141.2 / 118.0 / 118.6 at 448 px (the paper has
113.7 and 115.8 for the others); XM3600, whose captions were written in their
language, 78.1 / 41.3 / 42.4 and 80.0 / 41.9 / 42.9.

python -m scripts.prepare.coco35l --raw DIR --out data/coco35l
python -m pg.train --config transfers/coco35l.py --workdir runs/coco35l

XM3600 is evaluated where `scripts.prepare.xm3600` was run. Captions of COCO-35L
are split into tokens, so that we take the references of XM3600 that are too;
no source says which the published scores are of. In languages without spaces
they depend on it: `captions` has the others.
"""

from transfers import base

LANGUAGES = (
  *("ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr"),
  *("he", "hi", "hr", "hu", "id", "it", "ja", "ko", "mi", "nl", "no", "pl"),
  *("pt", "ro", "ru", "sv", "sw", "te", "th", "tr", "uk", "vi", "zh"),
)
XM3600 = tuple(sorted([*LANGUAGES, "quz"]))
OFTEN = ("ar", "bn", "en", "id", "sw", "tr", "zh")


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32)

  # What goes in, what should come out. All languages are drawn alike.
  c.data = {
    language: base.prepared(c, "coco35l", f"train_{language}")
    for language in LANGUAGES
  }
  ask = (
    f"decode | resize({c.res}, antialias=False)"
    " | fmt('caption {language}', out='prefix')"
  )
  answer = " | cycle('answers', out='suffix')"
  c.pp = f"{ask} | rename('captions', out='answers'){answer}"

  # The recipe. Five times as many examples as one language has captions.
  c.total, c.batch_size = f"{5 * 566_435} ex", 256
  c.lr, c.wd = 1e-5, 1e-6

  # What is measured: all languages in the end, a few until then.
  reported = dict(
    dev={
      "cider/en": {224: 1.392, 448: 1.412},
      "cider/mean_no_en": {224: 1.158, 448: 1.180},
      "cider/mean": {224: 1.164, 448: 1.186},
    },
    xm3600={
      "cider/en": {224: 0.781, 448: 0.800},
      "cider/mean_no_en": {224: 0.413, 448: 0.419},
      "cider/mean": {224: 0.424, 448: 0.429},
    },
  )
  dev = [f"dev_{language}" for language in LANGUAGES]
  dev_often = [f"dev_{language}" for language in OFTEN]
  tokens = f"{ask} | rename('captions/tokenized', out='answers'){answer}"
  for name, data, often, splits, more in (
    ("dev", "coco35l", dev_often, dev, {}),
    ("xm3600", "xm3600", OFTEN, XM3600, dict(pp=tokens, optional=True)),
  ):
    c.evals[f"{name}_often"] = dict(
      metric="cider_languages",
      **base.prepared(c, data, " + ".join(often)),
      every="25%",
      end="75%",
      **more,
    )
    c.evals[name] = dict(
      metric="cider_languages",
      **base.prepared(c, data, " + ".join(splits)),
      every=0,
      published=base.published(c, **reported[name]),
      **more,
    )
  c.evals.nll = dict(
    metric="perplexity",
    **base.prepared(c, "coco35l", "dev_en[-5%:]"),
    every="5%",
  )
  return c
