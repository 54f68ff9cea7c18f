"""How many questions a server answers: one client after another, and many.

python -m scripts.bench serve --run runs/nano [--seconds 600]
python -m scripts.bench serve --predict hf_folder [--tokens 9]

The first starts `python -m pg.serve` on this machine and asks it about images
that it has not seen, by one client and by 16 at a time, in turns; then, for
--seconds but 20,000 requests at most, by 16 with its memory, threads and open
files. The second asks a model of any size by one client and by `predict`, in
turns, also about images that are new each time.
"""

import asyncio
import base64
import collections
import concurrent.futures
import functools
import http.client
import io
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
from PIL import Image

from pg import table
from scripts import bench

CLIENTS = 16
PROMPTS = ("caption en", "detect red circle", "segment red circle")
MOST = 20_000  # requests of the long run
NAMES = ("queue", "first", "whole", "client")
EACH = 10.0  # seconds between two looks at the server's process


def picture(seed, side):
  """Returns the bytes of a PNG of noise that nobody has seen."""
  pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
  out = io.BytesIO()
  Image.fromarray(pixels).resize((side, side), 0).save(out, "PNG")
  return out.getvalue()


def body(seed, side, **fields):
  """Returns a request about such an image."""
  url = base64.b64encode(picture(seed, side)).decode()
  parts = [
    {"type": "text", "text": PROMPTS[seed % len(PROMPTS)]},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{url}"}},
  ]
  messages = [{"role": "user", "content": parts}]
  return json.dumps(dict(model="m", messages=messages) | fields).encode()


class Clients:
  """Threads that ask, each on a connection of its own."""

  def __init__(self, port):
    self._own, self._port = threading.local(), port
    self._seeds = itertools.count()
    self.bodies, self.made = (
      functools.partial(body, side=48),
      collections.deque(),
    )

  def make(self, num):
    """Makes requests for `ask`, which takes a client's time."""
    self.made.extend(self.bodies(next(self._seeds)) for _ in range(num))

  def ask(self, _=None):
    """Asks once, what is the next of `made`; returns {name: seconds}."""
    if not hasattr(self._own, "web"):
      address = "127.0.0.1", self._port
      self._own.web = http.client.HTTPConnection(*address, timeout=300)
    data = self.made.popleft()
    begun = time.monotonic()
    kind = {"Content-Type": "application/json"}
    self._own.web.request("POST", "/v1/chat/completions", data, kind)
    answer = self._own.web.getresponse()
    found = json.loads(answer.read())
    if answer.status != 200:
      raise ValueError(f"{answer.status}: {found['error']['message']}")
    return found["seconds"] | dict(client=time.monotonic() - begun)

  def close(self):
    """Closes the connection of this thread; `ask` opens another."""
    self._own.web.close()

  def many(self, num, clients):
    """Asks `num` times; returns requests a second, and what `ask` did."""
    self.make(num)
    with concurrent.futures.ThreadPoolExecutor(clients) as threads:
      begun = time.monotonic()
      found = list(threads.map(self.ask, range(num)))
      return num / (time.monotonic() - begun), found


def process(pid):
  """Returns (MiB, threads, open files) of a process."""
  with open(f"/proc/{pid}/status", encoding="ascii") as file:
    lines = dict(line.split(":", 1) for line in file)
  size, threads = (int(lines[x].split()[0]) for x in ("VmRSS", "Threads"))
  return size / 1024, threads, len(os.listdir(f"/proc/{pid}/fd"))


def free_port():
  with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    return sock.getsockname()[1]


def started(run, port):
  """Starts a server; returns its process, when it is ready."""
  words = ["--checkpoint", run, "--port", str(port), "--name", "m"]
  server = subprocess.Popen(
    [sys.executable, "-m", "pg.serve", *words],
    stderr=subprocess.PIPE,
    text=True,
  )
  for line in server.stderr:
    print(line, end="", flush=True)
    if line.startswith("ready"):
      return server
  raise ValueError("the server did not start")


def show(kind, rates, found):
  """Prints requests a second, and the 50th and 99th of 100 in milliseconds."""
  rate = statistics.median(rates)
  print(f"{kind}: {rate:,.1f} requests a second, {len(found):,} in all")
  rows = [["", "p50", "p99"]]
  for name in NAMES:
    cuts = statistics.quantiles([x[name] for x in found], n=100)
    rows.append([name, *(f"{1000 * cuts[i]:,.1f} ms" for i in (49, 98))])
  print("\n".join(table.lines(rows, words=(0,))))


def load(args):
  """Measures a server of a run."""
  port = free_port()
  server = started(args.run, port)
  clients = Clients(port)
  try:
    clients.many(200, CLIENTS)
    jobs = {
      "1 client": lambda: clients.many(200, 1),
      f"{CLIENTS} clients": lambda: clients.many(800, CLIENTS),
    }
    found = bench.in_turns(jobs, 3)
    for kind, turns in found.items():
      show(kind, [x for x, _ in turns], [y for _, x in turns for y in x])
    one, many = ([x for x, _ in turns] for turns in found.values())
    ratios = [b / a for a, b in zip(one, many)]
    print(f"{CLIENTS} clients / 1: {statistics.median(ratios):.2f}")
    if args.seconds:
      soak(clients, server.pid, args.seconds)
  finally:
    server.terminate()
    print(f"ended with {server.wait(60)}")


def soak(clients, pid, seconds):
  """Asks for a long time; prints the server's memory, threads and files."""
  begun, num, looks, all_found = time.monotonic(), 0, [], []
  pause = seconds / MOST  # so that the requests are enough for all of it
  while time.monotonic() - begun < seconds and num < MOST:
    due = time.monotonic() + EACH
    size = min(MOST - num, int(EACH / pause))
    _, found = clients.many(size, CLIENTS)
    num += size
    all_found += found
    looks.append(process(pid))
    time.sleep(max(0, min(due, begun + seconds) - time.monotonic()))
  spent = time.monotonic() - begun
  show(f"{CLIENTS} clients for {spent:.0f} s", [num / spent], all_found)
  rows = [["", "MiB", "threads", "files"]]
  for i in sorted({0, len(looks) // 4, len(looks) // 2, len(looks) - 1}):
    mib, *others = looks[i]
    when = f"after {EACH * (i + 1):.0f} s"
    rows.append([when, f"{mib:,.0f}", *map(str, others)])
  print("\n".join(table.lines(rows, words=(0,))))


def compare(args):
  """Measures one client beside `predict`, with the same model."""
  import pg
  from pg.server import app, device, engine, listen

  model = pg.load(args.predict)
  sizes = device.Sizes(num_slots=4, max_prompt=16, max_answer=16)
  own = engine.Engine(model, sizes)
  own.device.warm()
  own.start()
  state = app.Server(own, {"m": None})
  sock = listen.bound("127.0.0.1", 0)
  web = listen.made(state.app())
  work = lambda: asyncio.run(web.serve(sockets=[sock]))
  thread = threading.Thread(target=work)
  thread.start()
  clients = Clients(sock.getsockname()[1])
  side, tokens = model.form.res, args.tokens
  clients.bodies = lambda i: body(3 * i, side, max_tokens=tokens)
  seeds = itertools.count(1)

  def predict():
    data = picture(3 * next(seeds) + 1, side)
    return bench.seconds(
      lambda: model.predict([data], PROMPTS[0], max_len=tokens)
    )

  while not web.started:
    time.sleep(0.01)

  def served():
    clients.make(1)
    found = clients.ask()
    clients.close()  # the server closes what is quiet for long
    return found["client"]

  jobs = dict(predict=predict, served=served)
  bench.in_turns(jobs, 1)  # compiles
  found = bench.in_turns(jobs, args.rounds)
  bench.show(found, "s", 3)
  bench.show_ratio(found, "served", "predict")
  web.should_exit = True
  thread.join()
  state.close()


def main(args):
  if bool(args.run) == bool(args.predict):
    raise ValueError("--run or --predict: one of them")
  compare(args) if args.predict else load(args)


FLAGS = dict(
  run=dict(help="a small run, to ask a server of"),
  seconds=dict(type=float, default=0.0, help="of the long run; 600 is usual"),
  predict=dict(help="any weights, to ask beside `predict`"),
  tokens=dict(type=int, default=9, help="of an answer, with --predict"),
  rounds=dict(type=int, default=7, help="turns, with --predict"),
)
