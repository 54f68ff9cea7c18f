r"""The main job: a small PaliGemma learns to see, in minutes, on a laptop.

python -m pg.train --config configs/nano.py --workdir runs/nano

Scenes of coloured shapes are drawn as they are read; 1,797 handwritten digits
are real scans. Arguments: `full` mixes in every task (for longer runs), `blind`
hides all images (how far does text alone get?), `total=20000` sets the steps.
"""

from transfers import base

TASKS = dict(
  caption=0.35,
  answer=0.13,
  yesno=0.17,
  count=0.05,
  detect_one=0.10,
  segment=0.05,
  ocr=0.05,
)
FULL = dict(
  caption_de=0.05,
  caption_es=0.05,
  caption_zh=0.05,
  grounded=0.10,
  question=0.05,
  detect=0.20,
  refer=0.10,
  compare=0.10,
)


def get_config(arg=None):
  c = base.get(arg, model="nano", res=48, full=False, blind=False, total=2300)
  c.text_len = 28
  c.blind = c.arg.blind
  c.pp = "decode"

  # What goes in, what should come out.
  c.num_images = 2 if c.arg.full else 1
  tasks = {**TASKS, **FULL} if c.arg.full else TASKS
  for task, weight in tasks.items():
    c.data[task] = dict(source="shapes", task=task, res=c.res, weight=weight)
  c.data.digits = dict(source="digits", split="train", res=c.res, weight=0.15)

  # The recipe.
  c.total, c.batch_size = c.arg.total, 64
  c.lr, c.wd, c.b2 = 1.5e-3, 1e-5, 0.99
  c.warmup = min(50, c.total)
  c.model.remat = "everything"
  c.log_every, c.save_every = 20, "25%"

  # What is measured, on scenes and scans that training never shows.
  metric = dict(
    count="count",
    detect_one="detect",
    detect="detect",
    refer="detect",
    segment="segment",
  )
  test = dict(split="test", res=c.res)
  for task in tasks:
    c.evals[task] = dict(
      metric=metric.get(task, "exact"), source="shapes", task=task, **test
    )
  c.evals.digits = dict(metric="exact", source="digits", **test)
  if c.arg.full:  # the same boxes as COCO scores them
    c.evals.detect_ap = dict(
      metric="coco_bbox", source="shapes", task="detect", **test
    )
  # Colours on shapes, and wordings, that training never shows.
  for task, split in (("caption", "combo"), ("answer", "template")):
    c.evals[f"{task}_{split}"] = dict(
      metric="exact", source="shapes", task=task, split=split, res=c.res
    )
  c.evals.nll = dict(
    metric="perplexity", source="shapes", task="caption", **test, every="25%"
  )
  return c
