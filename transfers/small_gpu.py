r"""Fine-tunes the 3B on your own examples with one small GPU: plain descent.

One JSON object per line, image paths relative to the file:

  {"image": "images/7.jpg", "suffix": "a red bus"}

python -m pg.train --workdir runs/mine \
  --config transfers/small_gpu.py:train=data/train.jsonl,val=data/val.jsonl

Two published ways to do without an optimizer's memory:

  card=t4  big_vision's Colab notebook: of the decoder only attention is
           trained, everything else is frozen; lr 0.03, 64 steps of 8, warm-up
           of 10 %, gradients are not clipped, texts in lower case.
  card=l4  its config vertexai_l4: everything is trained; lr 0.1, one epoch in
           steps of 4, warm-up of 5 %, gradients are clipped.

Of `t4` what is frozen is kept in float16, as in the notebook: the step compiled
for an H200 takes 7.3 GiB at its peak (docs/fit.md), and never ran on a card. Of
`l4` all 2.92 G parameters are float32 (11.7 GB) and so are their gradients: of
24 GB, 23.4 are taken before any activation. An adapter takes less than either
and has an optimizer: transfers/lora.py.
"""

from pg import config
from transfers import base


def get_config(arg=None):
  c = base.get(
    arg,
    init="",
    text_len=128,
    train="train.jsonl",
    val="",
    prefix="caption en",
    card="t4",
    overfit=0,
  )
  attention_only = config.lookup({"t4": True, "l4": False}, c.arg.card, "card")

  # What goes in, what should come out.
  c.data = dict(source="jsonl", path=c.arg.train, keys=("suffix",))
  prompt = f" | fmt({c.arg.prefix!r}, out='prefix')"
  c.pp = f"decode(exif=True) | resize({c.res}){prompt}"
  c.input.cache = "raw"

  # The recipe.
  c.optimizer, c.wd = "sgd", 0.0
  if attention_only:
    c.pp += " | lower('suffix')"
    c.total, c.batch_size, c.lr = "512 ex", 8, 0.03
    c.warmup, c.grad_clip = "10%", 0.0
    c.schedule = (("llm/layers/attn/.*", "cosine"), (".*", None))
    c.frozen_dtype = "float16"
  else:
    c.total, c.batch_size, c.lr = "1ep", 4, 0.1

  # What is measured, if there are examples for it.
  c.log_every, c.save_every = 1, "100%"
  if c.arg.val or c.arg.overfit:
    how = dict(path=c.arg.val, every="25%")
    c.evals.val = dict(metric="cider", **how)
    c.evals.nll = dict(metric="perplexity", **how)
  base.overfit(c)
  return c
