"""Every key that a run has, with its default: transfers state the difference.

`get` returns a locked config: setting a key that is not here is an error.
`forkme.py` spells all of them out, with comments.
"""

import ml_collections
from ml_collections import config_dict

from pg import config


def duration(value):
  """Makes a field for a number of steps or a text such as "10ep"."""
  return config_dict.FieldReference(value, field_type=object)


def get(
  arg=None, *, model=None, res=224, text_len=128, lora=0, data=None, **more
):
  """Returns the base config.

  Args:
    arg: str or None, the config's argument; `model`, `res` and `lora` (the rank
      of adapters) are understood everywhere.
    model: str, default variant; None is pg1_3b for a transfer, whose published
      scores are its, else pg2_3b.
    res: int, default resolution, pixels per side.
    text_len: int, text positions.
    lora: int, default rank of adapters; 0 trains the weights.
    data: str, the folder of prepared data; with it there are the arguments
      `data`, another folder, and `init`.
    **more: further arguments that a config understands, with defaults; read
      them from `c.arg`. `init` makes it a transfer: "" starts it from the
      released weights of its model and resolution, else it names weights.
  """
  if data is not None:
    more = dict(data=data, init="", **more)
  model = model or ("pg1_3b" if "init" in more else "pg2_3b")
  arg = config.arguments(arg, model=model, res=res, lora=lora, **more)
  c = ml_collections.ConfigDict(dict(arg=arg, res=arg.res, text_len=text_len))
  c.seed = 0
  c.length_window = 1
  c.num_images = 1
  c.blind = False
  c.prompt = "full"
  c.tokenizer = ""
  c.init = ""
  c.init_optimizer = False
  c.dont_load = ()
  if "init" in arg:
    c.init = arg.init or released(arg.model, arg.res)

  c.model = dict(
    variant=arg.model,
    dropout=0.0,
    final_softcap=0.0,
    window=config_dict.placeholder(int),
    dtype="auto",
    remat="nothing",
  )

  c.lora = dict(
    rank=arg.lora,
    targets=".*",
    alpha=16.0,
    dropout=0.0,
    rank_stabilized=False,
    dora=False,
    lr_mult=10.0,
  )

  c.data = ml_collections.ConfigDict()
  c.pp = f"decode | resize({arg.res})"

  c.input = dict(
    num_workers=0,
    num_threads=4,
    prefetch=8,
    cache="",
    cache_gb=1.0,
    cache_images="",
    max_bytes=2**28,
    max_pixels=89_478_485,
    private_hosts=False,
  )
  c.bad = dict(policy="raise", max_fraction=0.01)

  c.total = duration("1ep")
  c.batch_size = 256
  c.num_microbatches = 1
  c.lr = 1e-5
  c.wd = 0.0
  c.label_smoothing = 0.0
  c.warmup = duration("5%")
  c.schedule = ((".*", "cosine"),)
  c.lr_mult = ((".*", 1.0),)
  c.wd_mult = ((".*/kernel", 1.0), (".*", 0.0))
  c.grad_clip = 1.0
  c.example_clip = 0.0
  c.optimizer = "adam"
  c.moment_dtype = "float32"
  c.frozen_dtype = "float32"
  c.ema = 0.0
  c.nonfinite = dict(policy="stop", max_in_row=10)
  c.b1, c.b2 = 0.9, 0.999

  c.mesh = dict(fsdp=-1)
  c.sharding = ((".*", "fsdp"),)
  c.grad_dtype = "float32"

  c.log_every = 50
  c.save_every = duration(1000)
  c.max_checkpoints = 1
  c.wandb = ""
  c.best = ""
  c.score_init = False
  c.evals = ml_collections.ConfigDict()
  c.lock()
  c.data.unlock()
  c.evals.unlock()
  return c


def released(model, res):
  """Returns the name of the released weights to start a transfer from.

  Args:
    model: str, the variant; small ones have none: "".
    res: int; a resolution between the released ones starts from the lower.
  """
  names = dict(
    pg1_3b="paligemma-3b",
    pg2_3b="paligemma2-3b",
    pg2_10b="paligemma2-10b",
    pg2_28b="paligemma2-28b",
  )
  if model not in names:
    return ""
  return f"hf://google/{names[model]}-pt-{_nearest((224, 448, 896), res)}"


def prepared(c, name, split):
  """Returns the spec of data that `scripts/prepare/<name>.py` made.

  Args:
    c: the config of a transfer.
    name: str, the preparation.
    split: str, split syntax.
  """
  return dict(source="prepared", path=f"{c.arg.data}/{name}", split=split)


def at(c, values):
  """Returns the value for the resolution of `c`.

  Args:
    c: the config.
    values: {resolution: value}; one that is not there has the value of the next
      lower one, or of the lowest.
  """
  return values[_nearest(values, c.res)]


def published(c, **scores):
  """Returns {score: what a paper reports}, as far as the model was evaluated.

  Args:
    c: the config.
    **scores: score -> {resolution: value}, of PaliGemma 3B, or
      {(model, resolution): value}; in the unit of our metrics.
  """
  keys = [(c.arg.model, c.res), *[c.res] * (c.arg.model == "pg1_3b")]
  return {
    score: values[key]
    for score, values in scores.items()
    for key in keys
    if key in values
  }


def held_out(c, name, *, published=None, **how):
  """Adds an evaluator on data that only `tune` holds out.

  Without `tune` they are trained on, as for the published scores: then its name
  begins with "seen_" and nothing published stands beside it.

  Args:
    c: the config of a transfer.
    name: str, of the evaluator where its data are held out.
    published: dict of scores, or None.
    **how: its other keys.
  """
  if c.arg.tune:
    c.evals[name] = dict(how, published=published or {})
  else:
    c.evals[f"seen_{name}"] = how


def overfit(c, split="all"):
  """Trains a config on its first rows alone and scores these, where asked to.

  `c.arg.overfit` is how many, 0 changes nothing. A model that does not learn
  32 rows by heart is not connected to its data. The step is that of the real
  run; all evaluators read the same rows, before training, too, and are called
  "seen_".

  Args:
    c: the config of a transfer, with one dataset.
    split: str, the split whose first rows these are.

  Raises:
    ValueError: a negative number, several datasets, or a split that is a slice
      or a sum.
  """
  num = c.arg.overfit
  if not num:
    return
  if num < 0:
    raise ValueError(f"overfit={num}: wanted a number of rows, 0 for all")
  if not isinstance(c.data.get("source"), str):
    raise ValueError("overfit takes rows of one dataset; c.data has several")
  if set(split) & set("[+"):
    raise ValueError(f"overfit takes the first rows of one split, got {split}")
  named = "split" in c.data or c.data.source == "coco"
  path = c.data.path if named else dict(all=c.data.path)
  c.data = dict(c.data, path=path, split=f"{split}[:{num}]")
  c.evals = {
    f"seen_{name.removeprefix('seen_')}": _inherited(how)
    for name, how in c.evals.items()
  }
  total = max(200, -(-100 * num // c.batch_size))
  c.update(total=total, score_init=True, save_every="100%")
  c.log_every = min(c.log_every, 10)


def _inherited(how):
  """Returns an evaluator that reads the training data, four times in a run."""
  data = ("source", "path", "image_root", "split")
  return {k: x for k, x in how.items() if k not in data} | dict(every="25%")


def _nearest(known, res):
  return max((r for r in known if r <= res), default=min(known))
