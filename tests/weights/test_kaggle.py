"""Weights on Kaggle, against a small server that stands in for it."""

import base64
import hashlib
import http.server
import json
import pathlib
import sys
import threading

import pytest

from pg.codecs import tokenizer
from pg.weights import hub, load, opened
from tests.weights.test_load import draw
from tests.weights.test_npz import save

kagglehub = pytest.importorskip("kagglehub")
NAME = "kaggle://google/paligemma/jax/nano"
SECRET = "a-token-of-nobody"


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers as Kaggle does; `server.files` is {name: bytes} of version 2."""

  def log_message(self, *_):
    pass

  def do_POST(self):
    size = int(self.headers["Content-Length"])
    asked = json.loads(self.rfile.read(size))
    verb = self.path.rpartition("/")[2]
    self.server.log.append((verb, asked.get("path")))
    if self.headers["Authorization"] != f"Bearer {SECRET}":
      return self.refuse(403)
    if asked["instanceSlug"] != "nano" or self.server.status != 200:
      return self.refuse(max(404, self.server.status))
    if verb == "GetModelInstance":
      return self.answer({"versionNumber": 2})
    files = self.server.files
    name = asked.get("path", next(iter(files)))
    if asked["versionNumber"] != 2 or name not in files:
      return self.refuse(404)
    if verb == "ListModelInstanceVersionFiles":
      named = [{"name": name, "totalBytes": len(files[name])} for name in files]
      return self.answer({"files": named})
    self.send(302, b"", {"Location": f"/stored/{asked['path']}"})

  def do_GET(self):
    data = self.server.files[self.path.removeprefix("/stored/")]
    digest = base64.b64encode(hashlib.md5(data).digest()).decode()
    data = data[:-9] if self.server.damaged else data
    self.send(200, data, {"x-goog-hash": f"md5={digest}"})

  def refuse(self, status):
    self.send(status, b"no")

  def answer(self, content):
    how = {"Content-Type": "application/json"}
    self.send(200, json.dumps(content).encode(), how)

  def send(self, status, body, headers=()):
    self.send_response(status)
    for key, value in (dict(headers) | {"Content-Length": len(body)}).items():
      self.send_header(key, str(value))
    self.end_headers()
    self.wfile.write(body)


@pytest.fixture
def server(tmp_path, monkeypatch):
  from kagglesdk import kaggle_env

  served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  served.log, served.status, served.damaged = [], 200, False
  save(tmp_path / "a.npz", draw())
  model = pathlib.Path(tokenizer.NANO).read_bytes()
  served.files = {
    "a.npz": (tmp_path / "a.npz").read_bytes(),
    "tokenizer.model": model,
    "README.md": b"read me",
  }
  url = f"http://127.0.0.1:{served.server_port}"
  where = kaggle_env._env_to_endpoint
  monkeypatch.setitem(where, kaggle_env.KaggleEnv.PROD, url)
  monkeypatch.setenv("HOME", str(tmp_path))  # no credentials, no cache
  monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
  monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
  threading.Thread(target=served.serve_forever, args=(0.01,)).start()
  yield served
  served.shutdown()
  served.server_close()


def test_the_only_npz_is_opened_with_its_tokenizer(server):
  weights = load.open(NAME)
  weights.reader.close()
  got = pathlib.Path(opened.need_tokenizer(weights)).read_bytes()
  assert got == server.files["tokenizer.model"]
  assert weights.cfg.llm.vocab_size == 1920
  downloads = [path for _, path in server.log if path]
  assert sorted(downloads) == ["a.npz", "tokenizer.model"]
  server.log.clear()
  load.open(f"{NAME}/2:img").reader.close()  # what is there stays
  assert not [path for _, path in server.log if path]


def test_a_version_and_a_file_are_named(server):
  path = hub.resolve(f"{NAME}/2/a.npz")
  assert pathlib.Path(path).read_bytes() == server.files["a.npz"]
  server.log.clear()
  server.status = 500  # the cache is enough
  assert hub.resolve(f"{NAME}/2/a.npz") == path and not server.log


def test_a_folder_without_an_npz_is_downloaded_whole(server):
  server.files = {"config.json": b"{}", "model.safetensors": b"x"}
  found = pathlib.Path(hub.resolve(NAME))
  assert {p.name for p in found.iterdir()} == set(server.files)


def test_of_several_npz_one_has_to_be_named(server):
  server.files["a.f16.npz"] = b""
  with pytest.raises(ValueError, match=f"several .npz; .*{NAME}/a.f16.npz"):
    hub.resolve(NAME)
  assert not [path for _, path in server.log if path]


@pytest.mark.parametrize(
  "name, said",
  [
    ("kaggle://google/paligemma", "is not a name of Kaggle's; wanted kaggle"),
    (NAME.replace("nano", "none"), "Kaggle has no google/paligemma/jax/none"),
    (f"{NAME}/7", "or not this version or file"),
    (f"{NAME}/b.npz", "or not this version or file"),
    (NAME.replace("jax", "jaxx"), "jaxx"),
  ],
)
def test_what_is_not_there_is_said(server, name, said):
  with pytest.raises(ValueError, match=said):
    hub.resolve(name)


def test_who_is_not_known_hears_what_to_do(server, monkeypatch, capfd):
  for token in ("another-token", ""):
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(ValueError) as refused:
      hub.resolve(f"{NAME}/a.npz")
    said = str(refused.value)
    assert (
      "accept them on https://www.kaggle.com/models/google/paligemma" in said
    )
    assert "KAGGLE_API_TOKEN" in said
    assert "another-token" not in said + str(capfd.readouterr())


def test_a_server_that_fails_and_a_damaged_file_are_said(server):
  server.damaged = True
  with pytest.raises(OSError, match="broke off.*run it again"):
    hub.resolve(f"{NAME}/a.npz")
  server.damaged, server.status = False, 503
  with pytest.raises(OSError, match="Kaggle answered 503"):
    hub.resolve(NAME)


def test_without_kagglehub_it_says_what_to_install(monkeypatch):
  monkeypatch.setitem(sys.modules, "kagglehub", None)
  with pytest.raises(ValueError, match="pip install -r requirements-kaggle"):
    hub.resolve(NAME)


def test_a_tokenizer_of_other_weights_is_not_taken(tmp_path):
  small = draw()
  name = "llm/embedder/input_embedding"
  small[name] = small[name][:1900]
  save(tmp_path / "a.npz", small)
  model = pathlib.Path(tokenizer.NANO).read_bytes()
  (tmp_path / "tokenizer.model").write_bytes(model)
  with pytest.raises(ValueError, match="without a tokenizer"):
    opened.need_tokenizer(load.open(tmp_path / "a.npz"))
