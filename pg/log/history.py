"""What a run is, its starts, and what changed in it between them.

A checkpoint has in its meta what `describe` returned. On resume that is
compared with what the command says now. Each start is a line of the workdir's
`history.jsonl`, the first one without what has changed:

  {"step": 500, "time": "2026-11-28T19:14:32+00:00",
   "command": "python -m pg.train --config ...", "commit": "8c51b51a0c1d",
   "changed": ["lr was 1e-05, is 0.0002"], "accepted": [], "unknown": []}
"""

import datetime
import hashlib
import json
import os
import pathlib
import re

import jax
import numpy as np
from jax.experimental import multihost_utils

from pg import atomic, origin, progress, schema, tree
from pg.data import fingerprint

FILE = "history.jsonl"
# What one may mean to change in a run that has begun. Any other key says which
# examples there are, in which order, what they mean, or what the model is.
_FREE = re.compile(
  r"total|lr|wd|label_smoothing|warmup|schedule|lr_mult|wd_mult|grad_clip|b1|b2"
  r"|num_microbatches|log_every|save_every|max_checkpoints|best|score_init"
  r"|example_clip|grad_dtype|wandb|pp"
  r"|model/(dropout|dtype|remat)|lora/(dropout|lr_mult)"
  r"|(nonfinite/max_in_row|input|bad|mesh|sharding|evals)(/.*)?"
)
# What earlier checkpoints do not have, and what is compared as a digest; rows
# that could not be read have none.
_CONTENT = re.compile(r"tokenizer|data/(.+)/(number|len|files|rows/(\d+))")
_NOT_SET = "not set"


def describe(c, run):
  """Returns what a run is, for JSON: the config, and what its paths hold.

  Args:
    c: the config.
    run: experiment.Experiment.
  """
  config = json.loads(c.to_json())
  config.pop("arg", None)  # what it does is in the other keys
  model = pathlib.Path(run.form.tok.path).read_bytes()
  return {
    **config,
    "data": fingerprint.take(run.data),
    "tokenizer": hashlib.sha256(model).hexdigest()[:16],
  }


def check_same(c, run):
  """Sees that all processes of a job have the same run before them.

  Args:
    c: the config.
    run: experiment.Experiment.

  Raises:
    ValueError: this process does not see what process 0 does.
  """
  if jax.process_count() == 1:
    return
  now = describe(c, run)
  now["data"] |= fingerprint.take([task.data for task in run.tasks])
  own = json.dumps(now).encode()
  share = multihost_utils.broadcast_one_to_all
  size = int(share(np.int32(len(own))))
  first = share(np.frombuffer(own[:size].ljust(size), np.uint8))
  differ = sum(changes(json.loads(first.tobytes()), json.loads(own)), [])
  if differ:
    raise ValueError(
      "it does not see what process 0 does (was: there, is: here):\n  "
      + "\n  ".join(differ)
    )


def check(meta, now, total, workdir, *, accept):
  """Compares a run with what it was at its last checkpoint.

  Args:
    meta: dict, the checkpoint's: `step` and `run`, what `describe` returned.
    now: dict, from `describe`.
    total: int, steps at which the run ends now.
    workdir: str.
    accept: bool, whether to go on whatever has changed.

  Returns:
    {"changed": what one may change, "accepted": what else changed, "unknown":
      what could not be compared}, lists of str.

  Raises:
    ValueError: the run would go on as another one.
  """
  was, unknown = meta.get("run"), []
  if was is None:  # of a version before this file
    was, unknown = _older(meta, now, workdir)
  changed, refused = changes(was, now)
  if 0 < total < meta["step"]:
    refused.append(
      f"total is {total} steps, and the run is at step {meta['step']} already"
    )
  if refused and not accept:
    raise ValueError(
      f"{workdir} is at step {meta['step']} of a run that was another one:\n  "
      + "\n  ".join(refused)
      + "\nUse another workdir (--config.init keeps the weights), or"
      " --accept-changes to go on with what there is now"
    )
  return dict(changed=changed, accepted=refused, unknown=unknown)


def _older(meta, now, workdir):
  """Returns what is known of a run whose checkpoint does not describe it."""
  unknown = "the bytes of its data and its tokenizer"
  try:
    file = pathlib.Path(workdir, "config.json")
    config = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    config, unknown = now, f"{unknown}, and its config"
  data = meta["data"]
  config = {**config, "data": data["datasets"], "tokenizer": now["tokenizer"]}
  config |= {k: data[k] for k in ("seed", "batch_size")}
  config.pop("arg", None)
  gone = (*fingerprint.PLACES, "bytes")
  config["data"] = {
    name: {k: v for k, v in spec.items() if k not in gone}
    for name, spec in config["data"].items()
  }
  return config, [
    f"the checkpoint is of an earlier version: {unknown} were not compared"
  ]


def begun(meta, now, rates, name):
  """Returns what a run begins with that goes on with the optimizer of another.

  Args:
    meta: dict, of the other's checkpoint.
    now: dict, from `describe`.
    rates: {metric: function from steps done to a learning rate}.
    name: str, the other in `init`.

  Returns:
    dict with `examples` and `spent`, what it and those before it had.

  Raises:
    ValueError: the other has another model or tokenizer, or a curve of this one
      (a `start` in `schedule`) goes on from another learning rate.
  """
  was = meta.get("run", {})
  what = f"init_optimizer goes on from {name}, which"
  old, new = (x.get("model", {}).get("variant") for x in (was, now))
  if old not in (None, new):
    raise ValueError(
      f"{what} is of the model {old!r}, and this run of {new!r}: name a run of"
      f" {new!r} in init, or train {old!r}"
    )
  if was.get("tokenizer", now["tokenizer"]) != now["tokenizer"]:
    raise ValueError(
      f"{what} has another tokenizer; leave config.tokenizer empty, for that"
      f" run's own, or name a copy of it"
    )
  had, starts = meta.get("rates", {}), {k: f(0) for k, f in rates.items()}
  follows = any("start" in (rule or ()) for _, rule in now["schedule"])
  for key in sorted({*had, *starts}) if follows and had else ():
    old, new = (x.get(key, x.get("train/lr")) for x in (had, starts))
    if new and old is not None and abs(old - new) > 0.01 * new:
      raise ValueError(
        f"{what} is at step {meta['step']} of {was.get('total')!r} with a"
        f" learning rate ({key}) of {old:.3g}; the curve of this run goes on"
        f" from {new:.3g}. Train that one to its end, or set `start` in"
        " config.schedule to what it has taken after its warm-up"
      )
  examples = meta["step"] * was.get("batch_size", 0)
  return dict(
    examples=meta.get("examples", examples), spent=meta.get("spent", {})
  )


def changes(was, now):
  """Returns two lists of str: what one may change, and what one may not.

  Args:
    was, now: dict, from `describe`.
  """
  was, now = tree.flatten(was), tree.flatten(now)
  defaults = tree.flatten(json.loads(json.dumps(schema.DEFAULTS)))
  free, refused, rows = [], [], {}
  for key in sorted({*was, *now}):
    absent = defaults.get(key, _NOT_SET)
    old, new = was.get(key, absent), now.get(key, absent)
    known, match = key in was and key in now, _CONTENT.fullmatch(key)
    if match and match[3] and known:
      rows.setdefault(match[1], {})[int(match[3])] = old != new
    elif old == new or (match and not known):
      pass
    elif key == "init" and now.get("lora/rank"):
      free.append(f"{_said(key, old, new)}, which has to hold the same values")
    elif key in ("init", "dont_load"):
      refused.append(
        f"{_said(key, old, new)}; a run that has begun does not read it"
      )
    elif key == "tokenizer":
      refused.append("the file of the tokenizer is another one")
    elif match and match[2] == "files":
      refused.append(f"data.{match[1]}: its files hold other bytes")
    # A key that only one has is of another version of pg, but in data.
    elif _FREE.fullmatch(key) or not (known or key.startswith("data/")):
      free.append(_said(key, old, new))
    else:
      refused.append(_said(key, old, new))
  for name, differ in rows.items():
    if others := sorted(i for i in differ if differ[i]):
      refused.append(
        f"data.{name}: {len(others)} of {len(differ)} rows that were looked at"
        f" are other ones, the first of them row {others[0]}"
      )
  return free, refused


def _said(key, old, new):
  old, new = (v if v is _NOT_SET else repr(v) for v in (old, new))
  return f"{key.replace('/', '.')} was {old}, is {new}"


def write(workdir, step, found):
  """Appends the line of a start.

  Args:
    workdir: str.
    step: int, at which it starts.
    found: dict, what `check` found; {} of a run that begins.
  """
  time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
  line = dict(step=step, time=time)
  line |= dict(command=origin.command(), commit=origin.commit(), **found)
  line = progress.safe(json.dumps(line))
  atomic.append(os.path.join(workdir, FILE), f"{line}\n".encode())
