r"""A web page and an API of OpenAI's form, of any checkpoint, on one port.

python -m pg.serve
python -m pg.serve --checkpoint hf://google/paligemma-3b-mix-224 --port 8000
python -m pg.serve --checkpoint weights.npz --adapter cats=runs/cats

The page is at http://127.0.0.1:7860, the API at /v1/chat/completions, its
description at /docs. Programs are compiled before the port opens. Requests are
answered together, in as many slots as --slots says. docs/serve.md has examples,
limits and what is safe.
"""

import ipaddress
import json
import os
import re

from pg import command, predict, progress
from pg.ask import load as load_lib
from pg.ask import programs
from pg.server import app, bounds, device, engine, listen
from pg.weights import hub

TOKEN = "PG_SERVE_TOKEN"  # a variable of the environment
# How prompts of the released models begin, pt and mix.
TASKS = dict(
  caption="caption en",
  answer="answer en ",
  detect="detect ",
  segment="segment ",
  read="ocr",
)


def token(path):
  """Returns the token that clients have to send, None without one.

  Raises:
    ValueError, OSError: an empty one.
  """
  found = os.environ.get(TOKEN)
  if path:
    with open(path, encoding="utf-8") as file:
      found = file.read().strip()
  if found is not None and len(found) < 8:
    raise ValueError(
      f"the token in {path or TOKEN} has {len(found)} characters; wanted 8 or"
      ' more: python -c "import secrets; print(secrets.token_urlsafe())"'
    )
  return found


def names(model, name):
  """Returns {model's name for clients: adapter or None}.

  Raises:
    ValueError: two have the same.
  """
  if name in model.adapters:
    raise ValueError(f"an adapter has the model's name {name}: --name another")
  return {name: None} | {x: x for x in model.adapters}


def tasks(checkpoint):
  """Returns {task: how its prompts begin} of a model, for the page.

  Those of a run are in its config; of other weights they are TASKS.
  """
  try:
    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as f:
      config = json.load(f)
    data = [x for x in config["data"].values() if isinstance(x, dict)]
  except (OSError, ValueError, KeyError, AttributeError):
    return TASKS
  starts = set(re.findall(r"fmt\('([^'{]*)", json.dumps(config)))
  for task in (x.get("task", "") for x in data):  # of drawn scenes
    kind = "read" if task == "ocr" else task.partition("_")[0]
    starts.add(TASKS[kind] if kind in TASKS and kind != "answer" else "")
  found = {}
  for start in sorted(starts, reverse=True):
    known = (k for k, x in TASKS.items() if start.startswith(x.split()[0]))
    found[next(known, "answer")] = start
  return {k: found[k] for k in TASKS if k in found} or TASKS


def hosts(host, more):
  """Returns the names a request may give for this machine, None for any."""
  try:
    is_local = ipaddress.ip_address(host).is_loopback
  except ValueError:
    is_local = host == "localhost"
  if not is_local and not more:
    return None
  return {host, *app.LOOPBACK, *(more or ())}


def main(args):
  password, sock = token(args.token_file), listen.bound(args.host, args.port)
  progress.say(f"loading {args.checkpoint}")
  model = load_lib.load(
    args.checkpoint,
    tokenizer=args.tokenizer,
    dtype=args.dtype,
    res=args.res,
    pp=args.pp,
    codec=args.mask_codec,
    int8_keys=args.int8_keys,
    adapters=predict.adapters(args),
    quantize=args.quantize,
  )
  text_len = min(model.form.text_len, programs.SIZES[-1])
  sizes = device.Sizes(
    num_slots=args.slots,
    max_prompt=programs.fit(args.max_prompt or text_len),
    max_answer=programs.fit(args.max_answer or max(text_len, 16)),
    num_images=args.num_images or model.form.num_images,
    max_queue=args.queue,
    cache_bytes=args.cache_mib << 20,
  )
  name = args.name or os.path.basename(args.checkpoint.rstrip("/"))
  limits = bounds.Bounds(
    max_bytes=args.max_mib << 20,
    max_pixels=args.max_pixels,
    body_seconds=args.body_seconds,
    request_seconds=args.request_seconds,
    per_client=args.per_client,
    urls=args.urls,
    regex=args.regex,
  )
  running = engine.Engine(model, sizes)
  server = app.Server(
    running,
    names(model, name),
    limits,
    token=password,
    hosts=hosts(args.host, args.allow_host),
    tasks=tasks(args.checkpoint),
  )
  running.device.warm()
  running.start()
  listen.run(
    server,
    sock,
    grace=args.grace_seconds,
    max_connections=args.max_connections,
  )


if __name__ == "__main__":
  command.run(
    main,
    __doc__,
    with_config=False,
    checkpoint=dict(
      default=hub.NANO,
      help="a run, or released weights; default the small model of pg",
    ),
    adapter=dict(
      action="append", metavar="NAME=PATH", help="one more model, of the same"
    ),
    name=dict(help="of the model for clients; default the checkpoint's"),
    host=dict(default="127.0.0.1", help="0.0.0.0 is the whole network"),
    port=dict(type=int, default=7860),
    allow_host=dict(nargs="+", metavar="NAME", help="names of this machine"),
    token_file=dict(metavar="FILE", help=f"or ${TOKEN}: clients have to know"),
    urls=dict(action="store_true", help="images may be at public URLs"),
    regex=dict(action="store_true", help="answers by regular expressions"),
    slots=dict(type=int, default=16, help="answers that grow together"),
    queue=dict(type=int, default=64, help="requests that wait, at most"),
    num_images=dict(type=int, help="of a request; default the model's own"),
    max_prompt=dict(type=int, help="text tokens; default the model's own"),
    max_answer=dict(type=int, help="tokens; default the model's own"),
    max_mib=dict(type=int, default=20, help="of a request"),
    max_pixels=dict(type=int, default=25_000_000, help="of an image"),
    cache_mib=dict(type=int, default=512, help="of images, and of prompts"),
    per_client=dict(type=int, default=32, help="requests at a time; 0 any"),
    max_connections=dict(type=int, default=512, help="of all clients"),
    body_seconds=dict(type=float, default=30.0, help="to send a request"),
    request_seconds=dict(type=float, default=120.0, help="to answer one"),
    grace_seconds=dict(type=float, default=20.0, help="after SIGTERM"),
    tokenizer=dict(help="SentencePiece file; default the run's own"),
    dtype=dict(
      choices=("float32", "bfloat16", "float16"),
      help="default: what is fastest",
    ),
    quantize=dict(help="weights to int8, int4 or nf4: less memory"),
    int8_keys=dict(action="store_true", help="prompts in 8 bits"),
    res=dict(type=int, help="pixels per side; default the model's own"),
    pp=dict(help="how it sees images: bv, hf or ops; default as trained"),
    mask_codec=dict(metavar="FILE", help="what mask codes mean"),
  )
