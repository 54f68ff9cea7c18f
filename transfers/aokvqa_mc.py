r"""A-OKVQA, multiple choice: four answers to choose from, all in the prompt.

Reported for PaliGemma 3B (test): 76.37 at 224 px, 76.90 at 448 px; on val,
where val is not trained on (`tune`): 78.5 and 80.3.

python -m scripts.prepare.aokvqa --raw DIR --out data/aokvqa
python -m pg.train --config transfers/aokvqa_mc.py --workdir runs/aokvqa_mc

The test answers are not public: submissions/ has the file for the server.
aokvqa_da.py has the command for one file with direct answers, too.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(arg, data="data", text_len=128, tune=False)

  # What goes in, what should come out. Both spaces are published.
  c.data = base.prepared(c, "aokvqa", "train" if c.arg.tune else "train + val")
  prompt = (
    f"decode | resize({c.res})"
    " | rename('multiple_choice_possible_answers', out='options')"
    " | join('options', ' \\t ', out='shown')"
    " | fmt('answer en  {question} choose from: {shown}', out='prefix')"
  )
  right = "pick('options', 'multiple_choice_correct_idx', out='suffix')"
  c.pp = f"{prompt} | {right}"

  # The recipe.
  c.total, c.batch_size, c.lr, c.wd = "15ep", 128, 5e-6, 0.0

  # What is measured.
  base.held_out(
    c,
    "val",
    metric="exact",
    split="val",
    every="25%",
    published=base.published(c, exact={224: 0.785, 448: 0.803}),
  )
  base.held_out(c, "nll", metric="perplexity", split="val", every="25%")
  c.evals.test = dict(
    metric="none",
    split="test",
    pp=prompt,
    submit="aokvqa_mc",
    every=0,
    published=base.published(c, exact={224: 0.7637, 448: 0.7690}),
  )
  return c
