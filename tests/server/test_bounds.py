"""Who may ask, how much, and for how long."""

import concurrent.futures
import json
import re
import socket
import time

import openai
import pytest

from pg.server import app, bounds
from tests.support import server

pytestmark = pytest.mark.usefixtures("one_device")


def test_a_token_is_wanted_where_there_is_one():
  with server.served(token="correct horse") as (_, url):
    with server.client(url) as web:
      assert web.get("/health").json() == {"status": "ok"}
      assert web.get("/").status_code == 200
      for path in ("/v1/models", "/metrics"):
        assert web.get(path).status_code == 401
      for token in ("correct hors", "x", "correct horse1", "ü"):
        own = {"Authorization": f"Bearer {token}".encode()}
        answer = web.post(server.CHAT, json=server.question(), headers=own)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    own = dict(base_url=f"{url}/v1", max_retries=0)
    with openai.OpenAI(api_key="correct horse", **own) as client:
      assert client.chat.completions.create(**server.question())
    with openai.OpenAI(api_key="wrong horse", **own) as client:
      with pytest.raises(openai.AuthenticationError, match="wanted the header"):
        client.models.list()


def test_a_page_of_another_host_cannot_ask():
  with server.served(hosts={"127.0.0.1"}) as (_, url):
    with server.client(url) as web:
      good = web.post(server.CHAT, json=server.question())
      assert good.status_code == 200
      assert not any(x.startswith("access-control") for x in good.headers)
      assert "frame-ancestors 'none'" in good.headers["content-security-policy"]
      own = {"Host": "evil.example"}
      assert web.get("/v1/models", headers=own).status_code == 421
      plain = {"Content-Type": "text/plain"}
      body = json.dumps(server.question())
      assert (
        web.post(server.CHAT, content=body, headers=plain).status_code == 415
      )


def test_metrics_and_routes(web):
  server.ask(web)
  text = web.get("/metrics").text
  assert 'pg_requests_total{status="200"}' in text
  count = next(x for x in text.splitlines() if "queue_seconds_count" in x)
  assert float(count.split()[1]) >= 1
  assert "pg_slots 4.0" in text and "pg_waiting 0.0" in text
  assert "# TYPE pg_tokens_total counter" in text
  assert re.search(r"^pg_tokens_total [1-9]", text, re.MULTILINE)
  assert web.get("/v1/models/toy").json()["pixels"] == 8
  missing = web.get("/v1/nothing")
  assert missing.status_code == 404 and "error" in missing.json()
  assert web.get(server.CHAT).status_code == 405
  for path, (_, kind) in app.FILES.items():
    found = web.get(path)
    assert found.status_code == 200
    assert found.headers["content-type"].startswith(kind)


def test_clients_that_go_away_leave_their_slots():
  with server.held() as (state, url, gate):
    host, port = url.removeprefix("http://").split(":")
    for stream in (True, False):
      body = json.dumps(
        server.question(n=2, stream=stream, max_tokens=32)
      ).encode()
      head = (
        f"POST {server.CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
      )
      head += "\r\nContent-Type: application/json\r\n\r\n"
      with socket.create_connection((host, int(port))) as s:
        s.sendall(head.encode() + body)
        server.until(lambda: state.engine.num_active == 2)
      server.until(lambda: not state._chat.clients)
      gate.set()
      server.until(lambda: not state.engine.num_active)
      gate.clear()
      assert state.engine.num_tokens < 10  # the first ones, and no more
    gate.set()
    with server.client(url) as web:
      assert server.ask(web)["choices"]


def test_more_requests_than_may_be_are_told_so():
  limits = bounds.Bounds(request_seconds=60.0, per_client=4)
  with server.held(limits, max_queue=2) as (state, url, gate):
    one = lambda _: web.post(server.CHAT, json=server.question()).status_code
    with (
      server.client(url) as web,
      concurrent.futures.ThreadPoolExecutor(9) as threads,
    ):
      body = server.question(n=4)
      first = threads.submit(web.post, server.CHAT, json=body)
      server.until(lambda: state.engine.num_active == 4)
      more = [threads.submit(one, i) for i in range(2)]
      server.until(lambda: state.engine.num_waiting == 2)
      assert one(0) == 503
      state._chat.clients["127.0.0.1"] += 1
      assert one(0) == 429
      state._chat.clients["127.0.0.1"] -= 1
      gate.set()
      assert first.result().status_code == 200
      assert [x.result() for x in more] == [200] * 2
      assert one(0) == 200


def test_an_answer_that_takes_too_long_ends():
  limits = bounds.Bounds(request_seconds=0.3)
  with server.held(limits) as (state, url, gate):
    with server.client(url) as web:
      body = server.question(n=4, max_tokens=32)
      with concurrent.futures.ThreadPoolExecutor(2) as threads:
        found = [
          threads.submit(web.post, server.CHAT, json=body) for _ in range(2)
        ]
        time.sleep(0.5)
        gate.set()
        answers = [x.result() for x in found]
      assert [x.status_code for x in answers] == [504, 504]
      assert "took too long" in answers[0].json()["error"]["message"]
      server.until(lambda: not state.engine.num_active)
