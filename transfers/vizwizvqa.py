r"""VizWiz-VQA: questions that blind people asked about photos they took.

Reported for PaliGemma 3B (test-std): 73.7 at 224 px, 75.52 at 448 px.

python -m scripts.prepare.vizwizvqa --raw DIR --out data/vizwizvqa
python -m pg.train --config transfers/vizwizvqa.py --workdir runs/vizwizvqa

The test answers are not public: submissions/ has the file for the server. With
`tune` val is held out; `metric="vizwiz"` scores it as the server does, while
`soft`, as in the published recipe, does not normalize answers.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=48, tune=False)

  # What goes in, what should come out. Some questions have empty answers only.
  c.data = base.prepared(
    c, "vizwizvqa", "train" if c.arg.tune else "train + val"
  )
  prompt = "fmt('answer en {question}', out='prefix')"
  answer = f"keep_if('answers') | {prompt} | cycle('answers', out='suffix')"
  c.pp = f"decode | resize({c.res}) | {answer}"
  image = f"decode | resize({c.res}, antialias=False)"  # evaluated so

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 256, 1e-5, 0.0

  # What is measured.
  reported = base.published(c, acc={224: 0.737, 448: 0.7552})
  base.held_out(
    c,
    "val",
    metric="soft",
    split="val",
    pp=f"{image} | {answer}",
    every="10%",
    published=reported,
  )
  base.held_out(c, "nll", metric="perplexity", split="val", every="12.5%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=f"{image} | {prompt}",
    submit="vizwiz",
    every=0,
    published=reported,
  )
  return c
