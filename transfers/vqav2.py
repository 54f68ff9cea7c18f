r"""VQAv2: questions about photos, answered in a word or two.

Reported for PaliGemma 3B (test-std): 83.19 at 224 px, 85.64 at 448 px. The same
model on POPE: 87.80 random, 85.87 popular, 84.27 adversarial (448 px: 88.23,
86.77, 85.90); pairs of MMVP: 47.33 (45.33).

python -m scripts.prepare.vqav2 --raw DIR --out data/vqav2
python -m pg.train --config transfers/vqav2.py:res=448 --workdir runs/vqav2

POPE and MMVP are evaluated where `scripts.prepare.pope` and `.mmvp` were run.
With `tune` the last 10,240 questions of val are held out. The test answers are
not public: submissions/ has the file for the server. No source says how POPE
and MMVP were asked: here as all other questions, and in MMVP the text of the
right option is wanted.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  split = "train + val[:-10240]" if c.arg.tune else "train + val"
  c.data = base.prepared(c, "vqav2", split)
  image = f"decode | resize({c.res})"
  prompt = " | fmt('answer en {question_text}', out='prefix')"
  c.pp = f"{image}{prompt} | cycle('answers', out='suffix')"

  # The recipe.
  c.total, c.batch_size = "10ep", 256
  c.lr, c.wd = 1e-5, base.at(c, {224: 1e-6, 448: 0.0})

  # What is measured.
  reported = base.published(c, acc={224: 0.8319, 448: 0.8564})
  minival = dict(split="val[-10240:]", every="25%")
  base.held_out(c, "val", metric="vqav2", **minival, published=reported)
  base.held_out(c, "nll", metric="perplexity", **minival)
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=image + prompt,
    submit="vqav2",
    every=0,
    published=reported,
  )
  ask = (
    " | fmt('answer en {question}', out='prefix')"
    " | copy('answer', out='suffix')"
  )
  c.evals.pope = dict(
    metric="pope",
    **base.prepared(c, "pope", "random + popular + adversarial"),
    pp=f"decode | resize({c.res}, antialias=False){ask}",
    every=0,
    optional=True,
    published=base.published(
      c,
      **{
        "acc/random": {224: 0.8780, 448: 0.8823},
        "acc/popular": {224: 0.8587, 448: 0.8677},
        "acc/adversarial": {224: 0.8427, 448: 0.8590},
      },
    ),
  )
  c.evals.mmvp = dict(
    metric="mmvp",
    **base.prepared(c, "mmvp", "test"),
    pp=image + ask,
    every=0,
    optional=True,
    published=base.published(c, **{"acc/pairs": {224: 0.4733, 448: 0.4533}}),
  )
  return c
