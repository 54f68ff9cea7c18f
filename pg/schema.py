"""Every key of a config: its type, range and unit.

This is the one place that states them: `config.validate` reads them here, and
a test keeps the comments of transfers/forkme.py equal. `*` is the name of a
dataset or evaluator, which also take the arguments of their source, or a rule
of the schedule.

A type is one of these, or several with "or" between them:

  bool, str, None, -1, "adam"   of that type, or exactly that
  int in [1, 8192] pixels       a number between the two, and its unit
  float > 0                     a number above that; all of them are finite
  duration                      steps >= 0, or a text: see `config.steps`
  texts, scores, group          of str, from str to float, of further keys
  durations, numbers, regexes   of durations, of floats >= 0, of str
  rules of ...                  pairs of a regex and one of what follows
"""

import ast
import functools
import numbers
import re

KEYS = {
  "arg": "group",
  "seed": "int in [0, 2^63)",
  "res": "int in [1, 8192] pixels",
  "num_images": "int in [1, 4096]",
  "text_len": "int in [2, 2^17] tokens",
  "length_window": "int in [0, 1024] batches",
  "blind": "bool",
  "prompt": '"full" or "causal" or "learned"',
  "tokenizer": "str",
  "init": "str",
  "init_optimizer": "bool",
  "dont_load": "regexes",
  "model.variant": "str",
  "model.dropout": "float in [0, 1) or None",
  "model.final_softcap": "float >= 0 or None",
  "model.window": "int in [1, 2^31) tokens or None",
  "model.dtype": (
    '"auto" or "bfloat16" or "bf16" or "float16" or "f16" or "float32"'
    ' or "f32" or None'
  ),
  "model.remat": (
    '"rows" or "nothing" or "attn_out" or "ffw" or "dots" or "everything"'
  ),
  "lora.rank": "int in [0, 2^16]",
  "lora.targets": "str",
  "lora.alpha": "float > 0",
  "lora.dropout": "float in [0, 1)",
  "lora.rank_stabilized": "bool",
  "lora.dora": "bool",
  "lora.lr_mult": "float > 0",
  "data.*.source": "str",
  "data.*.weight": "float > 0",
  "data.*.pp": "str",
  "pp": "str",
  "input.num_workers": "int in [0, 1024]",
  "input.num_threads": "int in [1, 1024]",
  "input.prefetch": "int in [1, 2^16] batches",
  "input.cache": '"" or "raw" or "examples"',
  "input.cache_gb": "float >= 0 GiB",
  "input.cache_images": "str",
  "input.max_bytes": "int >= 1 bytes",
  "input.max_pixels": "int >= 1 pixels",
  "input.private_hosts": "bool",
  "bad.policy": '"raise" or "skip"',
  "bad.max_fraction": "float in [0, 1]",
  "total": "duration",
  "batch_size": "int in [1, 2^20] examples",
  "num_microbatches": "int in [1, 2^20]",
  "lr": "float > 0",
  "wd": "float >= 0",
  "label_smoothing": "float in [0, 1)",
  "warmup": "duration",
  "schedule": (
    'rules of "constant" or "cosine" or "linear" or "poly" or "rsqrt"'
    ' or "stair" or group or None'
  ),
  "schedule.*.kind": (
    '"constant" or "cosine" or "linear" or "poly" or "rsqrt" or "stair"'
  ),
  "schedule.*.delay": "duration",
  "schedule.*.warmup": "duration",
  "schedule.*.cooldown": "duration",
  "schedule.*.power": "float > 0",
  "schedule.*.timescale": "duration",
  "schedule.*.start": "duration",
  "schedule.*.at": "durations",
  "schedule.*.mults": "numbers",
  "lr_mult": "rules of float >= 0",
  "wd_mult": "rules of float >= 0",
  "grad_clip": "float >= 0",
  "example_clip": "float >= 0",
  "optimizer": (
    '"adam" or "adamw" or "adafactor" or "lion" or "momentum" or "muon"'
    ' or "schedule_free" or "sgd"'
  ),
  "moment_dtype": '"float32" or "bfloat16"',
  "frozen_dtype": (
    '"float32" or "bfloat16" or "float16" or "int8" or "int4" or "nf4"'
  ),
  "b1": "float in [0, 1)",
  "b2": "float in [0, 1)",
  "ema": "float in [0, 1)",
  "nonfinite.policy": '"stop" or "skip"',
  "nonfinite.max_in_row": "int in [1, 2^31) steps",
  "mesh.replica": "int in [1, 2^20] devices or -1",
  "mesh.fsdp": "int in [1, 2^20] devices or -1",
  "mesh.tensor": "int in [1, 2^20] devices or -1",
  "sharding": 'rules of "fsdp" or "replicate" or axes',
  "grad_dtype": '"float32" or "bfloat16"',
  "log_every": "int >= 1 steps",
  "save_every": "duration",
  "max_checkpoints": "int >= 1 or None",
  "wandb": "str",
  "best": "str",
  "score_init": "bool",
  "evals.*.metric": "str",
  "evals.*.every": "duration",
  "evals.*.start": "duration",
  "evals.*.end": "duration",
  "evals.*.source": "str",
  "evals.*.pp": "str or None",
  "evals.*.batch_size": "int in [1, 2^20] examples or None",
  "evals.*.max_len": "int in [1, 2^17] tokens or None",
  "evals.*.num_examples": "int >= 1 or None",
  "evals.*.num_beams": "int in [1, 1024]",
  "evals.*.temperature": "float >= 0",
  "evals.*.top_k": "int >= 0",
  "evals.*.top_p": "float in (0, 1]",
  "evals.*.seed": "int in [0, 2^63)",
  "evals.*.forbid": "texts",
  "evals.*.published": "scores",
  "evals.*.submit": "str",
  "evals.*.optional": "bool",
}
# What configs written before a key was there mean by its absence.
DEFAULTS = {
  "length_window": 1,
  "prompt": "full",
  "lora": dict(
    rank=0,
    targets=".*",
    alpha=16.0,
    dropout=0.0,
    rank_stabilized=False,
    dora=False,
    lr_mult=10.0,
  ),
  "num_microbatches": 1,
  "example_clip": 0.0,
  "moment_dtype": "float32",
  "frozen_dtype": "float32",
  "ema": 0.0,
  "nonfinite": dict(policy="stop", max_in_row=10),
  "best": "",
  "score_init": False,
  "init_optimizer": False,
  "dont_load": (),
  "wandb": "",
  "grad_dtype": "float32",
}
# Names of datasets and evaluators become names of files and metrics.
NAME = re.compile(r"[^\W_][\w.+-]*")
DURATION = re.compile(r"(\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*(ep|%|ex|k ex|M ex|)")
# The last words of keys that hold a duration.
DURATIONS = {k.rpartition(".")[2] for k, x in KEYS.items() if x == "duration"}
_NUMBER = re.compile(
  r"(int|float) (?:(>=?) (\S+)|in ([\[(])(\S+), ([^\s\])]+)([\])]))"
)
# Beyond it a float32 is inf.
_LARGEST = 3.4e38


def allows(kind, value):
  """Returns whether a value is of a type, written as in KEYS."""
  if kind.startswith("rules of "):
    return _is_list(value) and all(
      _is_list(pair)
      and len(pair) == 2
      and _is_regex(pair[0])
      # What no parameter matches is found where the parameters are known.
      and allows(kind.removeprefix("rules of "), pair[1])
      for pair in value
    )
  return any(_is(part, value) for part in kind.split(" or "))


def choices(kind):
  """Returns the texts that a type names, such as optimizers."""
  return re.findall(r'"(\w*)"', kind)


def _is(kind, value):
  if kind in _TESTS:
    return _TESTS[kind](value)
  number = _NUMBER.match(kind)
  if not number:
    return isinstance(value, type(x := ast.literal_eval(kind))) and value == x
  a_type = numbers.Integral if number[1] == "int" else numbers.Real
  if isinstance(value, bool) or not isinstance(value, a_type):
    return False
  low, high = _bound(number[3] or number[5]), _bound(number[6])
  above = (
    value > low if (number[2] or number[4]) in (">", "(") else value >= low
  )
  return above and (value < high if number[7] == ")" else value <= high)


@functools.cache
def _bound(text):
  base, _, power = (text or str(_LARGEST)).partition("^")
  return float(base) ** int(power or 1)


def _is_list(value):
  return isinstance(value, list | tuple)


def _is_group(value):
  return hasattr(value, "items")


def _is_regex(value):
  try:
    return isinstance(value, str) and bool(re.compile(value))
  except re.error:
    return False


def _is_duration(value):
  if isinstance(value, str):
    match = DURATION.fullmatch(value.strip())
    return bool(match) and float(match[1]) < 2**31
  return _is("int in [0, 2^31)", value)


_TESTS = {
  "None": lambda x: x is None,
  "bool": lambda x: isinstance(x, bool),
  "str": lambda x: isinstance(x, str),
  "duration": _is_duration,
  "group": _is_group,
  "texts": lambda x: _is_list(x) and all(isinstance(y, str) for y in x),
  "scores": lambda x: (
    _is_group(x) and all(_is("float >= -3.4e38", y) for y in x.values())
  ),
  "axes": lambda x: _is_list(x),
  "regexes": lambda x: _is_list(x) and all(map(_is_regex, x)),
  "durations": lambda x: _is_list(x) and all(map(_is_duration, x)),
  "numbers": lambda x: _is_list(x) and all(_is("float >= 0", y) for y in x),
}
