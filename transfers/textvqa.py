r"""TextVQA: questions about text in photos.

Reported for PaliGemma 3B (test-std): 55.47 at 224 px, 73.15 at 448 px, 76.48 at
896 px.

python -m scripts.prepare.textvqa --raw DIR --out data/textvqa
python -m pg.train --config transfers/textvqa.py:res=896 --workdir runs/textvqa

`tune` trains without val. The test answers are not public: submissions/ has the
file for the server. The metric is the one of the server; big_vision takes that
of VQAv2, which normalizes answers in another way.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "textvqa", "train" if c.arg.tune else "train + val")
  ask = (
    f"decode | resize({c.res}) | fmt('answer en {{question}}', out='prefix')"
  )
  c.pp = f"{ask} | cycle('answers', out='suffix')"

  # The recipe.
  c.batch_size, c.lr = 256, 3e-6
  c.total = base.at(c, {224: "5ep", 448: "10ep"})
  c.wd = base.at(c, {224: 0.0, 448: 3e-7, 896: 0.0})

  # What is measured.
  reported = base.published(c, acc={224: 0.5547, 448: 0.7315, 896: 0.7648})
  val = dict(split="val", every="12.5%", published=reported)
  base.held_out(c, "val", metric="textvqa", **val)
  base.held_out(c, "nll", metric="perplexity", split="val", every="5%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=ask,
    submit="textvqa",
    every=0,
    published=reported,
  )
  return c
