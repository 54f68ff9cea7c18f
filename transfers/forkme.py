r"""Fine-tunes a checkpoint on your own examples: copy this file and change it.

One JSON object per line, image paths relative to the file:

  {"image": "images/7.jpg", "prefix": "caption en", "suffix": "a red bus"}

bash scripts/run.sh train --workdir runs/mine \
  --config transfers/forkme.py:train=data/train.jsonl,val=data/val.jsonl

By default it starts from `nano`, the small model that comes with pg. Every key
that a run has stands here; a test keeps them equal to those of `base.py`, which
all other transfers start from.
"""

import ml_collections

from pg import config
from transfers import base


def get_config(arg=None):
  # What can be said after the colon of --config; single keys are changed with
  # --config.key=value.
  arg = config.arguments(
    arg,
    train="train.jsonl",  # your examples
    val="val.jsonl",  # examples that are only looked at
    init="nano",  # weights by name: this is the model that comes with pg
    # pg1_3b, pg2_3b, pg2_10b, pg2_28b, nano, nano2, nano_2m, nano_5m, or an
    # image tower and a decoder, b16+gemma2_2b: see pg/models/variants.py.
    model="nano_2m",
    res=96,  # pixels per side; released models: 224, 448, 896
    text_len=64,  # tokens of bos + prefix + "\n" + suffix + eos
    freeze_img=False,  # keep the image tower as it is
    freeze_llm=False,  # keep the decoder as it is
    lora=0,  # above it, such as 8: train adapters of that rank alone
    # Above it, such as 32: learn that many rows by heart, and score these.
    overfit=0,
  )
  c = ml_collections.ConfigDict(dict(arg=arg))
  nano = arg.model.startswith("nano")

  # Everything random follows from it: order, dropout, first parameters.
  c.seed = 0  # int in [0, 2^63)
  # The model takes square images of `res` pixels, `num_images` per example, and
  # runs on `text_len` text positions. Longer texts are counted and reported.
  c.res = arg.res  # int in [1, 8192] pixels
  c.num_images = 1  # int in [1, 4096]
  c.text_len = arg.text_len  # int in [2, 2^17] tokens
  # 1: a batch is padded to text_len, or to its half, quarter... (at least 32,
  # where that saves 5 % of a step) if its longest text needs no more. Where
  # nearly every batch has a long text, more of them, such as 8, are read and
  # their rows sorted by length: another order. 0 always pads to text_len.
  c.length_window = 1  # int in [0, 1024] batches
  # True hides all images: what does text alone achieve?
  c.blind = False  # bool
  # "full": all of the prompt sees all of it, as in the released models.
  # "causal" hides what comes later; "learned" makes it a target, too.
  c.prompt = "full"  # "full" or "causal" or "learned"
  # A SentencePiece file; "" is the tokenizer of the run in `init`.
  c.tokenizer = ""  # str
  # The parameters to start from; "" draws them.
  c.init = arg.init  # str
  # Also the optimizer's state of a run with the same one, whose examples and
  # hours count on. Schedules start anew; an rsqrt with a `start` has to go on
  # from the learning rate at which that run ended.
  c.init_optimizer = False  # bool
  # What `init` is not to set, such as ("img/head/.*",): whole names. These are
  # drawn, and may have other shapes there, or be missing.
  c.dont_load = ()  # regexes

  c.model = dict(
    variant=arg.model,  # str
    # After attention and mlp of the decoder.
    dropout=0.0,  # float in [0, 1) or None
    # Gemma 2 was pre-trained with 30; transfers do without.
    final_softcap=0.0,  # float >= 0 or None
    # 4096 to narrow Gemma 2's local layers, as some ports do.
    window=None,  # int in [1, 2^31) tokens or None
    # Of activations; "auto" is bfloat16, or float32 on a CPU.
    # "auto" or "bfloat16" or "bf16" or "float16" or "f16" or "float32" or "f32"
    # or None
    dtype="auto",
    # What backward may keep, from the least memory to the least time:
    # "rows" or "nothing" or "attn_out" or "ffw" or "dots" or "everything".
    remat="nothing" if not nano else "everything",
  )

  # Low-rank adapters of frozen weights, alone trained and saved: megabytes. The
  # rules of `schedule` and so on are those of the weights they belong to, and
  # what `schedule` freezes has none. `WEIGHTS+runs/mine` names both.
  c.lora = dict(
    rank=arg.lora,  # int in [0, 2^16]; 0 trains the weights themselves
    # The whole name of a weight of image tower, projector or decoder; for
    # example r"llm/.*attn.*".
    targets=".*",  # str
    alpha=16.0,  # float > 0; what an adapter adds is times alpha / rank,
    rank_stabilized=False,  # bool; or alpha / sqrt(rank)
    dropout=0.0,  # float in [0, 1)
    dora=False,  # bool; also trains the length of what each output sums up
    # The best lr of adapters is about ten times that of all weights.
    lr_mult=10.0,  # float > 0
  )

  # What goes in, what should come out. The ops of `pp` make `image`, `prefix`
  # and `suffix` from a row; see pg/pp. Photos are turned upright by their EXIF
  # data; `predict` sees images as these ops make them.
  c.data = dict(source="jsonl", path=arg.train)
  c.pp = f"decode(exif=True) | resize({c.res})"  # str
  # A dataset of Hugging Face's hub with columns image, question, answer: these
  # two lines, and :train=hf://datasets/owner/name/data/train-*,val=... like it.
  #   c.data = dict(source="parquet", path=arg.train)
  #   c.pp += " | copy('question', out='prefix') | copy('answer', out='suffix')"

  # How rows are read; none of it changes which ones, or their order.
  c.input = dict(
    # Processes; 0: this one. Each takes seconds to start.
    num_workers=0,  # int in [0, 1024]
    # In each process; decoding images scales over threads.
    num_threads=4,  # int in [1, 1024]
    # What is ready before it is wanted.
    prefetch=8,  # int in [1, 2^16] batches
    # Of training: rows as read ("raw"), or ("examples") after the pp.
    cache="",  # "" or "raw" or "examples"
    # Memory for that in each process, rows beyond are read again; and as much
    # for evaluators, whose rows are kept if all of one fit.
    cache_gb=1.0,  # float >= 0 GiB
    # What a frozen image tower (freeze_img) makes of an image, so that it looks
    # at each only once: "memory", as many GiB again; or a folder, 0.6 MB for
    # each image at 224 px of a released model, which other runs can share.
    cache_images="",  # str
    # What one row may ask for; what is beyond is a bad row. Of an image file or
    # a record, and of an image or video frame (268 MB of RGB):
    max_bytes=2**28,  # int >= 1 bytes
    max_pixels=89_478_485,  # int >= 1 pixels
    # True lets rows name URLs of this machine and its network. Those in the
    # config (path, image_root) are not asked.
    private_hosts=False,  # bool
  )
  # A row that cannot be read or that an op objects to ends the run ("raise"),
  # or ("skip") is named in bad_examples.jsonl, and another row of its dataset
  # trains instead; evaluators leave it out. More than that share ends the run.
  c.bad = dict(
    policy="raise",  # "raise" or "skip"
    max_fraction=0.01,  # float in [0, 1]
  )

  # The recipe. A duration is 500 (steps), "15ep", "25%" (of the run) or
  # "64k ex"; a total of 0 only evaluates.
  c.total = base.duration("15ep")  # duration
  c.batch_size = 32  # int in [1, 2^20] examples
  # The same step with less memory for activations: gradients of that many parts
  # of the batch, one by one, are added up.
  c.num_microbatches = 1  # int in [1, 2^20]
  c.lr = 5e-4 if nano else 1e-5  # float > 0
  # Follows the schedule but not lr: 3e-7 is 0.03 in AdamW terms.
  c.wd = 3e-7  # float >= 0
  c.label_smoothing = 0.0  # float in [0, 1)
  c.warmup = base.duration("5%")  # duration, at most total
  # First match wins; None freezes. The whole name must match the regex. A group
  # has a `kind`, and its own `delay`, `warmup` and `cooldown` (durations); what
  # else a kind has: pg/learn/schedule.py. For example, of an image tower,
  # ("img/.*", dict(kind="rsqrt", warmup="10%", cooldown="5%")).
  # rules of "constant" or "cosine" or "linear" or "poly" or "rsqrt" or "stair"
  # or group or None
  c.schedule = (
    ("img/.*", None if arg.freeze_img else "cosine"),
    ("llm/.*", None if arg.freeze_llm else "cosine"),
  )
  c.lr_mult = ((".*", 1.0),)  # rules of float >= 0
  c.wd_mult = ((".*/kernel", 1.0), (".*", 0.0))  # rules of float >= 0
  c.grad_clip = 1.0  # float >= 0, the norm; 0 is off
  # Of each example's gradient before their mean is taken, one at a time: for
  # noisy labels, on one device.
  c.example_clip = 0.0  # float >= 0, the norm; 0 is off
  # Of the size of the parameters adam, adamw and muon (where it is Adam's) keep
  # two moments, lion, momentum and muon one, sgd and adafactor nothing. The wd
  # of adamw is multiplied with lr, too: 0.1 there is 1e-6 here at lr 1e-5.
  # schedule_free averages parameters in place of a decay, as pg/learn says, and
  # keeps as much as adam; its schedules are "constant".
  # "adam" or "adamw" or "adafactor" or "lion" or "momentum" or "muon" or
  # "schedule_free" or "sgd"
  c.optimizer = "adam"
  c.b1, c.b2 = 0.9, 0.999  # float in [0, 1); Lion's papers have b2 = 0.99
  # Half the memory of what an optimizer keeps; rounded so that it is right on
  # average.
  c.moment_dtype = "float32"  # "float32" or "bfloat16"
  # Of parameters that `schedule` freezes, in memory and in checkpoints; nothing
  # is lost where the weights in `init` have that dtype. The last three are of
  # weights with adapters (QLoRA), which are quantised as they are read.
  # "float32" or "bfloat16" or "float16" or "int8" or "int4" or "nf4"
  c.frozen_dtype = "float32"

  # Above 0, such as 0.9999: an average of the parameters is kept and evaluated
  # beside them (val_ema), and `runs/mine:ema` names it.
  c.ema = 0.0  # float in [0, 1)
  # A step that is not finite ends the run ("stop"), or ("skip") is not taken,
  # and counted; more of them in a row end the run.
  c.nonfinite = dict(
    policy="stop",  # "stop" or "skip"
    max_in_row=10,  # int in [1, 2^31) steps
  )

  # Devices: sizes of replica, fsdp, tensor (pg/sharding.py); -1 is all that is
  # left. Without replica, each slice of a multislice pod is one.
  c.mesh = dict(
    fsdp=-1,  # int in [1, 2^20] devices or -1
  )
  c.sharding = ((".*", "fsdp"),)  # rules of "fsdp" or "replicate" or axes
  # In which devices add up their gradients; bfloat16 halves what travels.
  c.grad_dtype = "float32"  # "float32" or "bfloat16"

  # What is written, and when.
  c.log_every = 10  # int >= 1 steps
  c.save_every = base.duration("25%")  # duration; 0: only at the end
  c.max_checkpoints = 1  # int >= 1 or None, which keeps all
  c.wandb = ""  # str, a project of Weights & Biases; "": not sent there
  # A score, such as "val/cider", or "-nll/nll" where less is better: the best
  # checkpoint by it is kept beside those, and `runs/mine:best` names it.
  c.best = ""  # str
  # Evaluators also score what is in `init`, for tables of before and after.
  c.score_init = False  # bool

  # An evaluator inherits data and pp and states only the difference. Captions
  # are scored by CIDEr, rows of one image together; short answers: "exact".
  c.evals = dict(
    val=dict(metric="cider", path=arg.val, every="25%"),
    nll=dict(metric="perplexity", path=arg.val, every="25%"),
  )
  base.overfit(c)
  return c.lock()
