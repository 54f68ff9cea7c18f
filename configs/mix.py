r"""The mixture for interactive use in miniature: what the model `nano` is.

python -m pg.train --config configs/mix.py --workdir runs/mix

Goes on from a run of configs/stage2_448.py:size=nano_2m,scenes=free,res=96, by
default runs/stage2_448, on the tasks that people ask for, with a learning rate
that ends at zero. `scale=0.1` is a tenth of the examples. Of released sizes it
is the mixture of their transfers: transfers/mix.py.
"""

from configs import pretraining, stage2_448

# Task of pg/data/synthetic/shapes.py -> share of the examples.
WEIGHTS = dict(
  caption=0.25,
  caption_de=0.02,
  caption_es=0.02,
  caption_zh=0.02,
  ocr=0.10,
  answer=0.12,
  yesno=0.10,
  count=0.08,
  question=0.02,
  detect=0.09,
  detect_one=0.06,
  segment=0.10,
  grounded=0.02,
)


def get_config(arg=None):
  how = dict(size="nano_2m", scenes="free", res=96)
  c = pretraining.get(arg, 1, stage2_448.WEIGHTS, "runs/stage2_448", **how)
  if pretraining.SIZES[c.arg.size].decoder:
    raise ValueError(
      f"size={c.arg.size}: the mixture of released sizes is transfers/mix.py"
    )
  for name, weight in WEIGHTS.items():
    c.data[name].weight = weight
  c.seed = 3  # rows in another order than the stages'

  # The recipe: from the weights alone.
  c.init_optimizer = False
  c.total = pretraining.examples(c, 0.32)
  c.lr, c.warmup, c.schedule = 1.5e-3, "2%", ((".*", "linear"),)

  # Pairs of colour and shape, and wordings, that training never shows.
  for task, split in (("caption", "combo"), ("answer", "template")):
    c.evals[f"{task}_{split}"] = dict(c.evals[task], split=split)
  return c
