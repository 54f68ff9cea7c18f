"""How a server ends, and what it does not end of."""

import asyncio
import concurrent.futures
import threading
import time

import pytest

from pg.server import app, engine, job, listen
from tests.support import server

pytestmark = pytest.mark.usefixtures("one_device")


def test_a_failure_is_told_without_a_trace_and_the_next_is_answered(capsys):
  with server.held() as (state, url, gate):
    gate.set()
    place, device = state.engine.device.place, state.engine.device

    def fail(*args):
      device.place = place
      raise RuntimeError("a secret of the device")

    device.place = fail
    with server.client(url) as web:
      error = server.ask(web, status=500)["error"]
      assert error["message"] == "the answer could not be computed"
      assert "a secret" in capsys.readouterr().err  # for who runs the server
      assert server.ask(web)["choices"]


def test_running_answers_are_finished_and_new_ones_refused():
  with server.held() as (state, url, gate), server.client(url) as web:
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
      first = threads.submit(server.ask, web, max_tokens=32)
      server.until(lambda: state.engine.num_active == 1)
      ending = threads.submit(asyncio.run, listen.end(state, 30))
      server.until(lambda: web.get("/health").status_code == 503)
      error = server.ask(web, status=503)["error"]
      assert "stopping" in error["message"]
      assert not ending.done()
      gate.set()
      assert first.result()["choices"][0]["message"]["content"]
      ending.result()
    assert not state.engine.is_alive
  with server.held() as (state, url, gate), server.client(url) as web:
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
      last = threads.submit(server.ask, web, status=503, max_tokens=32)
      server.until(lambda: state.engine.num_active == 1)
      ending = threads.submit(asyncio.run, listen.end(state, 0.1))
      time.sleep(0.3)
      gate.set()  # the thread has to come back
      assert "stopping" in last.result()["error"]["message"]
      ending.result()


def test_a_signal_ends_the_server(monkeypatch):
  own = engine.Engine(server.running().model, server.SIZES)
  own.start()
  state = app.Server(own, server.NAMES)
  sock = listen.bound("127.0.0.1", 0)
  url = f"http://127.0.0.1:{sock.getsockname()[1]}"
  came = threading.Event()
  monkeypatch.setattr(listen.stop, "requested", came.is_set)
  run = lambda: listen.run(state, sock, grace=5, max_connections=50)
  thread = threading.Thread(target=run)
  thread.start()
  with server.client(url) as web:
    server.until(lambda: not server.refused(web))
    assert server.ask(web)["choices"]
    with pytest.raises(ValueError, match="choose another --port"):
      listen.bound(*sock.getsockname())
    came.set()
    thread.join(20)
    assert not thread.is_alive() and not own.is_alive
    assert server.refused(web)


def test_an_engine_that_ended_tells_who_waited():
  own = engine.Engine(server.running().model, server.SIZES)
  own.close()
  with pytest.raises(job.Stopping):
    own.submit(None)
