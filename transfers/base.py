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


def get(arg=None, *, model="pg2_3b", res=224, text_len=128, **more):
  """Returns the base config.

  Args:
    arg: str or None, the config's argument; `model` and `res` are understood
      everywhere.
    model: str, default variant.
    res: int, default resolution, pixels per side.
    text_len: int, text positions.
    **more: further arguments that a config understands, with defaults; read
      them from `c.arg`.
  """
  arg = config.arguments(arg, model=model, res=res, **more)
  c = ml_collections.ConfigDict(dict(arg=arg, res=arg.res, text_len=text_len))
  c.seed = 0
  c.num_images = 1
  c.blind = False
  c.tokenizer = ""
  c.init = ""

  c.model = dict(
    variant=arg.model,
    dropout=0.0,
    final_softcap=0.0,
    window=config_dict.placeholder(int),
    dtype="auto",
    remat="nothing",
  )

  c.data = ml_collections.ConfigDict()
  c.pp = f"decode | resize({arg.res})"

  c.input = dict(workers=0, threads=4, ahead=8, cache="", cache_gb=1.0)
  c.bad = dict(policy="raise", max_share=0.01)

  c.total = duration("1ep")
  c.batch_size = 256
  c.lr = 1e-5
  c.wd = 0.0
  c.smoothing = 0.0
  c.warmup = duration("5%")
  c.schedule = ((".*", "cosine"),)
  c.lr_mult = ((".*", 1.0),)
  c.wd_mult = ((".*/kernel", 1.0), (".*", 0.0))
  c.grad_clip = 1.0
  c.b1, c.b2 = 0.9, 0.999

  c.mesh = dict(fsdp=-1)
  c.sharding = ((".*", "fsdp"),)

  c.log_every = 50
  c.save_every = duration(1000)
  c.keep = 1
  c.evals = ml_collections.ConfigDict()
  c.lock()
  c.data.unlock()
  c.evals.unlock()
  return c
