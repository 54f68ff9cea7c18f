"""Listens on a port until a signal; running answers are finished first."""

import asyncio
import contextlib
import socket
import time

import uvicorn
from uvicorn.protocols.http import h11_impl

from pg import progress, stop

HEAD_SECONDS = 15.0  # until a request's first lines are there
PAUSE = 0.1  # seconds between two looks whether a signal came


class Protocol(h11_impl.H11Protocol):
  """HTTP that does not wait for a client that connects and says nothing."""

  _patience = None

  def connection_made(self, transport):
    super().connection_made(transport)
    self._wait()

  def data_received(self, data):
    super().data_received(data)
    if self.scope is not None:  # the first lines are there
      self._patience.cancel()

  def connection_lost(self, exc):
    self._patience.cancel()
    super().connection_lost(exc)

  def on_response_complete(self):
    self.scope = None
    super().on_response_complete()
    if self.scope is None:
      self._wait()

  def _wait(self):
    if self._patience:
      self._patience.cancel()
    self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.close)


class _Uvicorn(uvicorn.Server):
  """Leaves signals to pg/stop.py."""

  @contextlib.contextmanager
  def capture_signals(self):
    yield


def bound(host, port):
  """Returns a socket with an address, on which nobody listens yet.

  Raises:
    ValueError: it is taken, or none of this machine.
  """
  try:
    kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(*kind[:3])
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(kind[4])
  except (OSError, OverflowError) as error:
    raise ValueError(
      f"cannot listen to port {port} of {host}: {error}; choose another --port"
      " or --host"
    ) from error
  return found


def made(app, **options):
  """Returns a uvicorn server of an ASGI application; see `run`."""
  config = uvicorn.Config(
    app,
    http=Protocol,
    ws="none",
    lifespan="off",
    log_level="error",
    access_log=False,
    server_header=False,
    timeout_keep_alive=30,
    timeout_graceful_shutdown=3,  # for those who do not read their answer
    **options,
  )
  return _Uvicorn(config)


def run(server, sock, *, grace, max_connections):
  """Serves until SIGTERM or Ctrl-C.

  Args:
    server: app.Server, whose engine runs.
    sock: of `bound`.
    grace: float, seconds that running answers have after a signal.
    max_connections: int; more get 503.

  Raises:
    Stopped: a signal came.
  """
  own = made(server.app(), limit_concurrency=max_connections)

  async def serve():
    serving = asyncio.create_task(own.serve(sockets=[sock]))
    while not own.started and not serving.done():
      await asyncio.sleep(PAUSE)
    host, port, *_ = sock.getsockname()
    progress.say(f"ready: http://{f'[{host}]' if ':' in host else host}:{port}")
    while not stop.requested() and not serving.done():
      await asyncio.sleep(PAUSE)
    await end(server, grace)
    own.should_exit = True
    await serving

  try:
    asyncio.run(serve())
  finally:
    server.close()
  stop.check()


async def end(server, grace):
  """Waits until running answers are told, for `grace` seconds at most."""
  server.stop()
  until = time.monotonic() + grace
  while not server.is_idle() and time.monotonic() < until:
    await asyncio.sleep(PAUSE)
  server.engine.close()
