"""Nonsense gets an error, and the next good request its answer."""

import gc
import itertools
import json
import os
import random
import socket
import struct
import threading
import zlib

import numpy as np
import pytest

from pg.data.storage import remote
from pg.server import bounds, listen
from tests.support import server, web

CHAT = "/v1/chat/completions"
NUM = 1000
GOOD = server.png(np.zeros((4, 4, 3), np.uint8))


def chunk(kind, data):
  sums = struct.pack(">I", zlib.crc32(kind + data))
  return struct.pack(">I", len(data)) + kind + data + sums


def bomb(side):
  """Returns a PNG that says it is large, and of which little follows."""
  head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
  data = zlib.compress(bytes(1 << 16))
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data)


def image(url):
  return server.question(image=url)


# JSON of requests, and the status of each.
WRONG = [
  *(
    (server.question(**fields), 400)
    for fields in (
      {"temperature": 3},
      {"temperature": "hot"},
      {"temperature": True},
      {"temperature": 10**400},
      {"top_p": -0.1},
      {"n": 0},
      {"n": 17},
      {"n": 1.5},
      {"n": 5},  # more than there are slots
      {"max_tokens": 0},
      {"max_tokens": 2**70},
      {"stop": ["a"] * 5},
      {"stop": [""]},
      {"stop": {"a": 1}},
      {"stream": "yes"},
      {"seed": 2**80},
      {"logprobs": 1},
      {"top_logprobs": 3},
      {"logprobs": True, "top_logprobs": 21},
      {"stream_options": []},
      {"response_format": {"type": "json_schema"}},
      {"response_format": {"type": ["a"]}},
      {"response_format": "text"},
      {"response_format": {"type": "choice"}},
      {"response_format": {"type": "choice", "choices": [1]}},
      {"response_format": {"type": "choice", "choices": ["a b " * 400]}},
      {"response_format": {"type": "regex", "pattern": "(a|b)*a(a|b){30}"}},
      {"response_format": {"type": "boxes"}},  # of a prompt without detect
      {"tools": [{"type": "function"}]},
      {"frequency_penalty": 1},
      {"unheard_of": 1},
      {"model": None},
      {"model": 7},
      {"messages": []},
      {"messages": {}},
      {"messages": [7]},
      {"messages": [{"role": "user"}]},
      {"messages": [{"role": "wizard", "content": "a"}]},
      {"messages": [{"role": ["user"], "content": "a"}]},
      {"messages": [{"role": "assistant", "content": "a"}]},
      {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
      {"messages": [{"role": "user", "content": [{"type": {}}]}]},
      {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    )
  ),
  *(
    (server.question(prompt), 400)
    for prompt in ("", " \n", "\ud800", "a " * 5000, "\x00" * 60)
  ),
  *(
    (image(url), 400)
    for url in (
      "",
      "data:",
      "data:image/png;base64,",
      "data:image/png;base64,####",
      "data:text/html,hello",
      server.url(b"no image at all"),
      server.url(GOOD[:40]),
      server.url(bomb(30_000)),
      server.url(bomb(2**31 - 1)),
      server.url(bomb(0)),
      "/etc/passwd",
      "file:///etc/passwd",
      "../../secret.png",
      "gs://bucket/a.png",
      "memory://a.png",
      "http://127.0.0.1/a.png",
      "https://example.com/a.png",
      "http://169.254.169.254/latest/meta-data",
      "\x00",
    )
  ),
  (server.question(model="gpt-4"), 404),
  (server.question(model="\ud800"), 404),
]
RAW = [
  (b"", 400),
  (b"{", 400),
  (b"[]", 400),
  (b"null", 400),
  (b'"a"', 400),
  (b"[" * 100_000, 400),
  (b'{"model": NaN}', 400),
  (b"9" * 5000, 400),
  (b"\xff\xfe\x00", 400),
  (bytes(2 << 20), 413),
]


def cut(body, rng):
  """Returns a body without its end, which is no JSON any more."""
  return body[: rng.randrange(len(body))]


def raw(url, data, wait=20):
  """Sends bytes as they are; returns the status of the answer, 0 without."""
  host, port = url.removeprefix("http://").split(":")
  with socket.create_connection((host, int(port)), timeout=wait) as s:
    s.sendall(data)
    s.settimeout(wait)
    try:
      head = s.recv(100)
    except TimeoutError:
      return None
  return int(head.split()[1]) if head else 0


@pytest.fixture(scope="module")
def url(one_device):
  limits = bounds.Bounds(
    max_bytes=1 << 20, max_pixels=1 << 20, body_seconds=0.3
  )
  with server.served(limits, hosts={"127.0.0.1", "x"}) as (_, found):
    yield found


def good(client):
  """Returns what a request gets that must not change."""
  answer = client.post(CHAT, json=server.question(max_tokens=4))
  assert answer.status_code == 200, answer.text
  return answer.json()["choices"]


def open_files():
  gc.collect()
  return len(os.listdir("/proc/self/fd")), threading.active_count()


def test_a_thousand_requests_of_nonsense(url, one_device):
  rng, seen = random.Random(0), 0
  valid = json.dumps(server.question()).encode()
  bodies = [(json.dumps(x).encode(), status) for x, status in WRONG] + RAW
  bodies += [(cut(valid, rng), 400) for _ in range(100)]
  own = {"Content-Type": "application/json"}
  with server.client(url, headers=own) as client:
    want = good(client)
    before = open_files()
    for body, status in itertools.islice(itertools.cycle(bodies), NUM):
      answer = client.post(CHAT, content=body)
      assert answer.status_code == status, (body[-300:], answer.text)
      error = answer.json()["error"]
      assert 0 < len(error["message"]) < 500 and error["type"]
      assert "Traceback" not in answer.text and "/pg/" not in answer.text
      seen += 1
      if seen % 100 == 0:
        assert good(client) == want
    assert seen == NUM
    after = open_files()
    assert all(y <= x + 4 for x, y in zip(before, after, strict=True))


def test_requests_that_are_no_http_or_come_too_slowly(url, one_device):
  post = (
    f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
  )
  post = post.encode()
  for data, status in (
    (b"\x16\x03\x01\x02\x00 hello\r\n\r\n", 400),  # TLS
    (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", 400),
    (post + b"Content-Length: 4294967296\r\n\r\n{", 413),
    (post + b"Content-Length: 9" + b"9" * 30 + b"\r\n\r\n{", (400, 413)),
    (post + b"Content-Length: -1\r\n\r\n{", 400),
    (post + b"Content-Length: 50\r\n\r\n{", 408),  # and no more
    (post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", (0, 400, 499)),
    (post.replace(b"Host: x", b"Host: y") + b"\r\n", 421),
  ):
    got = raw(url, data)
    assert got in (status if isinstance(status, tuple) else (status,)), data[
      :99
    ]
  with server.client(url) as client:
    assert good(client)


def test_a_client_that_says_nothing_is_hung_up_on(monkeypatch, one_device):
  monkeypatch.setattr(listen, "HEAD_SECONDS", 0.2)
  with server.served() as (_, url):
    assert raw(url, b"", 5) == 0
    assert raw(url, b"GET /health HT", 5) == 0
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert raw(url, ask) == 200
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as s:
      for _ in range(2):  # on the same connection, in time
        s.sendall(ask)
        said = b""
        while not said.endswith(b"}"):
          said += s.recv(1 << 16)
        assert said.startswith(b"HTTP/1.1 200")
      assert s.recv(10) == b""


def test_a_url_leads_to_no_host_of_this_network(one_device, monkeypatch):
  # This machine, by one of its addresses, stands for a public host.
  monkeypatch.setattr(remote, "_is_public", "127.0.0.2".__eq__)
  find, meant = socket.getaddrinfo, {}

  def resolve(host, *args, **kwargs):
    return find(meant.get(host, host), *args, **kwargs)

  monkeypatch.setattr(socket, "getaddrinfo", resolve)
  limits = bounds.Bounds(urls=True)
  with (
    server.served(limits) as (_, url),
    server.client(url) as client,
    web.answer(GOOD) as there,
  ):
    port = there.rpartition(":")[2]
    meant |= {
      "good.example": "127.0.0.2",
      "bad.example": "127.0.0.1",
    }
    see = lambda host: client.post(CHAT, json=image(f"http://{host}:{port}/"))
    for host, status in (
      ("good.example", 200),
      ("bad.example", 400),
      ("localhost", 400),
      ("[::1]", 400),
    ):
      found = see(host)
      assert found.status_code == status, (host, found.text)
      if status == 400:
        assert "at a public host" in found.json()["error"]["message"]
    with web.answer(b"", 302, Location=f"{there}/a.png") as first:
      first = first.replace("127.0.0.1", "127.0.0.2")
      found = client.post(CHAT, json=image(f"{first}/a.png"))
      assert found.status_code == 400
