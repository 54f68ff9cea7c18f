"""A server that stands in for Hugging Face's hub, for datasets."""

import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

import pytest
from huggingface_hub import HfFileSystem, constants

REVISIONS = "(?:main|refs/convert/parquet)"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers as the hub does; `server.files` is {path: bytes} of a dataset."""

  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    path, _, query = self.path.partition("?")
    path = urllib.parse.unquote(path)
    repo = f"datasets/{self.server.repo}"
    if re.fullmatch(f"/api/{repo}(/revision/{REVISIONS})?", path):
      names = [{"rfilename": name} for name in self.server.files]
      self.answer({"id": self.server.repo, "sha": COMMIT, "siblings": names})
    elif tree := re.fullmatch(f"/api/{repo}/tree/{REVISIONS}/?(.*)", path):
      self.folder(tree[1], "recursive=true" in query.lower())
    elif file := re.fullmatch(f"/{repo}/resolve/{REVISIONS}/(.+)", path):
      self.file(file[1])
    else:
      self.send(b"", 404, {"X-Error-Code": "RepoNotFound"})

  def do_POST(self):
    size = int(self.headers["Content-Length"])
    asked = urllib.parse.parse_qs(self.rfile.read(size).decode())["paths"]
    files = self.server.files
    self.answer([about(n, files[n]) for n in asked if n in files])

  def folder(self, name, recursive):
    start = f"{name}/" if name else ""
    files, found = self.server.files, {}
    for path in files:
      if path.startswith(start):
        first, slash, _ = path[len(start) :].partition("/")
        if slash:
          folder = {"type": "directory", "path": start + first, "oid": "0"}
          found[start + first] = folder
        if recursive or not slash:
          found[path] = about(path, files[path])
    if found:
      self.answer([*found.values()])
    else:
      self.send(b"", 404, {"X-Error-Code": "EntryNotFound"})

  def file(self, name):
    self.server.asked.append((self.command, name))
    data, status, headers = self.server.files[name], 200, {}
    headers["ETag"] = f'"{about(name, data)["oid"]}"'
    headers["X-Repo-Commit"] = COMMIT
    part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
    if part:
      size, (start, end) = len(data), map(int, part.groups())
      data, status = data[start : end + 1], 206
      headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    self.send(data, status, headers)

  def answer(self, content):
    self.send(json.dumps(content).encode(), 200, {})

  def send(self, body, status, headers):
    self.send_response(status)
    for key, value in (headers | {"Content-Length": str(len(body))}).items():
      self.send_header(key, value)
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(body)


def about(name, data):
  oid = hashlib.sha1(data).hexdigest()
  return {"type": "file", "path": name, "size": len(data), "oid": oid}


@contextlib.contextmanager
def serve(repo, files):
  """Yields a server of one dataset that huggingface_hub takes for the hub.

  Attributes of it: `files`, {path: bytes}, and `asked`, a list of the method
  and path of requests for files.
  """
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.daemon_threads = True
  server.repo, server.files, server.asked = repo, files, []
  url = f"http://127.0.0.1:{server.server_port}"
  thread = threading.Thread(target=server.serve_forever, args=(0.01,))
  thread.start()
  try:
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(constants, "ENDPOINT", url)
      template = url + "/{repo_id}/resolve/{revision}/{filename}"
      patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
      HfFileSystem.clear_instance_cache()
      yield server
  finally:
    HfFileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()
    thread.join()
