"""A server of a small random model on this machine, and what to ask it."""

import asyncio
import base64
import contextlib
import functools
import io
import json
import threading
import time

import httpx
import numpy as np
from PIL import Image

from pg.data.storage import files
from pg.server import app, bounds, device, engine, listen
from tests.ask import test_adapters
from tests.models import test_bank

PROMPTS = ["detect cat", "what is it?", "ocr", "where is it?"]
CHAT = "/v1/chat/completions"
SIZES = device.Sizes(num_slots=4, max_prompt=16, max_answer=32, max_queue=24)
ADAPTERS = tuple(test_bank.ADAPTERS)
NAMES = {"toy": None} | {name: name for name in ADAPTERS}


@functools.cache
def running():
  """An engine that runs, of a model with adapters; compiled once."""
  model, _ = test_adapters.models()
  found = engine.Engine(model, SIZES)
  said = []
  found.device.warm(said.append)
  assert said[0].startswith("compiling: 1 of ") and "compiled" in said[-1]
  found.start()
  return found


def png(pixels):
  """Returns u8[height, width, 3] as the bytes of a PNG file."""
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def url(data):
  """Returns bytes of a file as a data: URL."""
  return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@functools.cache
def photo(seed=0):
  """Returns the data: URL of an image of noise."""
  rng = np.random.default_rng(seed)
  return url(png(rng.integers(0, 256, (20, 30, 3), np.uint8)))


def question(prompt="what is it?", image=0, **fields):
  """Returns the body of a request."""
  parts = [{"type": "text", "text": prompt}]
  if image is not None:
    image = photo(image) if isinstance(image, int) else image
    parts.append({"type": "image_url", "image_url": {"url": image}})
  messages = [{"role": "user", "content": parts}]
  return dict(model="toy", messages=messages) | fields


@contextlib.contextmanager
def served(limits=None, own=None, names=None, **options):
  """Yields the server of an engine, and the URL where it listens."""
  limits = limits or bounds.Bounds(request_seconds=60.0)
  server = app.Server(own or running(), names or NAMES, limits, **options)
  sock = listen.bound("127.0.0.1", 0)
  web = listen.made(server.app())
  work = lambda: asyncio.run(web.serve(sockets=[sock]))
  thread = threading.Thread(target=work)
  thread.start()
  try:
    while not web.started:
      time.sleep(0.01)
    yield server, f"http://127.0.0.1:{sock.getsockname()[1]}"
  finally:
    web.should_exit = True
    thread.join()
    sock.close()


def client(address, **options):
  """Returns an HTTP client of a server."""
  return httpx.Client(base_url=address, timeout=60, trust_env=False, **options)


def ask(web, *args, status=200, **fields):
  """Returns the JSON of an answer, or of an error that is wanted."""
  answer = web.post(CHAT, json=question(*args, **fields))
  assert answer.status_code == status, answer.text
  return answer.json()


def predict(prompt, image=0, adapter=None, **options):
  """Returns the same model's own answer."""
  model = running().model.with_adapter(adapter)
  url = photo(image)
  pixels = files.read(url, "")
  (answer,) = model.predict([pixels], prompt, max_len=12, **options)
  return answer


def alike(choice, want):
  """Says whether a choice of an answer is ours; compares probabilities."""
  content = choice["logprobs"]["content"]
  logp = [x["logprob"] for x in content]
  np.testing.assert_allclose(logp, want.logp[: len(logp)], atol=1e-5)
  assert choice["message"]["content"] == want.text
  return len(want.tokens) - len(logp) in (0, 1)  # eos


@contextlib.contextmanager
def held(limits=None, **sizes):
  """Yields an engine of its own that writes nothing until its gate opens."""
  own = engine.Engine(running().model, SIZES._replace(**sizes))
  gate, advance = threading.Event(), own.device.advance

  def wait(*args):
    gate.wait(60)
    return advance(*args)

  own.device.advance = wait
  own.start()
  with served(limits, own) as (state, url):
    try:
      yield state, url, gate
    finally:
      gate.set()
      state.close()


def until(condition, seconds=20):
  """Waits until something is so."""
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


def events(web, *args, **fields):
  """Returns the events of a stream, which ends as streams do."""
  body = question(*args, stream=True, **fields)
  answer = web.post(CHAT, json=body)
  assert answer.headers["content-type"].startswith("text/event-stream")
  *found, last, end = answer.text.split("\n\n")
  assert (last, end) == ("data: [DONE]", "")
  return [json.loads(x.removeprefix("data: ")) for x in found]


def refused(web):
  """Says whether nobody listens."""
  try:
    return web.get("/health").status_code != 200
  except httpx.HTTPError:
    return True
