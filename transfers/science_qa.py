r"""ScienceQA: multiple choice of school science, questions with an image.

Reported for PaliGemma 3B (test): 95.39 at 224 px, 95.93 at 448 px, both with
the image tower frozen and without explanations.

python -m scripts.prepare.science_qa --raw DIR --out data/science_qa
python -m pg.train --config transfers/science_qa.py --workdir runs/science_qa

Choices are shuffled in training alone. `tune` trains without val.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", res=448, text_len=512, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(
    c, "science_qa", "train" if c.arg.tune else "train + val"
  )
  image = f"decode | resize({c.res}, antialias=False)"
  c.pp = f"{image} | shuffle_options('choices', 'answer') | science_qa()"
  in_order = f"{image} | science_qa()"

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "20ep", 128, 1e-5, 0.0
  c.schedule = (("img/.*", None), (".*", "cosine"))

  # What is measured.
  val = dict(split="val", pp=in_order, every="12.5%")
  if c.arg.tune:
    c.evals.val = dict(metric="scienceqa", **val)
  base.held_out(c, "nll", metric="perplexity", **val)
  c.evals.test = dict(
    metric="scienceqa",
    split="test",
    pp=in_order,
    every="12.5%",
    published=base.published(c, acc={224: 0.9539, 448: 0.9593}),
  )
  return c
