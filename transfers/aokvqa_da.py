r"""A-OKVQA, direct answer: questions that need knowledge and common sense.

Reported for PaliGemma 3B (test): 61.85 at 224 px, 63.22 at 448 px; on val,
where val is not trained on (`tune`): 61.1 and 65.7.

python -m scripts.prepare.aokvqa --raw DIR --out data/aokvqa
python -m pg.train --config transfers/aokvqa_da.py --workdir runs/aokvqa_da

The test answers are not public: submissions/ has the file for the server. One
file with the choices of aokvqa_mc, too, comes from the predictions of both:

python -m pg.evaluate --out aokvqa.json --submit aokvqa_da aokvqa_mc \
    --predictions runs/aokvqa_da/predictions/test-* \
    runs/aokvqa_mc/predictions/test-*

Scores leave questions out that are marked as difficult, as the server does; the
published scores on val may not have.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=32, tune=False)

  # What goes in, what should come out.
  c.data = base.prepared(c, "aokvqa", "train" if c.arg.tune else "train + val")
  prompt = (
    f"decode | resize({c.res}) | fmt('answer en {{question}}', out='prefix')"
  )
  c.pp = f"{prompt} | cycle('direct_answers', out='suffix')"

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "10ep", 128, 5e-6, 0.0

  # What is measured.
  base.held_out(
    c,
    "val",
    metric="soft",
    split="val",
    pp="keep_if('direct_answer_is_difficult', False)"
    f" | rename('direct_answers', out='answers') | {prompt}",
    every="25%",
    published=base.published(c, acc={224: 0.611, 448: 0.657}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val", every="25%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=prompt,
    submit="aokvqa_da",
    every=0,
    published=base.published(c, acc={224: 0.6185, 448: 0.6322}),
  )
  return c
