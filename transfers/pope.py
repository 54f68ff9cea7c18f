r"""POPE: does a model see what is not there? Evaluation alone, of any weights.

Reported for PaliGemma 3B after VQAv2 and for the mix model, random / popular /
adversarial: 87.80 / 85.87 / 84.27 and 88.00 / 86.63 / 85.67 at 224 px,
88.23 / 86.77 / 85.90 and 89.37 / 88.40 / 87.47 at 448 px.

python -m scripts.prepare.pope --raw DIR --out data/pope
python -m pg.evaluate --config transfers/pope.py --checkpoint runs/vqav2

The published prompt is `{question}` by default; which one made the numbers is
not said: `:prefix=answer en {question}` is how VQAv2 is asked.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=48, prefix="{question}")
  c.data = base.prepared(c, "pope", "random + popular + adversarial")
  c.pp = (
    f"decode | resize({c.res}, antialias=False)"
    f" | fmt({c.arg.prefix!r}, out='prefix') | copy('answer', out='suffix')"
  )
  c.total, c.batch_size = 0, 256
  c.evals.pope = dict(
    metric="pope",
    published=base.published(
      c,
      **{
        "acc/random": {224: 0.8780, 448: 0.8823},
        "acc/popular": {224: 0.8587, 448: 0.8677},
        "acc/adversarial": {224: 0.8427, 448: 0.8590},
      },
    ),
  )
  return c
