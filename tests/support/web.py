"""A web server on this machine, for tests of what is read from URLs."""

import contextlib
import functools
import http.server
import threading


class Handler(http.server.SimpleHTTPRequestHandler):
  """Serves files; a path with "slow" gets no answer while the server runs."""

  def do_GET(self):
    self.server.asked.append(self.path)
    if "slow" in self.path:
      self.server.over.wait(30)
    else:
      super().do_GET()

  def log_message(self, *args):
    pass


@contextlib.contextmanager
def serve(folder):
  """Yields the URL of a folder, and the list of paths that were asked for."""
  handler = functools.partial(Handler, directory=folder)
  with _serving(handler) as (url, server):
    yield url, server.asked


@contextlib.contextmanager
def answer(body, status=200, **headers):
  """Yields the URL of a server that answers everything with the same bytes.

  It says nothing of their number, unless a header does.
  """

  class Same(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      self.send_response(status)
      for name, value in headers.items():
        self.send_header(name.replace("_", "-"), value)
      self.end_headers()
      with contextlib.suppress(OSError):  # who asked had enough
        self.wfile.write(body)

    def do_HEAD(self):
      self.do_GET()

    def log_message(self, *args):
      pass

  with _serving(Same) as (url, _):
    yield url


@contextlib.contextmanager
def _serving(handler):
  server = http.server.ThreadingHTTPServer(("", 0), handler)
  server.asked, server.over = [], threading.Event()
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    yield f"http://127.0.0.1:{server.server_port}", server
  finally:
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
