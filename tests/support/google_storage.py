"""A store on this machine that speaks the JSON API of Google's storage.

Unlike the emulator of PyPI it keeps to preconditions (`ifGenerationMatch`),
says the generation of what it gives, and fails where a test wants it to. It has
what gcsfs and TensorStore ask for: objects are uploaded in one piece or, large
ones, in several, read in part or whole, listed, copied and deleted.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import base64
import collections
import contextlib
import functools
import hashlib
import http.server
import itertools
import json
import re
import threading
import urllib.parse

import pytest

from pg.data.storage import bucket  # noqa: F401, it says how gcsfs works

BUCKET = "bucket"
_OBJECT = re.compile(
  r"(/download|/upload)?(/storage/v1)?/b/(?P<bucket>[^/]+)/o(/(?P<name>[^/]+))?"
  r"(/(?P<verb>rewriteTo|copyTo)/b/[^/]+/o/(?P<target>[^/]+))?"
)


class Store:
  """Objects by their names, of one bucket.

  Attributes:
    objects: {name: (bytes, generation)}.
    asked: list of (method, name), all requests for an object or a list.
    failures: list of [pattern of "METHOD name", status, how many times], of
      answers that are an error instead; 0: the connection breaks.
  """

  def __init__(self):
    self.objects, self.asked, self.failures = {}, [], []
    self.generations, self.lock = itertools.count(1000), threading.RLock()
    self.uploads = {}  # id -> [name, precondition, bytes so far]

  def put(self, name, data, generation=None):
    """Writes an object; returns whether it had the wanted generation."""
    with self.lock:
      _, now = self.objects.get(name, (b"", 0))
      if generation is not None and int(generation) != now:
        return False
      self.objects[name] = bytes(data), next(self.generations)
      return True

  def failure(self, method, name):
    """Returns the status that a test wants for a request, or None."""
    with self.lock:
      for failure in self.failures:
        if failure[2] and re.search(failure[0], f"{method} {name}"):
          failure[2] -= 1
          return failure[1]
    return None


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  wbufsize = -1  # an answer is sent at once: else it waits for a slow ACK
  disable_nagle_algorithm = True

  def do_GET(self):
    self._answer("GET")

  def do_POST(self):
    self._answer("POST")

  def do_PUT(self):
    self._answer("PUT")

  def do_DELETE(self):
    self._answer("DELETE")

  def log_message(self, *args):
    pass

  def _answer(self, method):
    url = urllib.parse.urlsplit(self.path)
    self.query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    self.body = self._body()
    if url.path.startswith("/batch"):
      return self._batch()
    self._send(*self._one(method, url.path, self.body))

  def _body(self):
    if self.headers.get("Transfer-Encoding") != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    body = b""
    while size := int(self.rfile.readline().strip() or b"0", 16):
      body += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return body

  def _one(self, method, path, body):
    """Returns status, headers and content of the answer to a request."""
    store = self.server.store
    match = _OBJECT.fullmatch(path)
    if not match:
      return _error(404)
    name = urllib.parse.unquote(match["name"] or self._name(path, body))
    store.asked.append((method, name))
    if (status := store.failure(method, name)) is not None:
      if not status:
        raise ConnectionResetError
      return _error(status)
    if urllib.parse.unquote(match["bucket"]) != BUCKET:
      return _error(404)
    if path.startswith("/upload"):
      return self._upload(name, body)
    if match["verb"]:
      data, _ = store.objects[name]
      store.put(target := urllib.parse.unquote(match["target"]), data)
      return _json({"done": True, "resource": self._about(target)})
    if not match["name"]:
      return self._list()
    if name not in store.objects:
      return _error(404)
    if method == "DELETE":
      del store.objects[name]
      return 204, {}, b""
    if self.query.get("alt") != "media" and match[1] != "/download":
      return _json(self._about(name))
    return self._part(*store.objects[name])

  def _name(self, path, body):
    """Returns the name of what is uploaded, or the folder that is listed."""
    upload = self.server.store.uploads.get(self.query.get("upload_id"))
    if upload:
      return upload[0]
    if found := self.query.get("name") or self.query.get("prefix"):
      return found
    said = path.startswith("/upload") and re.search(rb'{"name": .*}', body)
    return json.loads(said[0])["name"] if said else ""

  def _about(self, name):
    data, generation = self.server.store.objects[name]
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    return {
      "kind": "storage#object",
      "name": name,
      "bucket": BUCKET,
      "size": str(len(data)),
      "generation": str(generation),
      "metageneration": "1",
      "md5Hash": md5,
      "updated": "2026-01-01T00:00:00.000Z",
      "timeCreated": "2026-01-01T00:00:00.000Z",
    }

  def _list(self):
    prefix, items = self.query.get("prefix", ""), []
    delimiter, prefixes = self.query.get("delimiter"), set()
    for name in sorted(self.server.store.objects):
      rest = name.removeprefix(prefix)
      if not name.startswith(prefix):
        continue
      if delimiter and delimiter in rest:
        prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
      elif name >= self.query.get("startOffset", ""):
        items.append(self._about(name))
    found = {"items": items, "prefixes": sorted(prefixes)}
    return _json({"kind": "storage#objects", **found})

  def _part(self, data, generation):
    headers = {"X-Goog-Generation": str(generation), "ETag": f'"{generation}"'}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
    if not wanted:
      return 200, headers, data
    start, end = int(wanted[1]), int(wanted[2] or len(data) - 1)
    if start >= len(data):
      return _error(416)
    part = data[start : end + 1]
    last = start + len(part) - 1
    headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
    return 206, headers, part

  def _upload(self, name, body):
    store, kind = self.server.store, self.query.get("uploadType")
    wanted = self.query.get("ifGenerationMatch")
    if kind == "media":
      return self._written(name, body, wanted)
    if kind == "multipart":
      boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])
      _, _, content, _ = body.split(b"--" + boundary[1].encode())
      # What ends a line is no part of it, be it one character or two.
      data = re.sub(rb"\r?\n\Z", b"", content.split(b"\n\n", 1)[1])
      return self._written(name, data, wanted)
    if "upload_id" not in self.query:
      key = str(next(store.generations))
      store.uploads[key] = [name, wanted, b""]
      host, path = self.headers["Host"], self.path
      return 200, {"Location": f"http://{host}{path}&upload_id={key}"}, b""
    upload = store.uploads[self.query["upload_id"]]
    upload[2] += body
    total = self.headers["Content-Range"].rpartition("/")[2]
    if total == "*" or len(upload[2]) < int(total):
      return 308, {"Range": f"bytes=0-{len(upload[2]) - 1}"}, b""
    return self._written(upload[0], upload[2], upload[1])

  def _written(self, name, data, wanted):
    if not self.server.store.put(name, data, wanted):
      return _error(412)
    return _json(self._about(name))

  def _batch(self):
    """Answers a few requests in one, which only delete."""
    boundary = re.search('boundary="?([^";]+)', self.headers["Content-Type"])
    parts = []
    for part in self.body.split(b"--" + boundary[1].encode())[1:-1]:
      path = re.search(rb"DELETE (\S+)", part)[1].decode()
      path = urllib.parse.urlsplit(path).path
      status, _, content = self._one("DELETE", path, b"")
      parts.append(
        b"--batch\r\nContent-Type: application/http\r\n\r\n"
        b"HTTP/1.1 %d OK\r\n\r\n%s\r\n" % (status, content)
      )
    kind = {"Content-Type": "multipart/mixed; boundary=batch"}
    self._send(200, kind, b"".join(parts) + b"--batch--")

  def _send(self, status, headers, content):
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    with contextlib.suppress(OSError):  # who asked was killed
      self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
  def handle_error(self, request, address):
    """Says nothing of a client that was killed."""


def _json(value):
  return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(status):
  said = collections.defaultdict(lambda: "Backend Error")
  said |= {
    401: "Anonymous caller: token_expired",
    403: "caller does not have storage.objects.create access",
    404: "The specified bucket does not exist.",
    416: "Requested range not satisfiable",
    412: "At least one of the pre-conditions you specified did not hold.",
  }
  about = {"error": {"code": status, "message": said[status]}}
  return status, {}, json.dumps(about).encode()


def variables(url):
  """Returns the environment in which gs:// is a store on this machine."""
  return dict(
    STORAGE_EMULATOR_HOST=url,
    TENSORSTORE_GCS_HTTP_URL=url,
    GOOGLE_AUTH_TOKEN_FOR_TESTING="none",
  )


@functools.cache
def running():
  """Starts a store that lasts as long as this process; returns URL and Store.

  There is one: TensorStore asks only once where it is.
  """
  server = Server(("127.0.0.1", 0), Handler)
  server.daemon_threads, server.store = True, Store()
  threading.Thread(target=server.serve_forever, daemon=True).start()
  return f"http://127.0.0.1:{server.server_port}", server.store


@pytest.fixture
def store(monkeypatch, tmp_path):
  """The empty Store that gs://bucket is."""
  gcsfs = pytest.importorskip("gcsfs")  # as pg/data/storage/bucket.py sets it
  url, store = running()
  store.__init__()
  for name, value in variables(url).items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv("PG_CACHE", str(tmp_path / "cache"))
  gcsfs.GCSFileSystem.clear_instance_cache()
  return store
