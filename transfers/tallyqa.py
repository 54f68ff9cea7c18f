r"""TallyQA: how many are there? Answers are numbers in digits.

Reported for PaliGemma 3B (test), simple / complex: 81.72 / 69.56 at 224 px,
84.86 / 72.27 at 448 px. The same model on CountBenchQA: 81.9 and 83.1.

python -m scripts.prepare.tallyqa --raw DIR --out data/tallyqa
python -m pg.train --config transfers/tallyqa.py:res=448 --workdir runs/tallyqa

CountBenchQA is evaluated where `scripts.prepare.countbenchqa` was run; that it
is asked like the other questions is ours. There is no val: `tune` holds the
last 5 % of train out.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "tallyqa", "train[:-5%]" if c.arg.tune else "train")
  prompt = (
    f"decode | resize({c.res}) | fmt('answer en {{question}}', out='prefix')"
  )
  c.pp = f"{prompt} | fmt('{{answer}}', out='suffix')"

  # The recipe.
  c.total, c.batch_size = "2ep", 256
  c.lr, c.wd = base.at(
    c, {224: (1e-5, 0.0), 448: (1e-5, 1e-6), 896: (7e-6, 7e-7)}
  )

  # What is measured.
  if c.arg.tune:
    c.evals.val = dict(metric="tallyqa", split="train[-5%:]", every="10%")
  c.evals.nll = dict(metric="perplexity", split="test[-5%:]", every="10%")
  reported = {
    "acc/simple": {224: 0.8172, 448: 0.8486},
    "acc/complex": {224: 0.6956, 448: 0.7227},
  }
  c.evals.test = dict(
    metric="tallyqa",
    split="test",
    every="25%",
    published=base.published(c, **reported),
  )
  c.evals.countbenchqa = dict(
    metric="tallyqa",
    **base.prepared(c, "countbenchqa", "huggingface"),
    pp=f"{prompt} | fmt('{{number}}', out='suffix')",
    every="10%",
    optional=True,
    published=base.published(c, acc={224: 0.819, 448: 0.831}),
  )
  return c
