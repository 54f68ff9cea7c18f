r"""Adapts a released 3B to your own examples on one small card (LoRA).

python -m pg.train --workdir runs/mine \
  --config transfers/lora.py:train=data/train.jsonl,val=data/val.jsonl
python -m pg.predict --checkpoint runs/mine --image cat.jpg \
  --prompt "caption en"

The examples are those of forkme.py. The weights stay as they are, in bfloat16;
matrices of rank 8 beside them are trained, and alone saved (megabytes). Every
other transfer takes `lora=8`, too. With quantize=nf4, int4 or int8 the weights
are quantised as they are read (QLoRA): a quarter or half of the memory, and a
model that answers a little otherwise; its adapter is trained on that. With
overfit=32 the first 32 rows are learned by heart, to see that all is connected.
"""

from transfers import base


def get_config(arg=None):
  c = base.get(
    arg,
    model="pg1_3b",
    lora=8,
    quantize="",
    text_len=64,
    init="",
    train="train.jsonl",
    val="val.jsonl",
    overfit=0,
  )
  c.data = dict(source="jsonl", path=c.arg.train)
  c.pp = f"decode(exif=True) | resize({c.res})"

  # The recipe; values are ours. Nothing is lost in bfloat16 of released weights
  # that are stored so.
  c.frozen_dtype = c.arg.quantize or "bfloat16"
  c.total, c.batch_size = "5ep", 8
  c.lr, c.wd = 1e-5, 0.0  # adapters: 1e-4
  c.log_every, c.save_every = 10, "25%"

  # Evaluation inherits data and pp and states only the difference.
  c.evals.val = dict(metric="cider", path=c.arg.val, every="25%")
  c.evals.nll = dict(metric="perplexity", path=c.arg.val, every="25%")
  base.overfit(c)
  return c
