"""Names of weights, against a small server that stands in for the hub."""

import hashlib
import http.server
import json
import os
import pathlib
import re
import sys
import threading
import time
import types

import fsspec
import pytest
from huggingface_hub import constants, file_download

from pg.data.storage import remote
from pg.weights import hub
from tests.support import web

REPO = "google/paligemma-test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = b'{"model_type": "paligemma"}'
WEIGHTS = b"PK\3\4" + (bytes(range(256)) * 1000)[4:]
FILES = {
  "config.json": CONFIG,
  "model-00001-of-00002.safetensors": WEIGHTS,
  "model-00002-of-00002.safetensors": WEIGHTS[::-1],
  "model.safetensors.index.json": b"{}",
  "tokenizer.model": b"pieces",
  "pytorch_model.bin": b"the same once more",
}
PARTIAL = re.compile(r"\.(part|incomplete)$")
FIRST = "model-00001-of-00002.safetensors"


class Server(http.server.ThreadingHTTPServer):
  """Serves repositories as the hub does, and plain files under /plain/.

  Attributes:
    cache: folder, where the downloads go.
    repos: {name: {path: bytes}}.
    plain: {path: bytes}.
    log: list of (method, path, Range header or None).
    cut: {path: [bytes, ...]}: how much the next answers send before they stop.
    wrong: {path: bytes}: what is sent in place of what was promised.
    terms: token that a gated repository wants, or None.
    ranges: bool, whether Range headers are understood.
  """

  daemon_threads = True

  def __init__(self, cache):
    super().__init__(("127.0.0.1", 0), Handler)
    self.cache = cache
    self.repos, self.plain, self.log = {REPO: dict(FILES)}, {}, []
    self.cut, self.wrong, self.terms, self.ranges = {}, {}, None, True

  @property
  def url(self):
    return f"http://127.0.0.1:{self.server_address[1]}"

  def requests(self, path):
    return [(m, r) for m, p, r in self.log if p.endswith(path)]

  def wait_for_some(self, sent):
    """Waits until some of what was sent is written: a reset connection drops
    what the other side has not read.
    """
    for _ in range(500 if sent else 0):
      parts = [p for p in self.cache.rglob("*") if PARTIAL.search(p.name)]
      if any(p.stat().st_size for p in parts):
        break
      time.sleep(0.01)


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    path = self.path.partition("?")[0]
    self.server.log.append((self.command, path, self.headers.get("Range")))
    if api := re.fullmatch(r"/api/models/(\w+/[\w-]+)/(\w+)/(\w+)", path):
      self.api(*api.groups())
    elif file := re.fullmatch(r"/(\w+/[\w-]+)/resolve/(\w+)/(.+)", path):
      self.resolve(*file.groups())
    elif path.removeprefix("/plain/") in self.server.plain:
      self.file(path.removeprefix("/plain/"), self.server.plain, {})
    else:
      self.refuse(404, "")

  def api(self, repo, verb, revision):
    if repo not in self.server.repos:
      return self.refuse(404, "RepoNotFound")
    if revision not in ("main", COMMIT):
      return self.refuse(404, "RevisionNotFound")
    files = self.server.repos[repo]
    if verb == "revision":
      siblings = [{"rfilename": name} for name in files]
      answer = {"id": repo, "sha": COMMIT, "siblings": siblings}
    else:
      answer = [
        {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
        for name, data in files.items()
      ]
    return self.send(json.dumps(answer).encode(), 200, {})

  def resolve(self, repo, revision, name):
    if repo not in self.server.repos:
      return self.refuse(404, "RepoNotFound")
    if revision not in ("main", COMMIT):
      return self.refuse(404, "RevisionNotFound")
    files = self.server.repos[repo]
    if name not in files:
      return self.refuse(404, "EntryNotFound")
    if self.server.terms:
      if "Authorization" not in self.headers:
        return self.refuse(401, "GatedRepo")
      if self.headers["Authorization"] != f"Bearer {self.server.terms}":
        return self.refuse(403, "GatedRepo")
    return self.file(name, files, {"ETag": f'"{etag(files[name])}"'})

  def file(self, name, files, headers):
    data = files[name]
    headers |= {"X-Repo-Commit": COMMIT}
    status = 200
    if self.command == "GET":
      data = self.server.wrong.get(name, data)
    first = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
    if first and self.server.ranges:
      start, end = int(first[1]), int(first[2] or len(data) - 1)
      headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
      data, status = data[start : end + 1], 206
    self.send(data, status, headers, self.cut_of(name))

  def cut_of(self, name):
    cuts = self.server.cut.get(name)
    return cuts.pop(0) if cuts and self.command == "GET" else None

  def refuse(self, status, code):
    self.send(b"", status, {"X-Error-Code": code, "X-Error-Message": "no"})

  def send(self, body, status, headers, cut=None):
    self.send_response(status)
    for key, value in (headers | {"Content-Length": len(body)}).items():
      self.send_header(key, str(value))
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(body[:cut])
    if cut is not None:
      self.server.wait_for_some(cut)
      self.close_connection = True


def etag(data):
  """Returns what the hub names a file by: SHA-256 if large, else Git's SHA-1.

  The server's limit is 100 bytes.
  """
  if len(data) > 100:
    return hashlib.sha256(data).hexdigest()
  return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def server(monkeypatch, tmp_path, cache):
  with Server(cache) as server:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(remote, "_PAUSE", 0)
    hurry = types.SimpleNamespace(sleep=lambda _: None)
    monkeypatch.setattr(file_download, "time", hurry)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server
    server.shutdown()


@pytest.fixture
def cache(tmp_path):
  return tmp_path / "cache"


def contents(folder):
  """Returns {name: bytes} of what has a final name."""
  return {
    path.name: path.read_bytes()
    for path in sorted(pathlib.Path(folder).rglob("*"))
    if path.is_file()
    and not PARTIAL.search(path.name)
    and not path.name.endswith(".lock")
  }


def snapshots(cache):
  folders = pathlib.Path(cache).glob("models--*/snapshots")
  return {k: v for f in folders for k, v in contents(f).items()}


def message(error, kind, name, cache):
  """Returns the text of the one-line error that resolving ends in."""
  with pytest.raises(kind, match=error) as caught:
    hub.resolve(name, cache=cache)
  assert "\n" not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  "name, path, subtree",
  [
    ("weights.npz:img", "weights.npz", "img"),
    ("runs/vqav2:llm", "runs/vqav2", "llm"),
    ("a.npz:img/Transformer", "a.npz", "img/Transformer"),
    (r"C:\weights.npz:img", r"C:\weights.npz", "img"),
    ("hf://google/siglip@main:img", "hf://google/siglip@main", "img"),
    ("https://h:80/a.npz:img", "https://h:80/a.npz", "img"),
    ("https://h/a.npz#sha256=0a:img", "https://h/a.npz#sha256=0a", "img"),
  ],
)
def test_a_subtree_is_split_off(name, path, subtree):
  assert hub.split_subtree(name) == (path, subtree)


@pytest.mark.parametrize(
  "name",
  [
    "weights.npz",
    "https://host/weights.npz",
    "https://host:8080/weights.npz",
    "https://user:word@host/a.npz",
    "gs://bucket/weights",
    "hf://google/paligemma@main",
    r"C:\weights.npz",
    "C:/weights",
    "C:weights",
  ],
)
def test_a_colon_of_another_meaning_stays(name):
  assert hub.split_subtree(name) == (name, None)


def test_a_file_with_a_colon_in_its_name_is_that_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("run:img").touch()
  assert hub.split_subtree("run:img") == ("run:img", None)


def test_what_is_here_is_returned_as_it_was_named(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  pathlib.Path("a.npz").touch()
  assert hub.resolve("a.npz") == "a.npz"
  assert hub.resolve(tmp_path) == str(tmp_path)


def test_a_missing_path_says_which_names_there_are(cache):
  text = message("no file or folder 'x.npz'", ValueError, "x.npz", cache)
  assert "did you mean" not in text
  message('did you mean "hf://a/b@c"?', ValueError, "a/b@c", cache)


def test_nano_comes_with_pg_and_a_folder_of_that_name_is_itself(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert os.path.isfile(os.path.join(hub.resolve("nano"), "config.json"))
  pathlib.Path("nano").mkdir()
  assert hub.resolve("nano") == "nano"


@pytest.mark.parametrize("name", ["runs/nano", "experiments/a/b"])
def test_a_run_that_is_not_there_yet_is_no_repository(
  name, cache, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "experiments").mkdir()
  text = message("a run is there once it was", ValueError, name, cache)
  assert f"--workdir {name}" in text and "hf://runs" not in text


def test_a_repository_comes_without_weights_in_other_formats(server, cache):
  path = hub.resolve(f"hf://{REPO}", cache=cache)
  wanted = {k: v for k, v in FILES.items() if k != "pytorch_model.bin"}
  assert contents(path) == wanted
  assert hub.resolve(f"hf://{REPO}@{COMMIT}", cache=cache) == path
  assert not server.requests("pytorch_model.bin")


def test_a_file_of_a_repository_comes_alone(server, cache):
  path = hub.resolve(f"hf://{REPO}@main/{FIRST}", cache=cache)
  assert pathlib.Path(path).read_bytes() == WEIGHTS
  assert list(snapshots(cache)) == [FIRST]


def test_complete_files_are_not_downloaded_or_hashed_again(
  server, cache, monkeypatch
):
  hub.resolve(f"hf://{REPO}", cache=cache)
  monkeypatch.setattr(hub, "_digest", None)
  hub.resolve(f"hf://{REPO}", cache=cache)
  gets = [r for r in server.requests(FIRST) if r[0] == "GET"]
  assert len(gets) == 1


def test_an_interrupted_repository_goes_on_where_it_stopped(
  server, cache, monkeypatch
):
  monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
  server.cut[FIRST] = [100_000]
  path = hub.resolve(f"hf://{REPO}", cache=cache)
  assert contents(path)[FIRST] == WEIGHTS
  gets = [r for r in server.requests(FIRST) if r[0] == "GET"]
  assert gets[0] == ("GET", None)
  assert gets[1:] in ([("GET", f"bytes={n}-")] for n in (50_000, 100_000))


def test_a_repository_that_breaks_off_leaves_only_complete_files(
  server, cache, monkeypatch
):
  monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
  server.cut[FIRST] = [100_000] + [0] * 20
  text = message("broke off", OSError, f"hf://{REPO}", cache)
  assert REPO in text and "run it again" in text
  here = snapshots(cache)
  assert FIRST not in here
  assert here.items() <= FILES.items()
  server.cut.clear()
  assert contents(hub.resolve(f"hf://{REPO}", cache=cache))[FIRST] == WEIGHTS


def test_a_wrong_checksum_is_an_error_and_the_file_goes(server, cache):
  server.wrong[FIRST] = WEIGHTS[:-1] + b"\0"
  text = message("wrong checksum", OSError, f"hf://{REPO}", cache)
  assert FIRST in text and etag(WEIGHTS) in text
  assert FIRST not in snapshots(cache)
  server.wrong.clear()
  assert contents(hub.resolve(f"hf://{REPO}", cache=cache))[FIRST] == WEIGHTS


def test_a_file_that_changes_in_the_cache_is_checked_again(server, cache):
  path = pathlib.Path(hub.resolve(f"hf://{REPO}", cache=cache))
  (path / FIRST).write_bytes(WEIGHTS[::-1])  # through the link
  message("wrong checksum", OSError, f"hf://{REPO}", cache)


def test_a_small_file_is_checked_like_a_large_one(server, cache):
  server.wrong["config.json"] = CONFIG.swapcase()
  message("config.json of .* wrong checksum", OSError, f"hf://{REPO}", cache)


def test_a_wrong_size_is_an_error(server, cache):
  server.wrong[FIRST] = WEIGHTS[:500]
  message("broke off .* size", OSError, f"hf://{REPO}", cache)
  assert FIRST not in snapshots(cache)


def test_no_network_is_an_error_unless_everything_is_here(
  server, cache, monkeypatch
):
  path = hub.resolve(f"hf://{REPO}", cache=cache)
  monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
  assert hub.resolve(f"hf://{REPO}", cache=cache) == path
  text = message("cannot reach", OSError, "hf://google/other", cache)
  assert "http://127.0.0.1:9" in text and "google/other" in text


def test_a_gated_repository_says_how_to_get_in(server, cache, monkeypatch):
  server.terms = "hf_good"
  text = message("is gated", ValueError, f"hf://{REPO}", cache)
  assert f"accept the terms on {server.url}/{REPO}" in text
  assert "hf auth login" in text and "HF_TOKEN" in text
  monkeypatch.setenv("HF_TOKEN", "hf_terms_not_accepted")
  message("is gated", ValueError, f"hf://{REPO}", cache)
  message("is gated", ValueError, f"hf://{REPO}/{FIRST}", cache)
  assert snapshots(cache) == {}
  monkeypatch.setenv("HF_TOKEN", "hf_good")
  assert contents(hub.resolve(f"hf://{REPO}", cache=cache))[FIRST] == WEIGHTS


def test_an_unknown_repository_is_an_error(server, cache):
  text = message("no repository", ValueError, "hf://google/paligema", cache)
  assert "google/paligema" in text and server.url in text


def test_an_unknown_revision_is_an_error(server, cache):
  text = message("no revision 'mian'", ValueError, f"hf://{REPO}@mian", cache)
  assert REPO in text


def test_an_unknown_file_of_a_repository_names_the_nearest(server, cache):
  name = f"hf://{REPO}/tokeniser.model"
  message('did you mean "tokenizer.model"', ValueError, name, cache)


def test_a_repository_without_a_config_asks_for_a_file(server, cache):
  server.repos[REPO] = {"weights.npz": b"zip"}
  text = message("has no config.json", ValueError, f"hf://{REPO}", cache)
  assert f"hf://{REPO}/<file>" in text


def test_a_mirror_that_names_files_in_its_own_way_is_believed(
  server, cache, monkeypatch
):
  monkeypatch.setitem(globals(), "etag", lambda data: f"v{hash(data)}")
  assert contents(hub.resolve(f"hf://{REPO}", cache=cache))[FIRST] == WEIGHTS


@pytest.mark.parametrize("name", ["hf://paligemma", "hf:google/x", "hf://a/b@"])
def test_a_malformed_name_of_the_hub_is_an_error(name, cache):
  text = message("is not a name of the hub", ValueError, name, cache)
  assert "hf://owner/repository[@revision][/file]" in text


def test_a_file_of_a_web_server_is_downloaded_once(server, cache):
  server.plain["a.npz"] = WEIGHTS
  path = hub.resolve(f"{server.url}/plain/a.npz", cache=cache)
  assert os.path.basename(path) == "a.npz"
  assert pathlib.Path(path).read_bytes() == WEIGHTS
  assert hub.resolve(f"{server.url}/plain/a.npz", cache=cache) == path
  gets = [r for r in server.requests("a.npz") if r[0] == "GET"]
  assert gets == [("GET", None)]


def test_an_interrupted_download_goes_on_by_range(server, cache):
  server.plain["a.npz"] = WEIGHTS
  server.cut["a.npz"] = [100_000]
  path = hub.resolve(f"{server.url}/plain/a.npz", cache=cache)
  assert pathlib.Path(path).read_bytes() == WEIGHTS
  first, second = [r for m, r in server.requests("a.npz") if m == "GET"]
  start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", second).groups())
  assert first is None and 0 < start <= 100_000 and end == len(WEIGHTS) - 1


def test_a_later_run_goes_on_where_one_broke_off(server, cache, monkeypatch):
  server.plain["a.npz"] = WEIGHTS
  server.cut["a.npz"] = [100_000] + [0] * 9
  url = f"{server.url}/plain/a.npz"
  text = message(r"broke off at \d+ of 256000 bytes", OSError, url, cache)
  assert "run it again" in text
  assert contents(cache) == {}
  done = int(re.search(r"at (\d+) of", text)[1])
  assert 0 < done <= 100_000
  server.cut.clear()
  server.log.clear()
  monkeypatch.setattr(remote, "_CHUNK", 100_000)
  assert pathlib.Path(hub.resolve(url, cache=cache)).read_bytes() == WEIGHTS
  gets = [r for m, r in server.requests("a.npz") if m == "GET"]
  assert gets == [
    f"bytes={start}-{min(start + 100_000, len(WEIGHTS)) - 1}"
    for start in range(done, len(WEIGHTS), 100_000)
  ]


def test_a_server_without_ranges_is_asked_from_the_start_again(server, cache):
  server.ranges = False
  server.plain["a.npz"] = WEIGHTS
  server.cut["a.npz"] = [100_000]
  path = hub.resolve(f"{server.url}/plain/a.npz", cache=cache)
  assert pathlib.Path(path).read_bytes() == WEIGHTS


def test_another_version_is_another_download(server, cache):
  server.plain["a.npz"] = WEIGHTS
  url = f"{server.url}/plain/a.npz"
  old = hub.resolve(url, cache=cache)
  server.plain["a.npz"] = WEIGHTS * 2
  new = hub.resolve(url, cache=cache)
  assert pathlib.Path(new).read_bytes() == WEIGHTS * 2
  assert pathlib.Path(old).read_bytes() == WEIGHTS


def test_a_download_is_compared_with_the_checksum_in_its_name(server, cache):
  server.plain["a.npz"] = WEIGHTS
  url = f"{server.url}/plain/a.npz#sha256={etag(WEIGHTS)}"
  assert pathlib.Path(hub.resolve(url, cache=cache)).read_bytes() == WEIGHTS
  wrong = f"{server.url}/plain/a.npz#sha256={'0' * 64}"
  text = message("got sha256", OSError, wrong, cache / "other")
  assert etag(WEIGHTS) in text and "0" * 64 in text
  assert contents(cache / "other") == {}
  message("64 of 0-9 and a-f", ValueError, f"{url}00", cache)


def test_a_download_is_compared_with_the_checksum_of_the_bucket(
  bucket, cache, monkeypatch
):
  bucket.pipe_file("/b/a.npz", WEIGHTS)
  plain = type(bucket).info
  monkeypatch.setattr(
    type(bucket),
    "info",
    lambda self, path: plain(self, path) | {"md5Hash": "AAAA"},
  )
  message("got md5 .* wanted 000000", OSError, "memory://b/a.npz", cache)
  assert contents(cache) == {}


def test_a_download_of_the_wrong_size_is_an_error(server, cache):
  server.plain["a.npz"] = WEIGHTS
  server.wrong["a.npz"] = WEIGHTS[:500]
  url = f"{server.url}/plain/a.npz"
  message("got 500 bytes, wanted 256000", OSError, url, cache)
  assert contents(cache) == {}


@pytest.fixture
def bucket():
  fs = fsspec.filesystem("memory")
  fs.store.clear()
  fs.pseudo_dirs[:] = [""]
  yield fs
  fs.store.clear()


def test_a_folder_of_a_bucket_appears_when_it_is_complete(
  bucket, cache, monkeypatch
):
  bucket.pipe({"/b/run/config.json": CONFIG, "/b/run/x/y.npz": WEIGHTS})
  download, done = remote._download, []

  def failing(fs, path, *rest):
    if done:
      raise OSError("cable")
    done.append(path)
    download(fs, path, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(remote, "_download", failing)
    message("cable", OSError, "memory://b/run", cache)
  assert not list(cache.glob("*/run"))
  path = hub.resolve("memory://b/run", cache=cache)
  assert contents(path) == {"config.json": CONFIG, "y.npz": WEIGHTS}
  assert (pathlib.Path(path) / "x" / "y.npz").exists()
  assert hub.resolve("memory://b/run", cache=cache) == path


def test_two_who_want_the_same_file_download_it_once(server, cache):
  server.plain["a.npz"] = WEIGHTS
  url, got = f"{server.url}/plain/a.npz", []
  threads = [
    threading.Thread(target=lambda: got.append(hub.resolve(url, cache=cache)))
    for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(got) == 4
  assert {pathlib.Path(path).read_bytes() for path in got} == {WEIGHTS}
  assert [m for m, _ in server.requests("a.npz")].count("GET") == 1


@pytest.mark.parametrize(
  "kind, name, error",
  [
    (OSError, "{url}/plain/none.npz", "cannot read .*none.npz: .*404"),
    (OSError, "http://127.0.0.1:9/a.npz", "cannot read http://127.0.0.1:9/a"),
    (ValueError, "gss://bucket/a.npz", "'gss://bucket/a.npz' is no address"),
    (ValueError, "memory://b/..", "names no file"),
    (ValueError, "memory://", "names no file"),
  ],
)
def test_an_address_that_cannot_be_read_is_an_error(
  kind, name, error, server, bucket, cache
):
  bucket.pipe_file("/b/..", CONFIG)
  message(error, kind, name.format(url=server.url), cache)


def test_a_missing_library_is_named(cache, monkeypatch):
  # fsspec keeps the classes that an earlier test of the process has used.
  kept = sys.modules["fsspec.registry"]._registry
  monkeypatch.delitem(kept, "gs", raising=False)
  monkeypatch.setitem(sys.modules, "gcsfs", None)
  text = message("install gcsfs", ValueError, "gs://bucket/a.npz", cache)
  assert "gs://bucket/a.npz" in text


def test_the_tokenizer_hint_holds_names_that_can_be_resolved():
  names = re.findall(r"(?:hf|https)://[^ ,)]+", hub.tokenizer_hint())
  assert [name.partition("://")[0] for name in names] == ["hf", "https"]
  assert hub._HUB.fullmatch(names[0])["file"] == "tokenizer.model"
  assert re.search(r"#sha256=[0-9a-f]{64}$", names[1])


PAGE = b"<!DOCTYPE html><html><body>Log in</body></html>"


@pytest.mark.parametrize(
  "name, body",
  [
    ("a.npz", PAGE),
    ("a.safetensors", PAGE),
    ("tokenizer.model", PAGE),
    ("config.json", PAGE),
    ("train.jsonl", b"\n  <HTML>"),
    ("a.npz", b'{"error": "slow down"}'),
    ("config.json", b"Too many requests"),
    ("tokenizer.model", b"version https://git-lfs.github.com/spec/v1\n"),
  ],
)
def test_an_answer_of_another_kind_is_not_kept(name, body, server, cache):
  server.plain[name] = body
  url = f"{server.url}/plain/{name}"
  text = message("not what it should be", OSError, url, cache)
  assert "a web page" in text or repr(body[:9])[:9] in text
  assert contents(cache) == {}


def test_a_download_that_does_not_end_is_stopped(server, cache, monkeypatch):
  monkeypatch.setattr(remote, "_UNANNOUNCED", 1000)
  monkeypatch.setattr(remote, "_CHUNK", 500)
  with web.answer(WEIGHTS) as url:
    text = message("got 1500 bytes", OSError, f"{url}/a.npz", cache)
  assert "wanted at most 1000" in text
  assert contents(cache) == {}


def test_a_download_without_room_is_not_begun(server, cache, monkeypatch):
  server.plain["a.npz"] = WEIGHTS
  usage = types.SimpleNamespace(free=255_999)
  monkeypatch.setattr(remote.shutil, "disk_usage", lambda folder: usage)
  message("has room for 255,999", OSError, f"{server.url}/plain/a.npz", cache)
  assert [m for m, _ in server.requests("a.npz")].count("GET") == 0
