"""Weights go to the hub with a card, to a server that stands in for it."""

import base64
import hashlib
import http.server
import json
import re
import threading
import types

import huggingface_hub
import pytest
from huggingface_hub import constants

from pg import convert
from pg.codecs import tokenizer
from pg.weights import card
from tests.weights.test_load import draw, read
from tests.weights.test_npz import assert_same, save

TOKEN = "hf_of_nobody"
OID = "0123456789abcdef0123456789abcdef01234567"


class Handler(http.server.BaseHTTPRequestHandler):
  """Takes repositories as the hub does: {name: {path: bytes}}."""

  protocol_version = "HTTP/1.1"

  def log_message(self, *_):
    pass

  def body(self):
    if self.headers.get("Transfer-Encoding") != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    data = b""
    while size := int(self.rfile.readline(), 16):
      data += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    return data

  def do_PUT(self):
    oid, data = self.path.rpartition("/")[2], self.body()
    if self.server.broken:
      return self.answer({"error": "out of order"}, 400)
    assert hashlib.sha256(data).hexdigest() == oid
    self.server.large[oid] = data
    self.answer({})

  def do_POST(self):
    data, path = self.body(), self.path.partition("?")[0]
    if self.headers["Authorization"] != f"Bearer {TOKEN}":
      return self.answer({"error": "no"}, 403)
    if path == "/api/repos/create":
      asked = json.loads(data)
      name = f"{asked['organization']}/{asked['name']}"
      status = 409 if name in self.server.repos else 200
      self.server.repos.setdefault(name, {})
      self.server.created.append(asked)
      return self.answer({"url": f"{self.server.url}/{name}"}, status)
    if path == "/api/validate-yaml":
      return self.answer({"errors": [], "warnings": []})
    if found := re.fullmatch(r"/api/models/(.*)/preupload/main", path):
      how = lambda x: "lfs" if x["path"].endswith(".safetensors") else "regular"
      files = [
        {"path": x["path"], "uploadMode": how(x), "shouldIgnore": False}
        for x in json.loads(data)["files"]
      ]
      return self.answer({"files": files})
    if path.endswith("/info/lfs/objects/batch"):
      objects = [
        x | {"actions": {"upload": {"href": f"{self.server.url}/{x['oid']}"}}}
        for x in json.loads(data)["objects"]
      ]
      return self.answer({"transfer": "basic", "objects": objects})
    found = re.fullmatch(r"/api/models/(.*)/commit/main", path)
    files = self.server.repos[found[1]]
    for line in data.splitlines():
      row = json.loads(line)
      value = row["value"]
      if row["key"] == "file":
        files[value["path"]] = base64.b64decode(value["content"])
      elif row["key"] == "lfsFile":
        files[value["path"]] = self.server.large[value["oid"]]
    url = f"{self.server.url}/{found[1]}/commit/{OID}"
    self.answer({"commitUrl": url, "commitOid": OID})

  def do_GET(self):
    if self.headers["Authorization"] != f"Bearer {TOKEN}":
      return self.answer({"error": "no"}, 403)
    self.answer({"id": "me/mine", "sha": OID, "siblings": []})

  def answer(self, content, status=200):
    body = json.dumps(content).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
  made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  made.url = f"http://127.0.0.1:{made.server_port}"
  made.repos, made.large, made.created, made.broken = {}, {}, [], False
  monkeypatch.setenv("HF_ENDPOINT", made.url)
  # Its storage speaks a protocol of its own; this is the other one, Git LFS.
  monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
  monkeypatch.setenv("HF_TOKEN", TOKEN)
  threading.Thread(target=made.serve_forever, args=(0.01,)).start()
  yield made
  made.shutdown()
  made.server_close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "a.npz"
  flat = draw()
  save(path, flat)
  return path, flat


def run(*words):
  """Runs the verb, as from the command line."""
  args = dict(zip(("src", "dst"), words[:2], strict=True))
  args |= dict(to="hf", dtype=None, res=None, seed=0, check=False)
  args |= dict(tokenizer=tokenizer.NANO, push="me/mine") | dict(words[2:])
  convert.main(types.SimpleNamespace(**args))


def test_a_folder_is_uploaded_whole_to_a_private_repository(
  server, weights, tmp_path, capsys
):
  path, flat = weights
  run(path, str(tmp_path / "hf"))
  assert server.created[0]["visibility"] == "private"
  here = {x.name: x.read_bytes() for x in (tmp_path / "hf").iterdir()}
  assert server.repos == {"me/mine": here}
  assert "model.safetensors" in here and "README.md" in here
  said = capsys.readouterr()
  assert f"me/mine/commit/{OID}: uploaded" in said.out
  assert TOKEN not in said.out + said.err
  assert_same(read(tmp_path / "hf")[1], flat)
  run(path, str(tmp_path / "again"))  # the repository is there


def test_an_upload_that_fails_leaves_the_folder_and_says_how_to_go_on(
  server, weights, tmp_path, monkeypatch
):
  path, flat = weights
  server.broken = True
  out = str(tmp_path / "hf")
  said = (
    f"broke off.*{out} is complete; to go on: hf upload me/mine {out} . --p"
  )
  with pytest.raises(OSError, match=said):
    run(path, out)
  assert_same(read(out)[1], flat)
  monkeypatch.setenv("HF_TOKEN", "another")
  with pytest.raises(
    ValueError, match="does not let this token write.*hf uplo"
  ):
    run(path, str(tmp_path / "b"))


def test_what_cannot_be_uploaded_is_found_before_anything_is_written(
  weights, tmp_path, monkeypatch
):
  path, _ = weights
  for change, said in (
    (dict(push="mine"), "wanted owner/name"),
    (dict(to="npz"), "is of a folder for it: --to hf"),
    (dict(), "no token of the hub's; log in with `hf auth login`"),
  ):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match=said):
      run(path, str(tmp_path / "x"), *change.items())
  with pytest.raises(ValueError, match="is of a folder here, not gs://b/x"):
    run(path, "gs://b/x")
  assert not list(tmp_path.iterdir())


def fake_run(folder, **config):
  """Makes what a card reads of a run."""
  (folder / "checkpoints" / "5" / "state").mkdir(parents=True)
  (folder / "checkpoints" / "5" / "commit_success.txt").touch()
  config = dict(init="", res=48, pp="decode | resize(48)") | config
  config |= dict(model=dict(variant="nano"), data=dict(path="/secret/place"))
  (folder / "config.json").write_text(json.dumps(config))
  one = dict(value=0.75, low=0.7, high=0.8, blind=0.25, n=64)
  (folder / "scores.json").write_text(json.dumps(dict(val=dict(exact=one))))
  return folder


def card_of(src, tmp_path):
  card.write(tmp_path, "me/mine", str(src))
  return (tmp_path / "README.md").read_text()


def test_a_card_names_base_config_scores_and_terms(tmp_path, monkeypatch):
  base = "hf://google/paligemma-3b-pt-224@main"
  first = fake_run(tmp_path / "first", init=base)
  run = fake_run(tmp_path / "run", init=str(first), lora=dict(rank=8))
  workdir = lambda x: None if "hf:" in x else str(x).removesuffix(":best")
  monkeypatch.setattr(card, "_workdir", workdir)
  text = card_of(run, tmp_path)
  front = huggingface_hub.ModelCard(text).data
  assert front.base_model == ["google/paligemma-3b-pt-224"]
  assert front.license == "gemma"
  assert front.pipeline_tag == "image-text-to-text"
  assert f"adapters (LoRA) of `{base}`" in text
  assert '| `model.variant` | `"nano"` |' in text and "| `res` | `48` |" in text
  assert "| val | exact | 0.75 | 0.7 to 0.8 | 0.25 | 64 |" in text
  assert card.TERMS in text and 'from_pretrained("me/mine")' in text
  assert re.search("at commit `[0-9a-f]{7,}", text)
  assert "secret" not in text and str(tmp_path) not in text
  assert "0.75" not in card_of(f"{run}:best", tmp_path)  # scores of the newest


def test_a_run_from_its_start_is_not_of_gemma(tmp_path, monkeypatch):
  run = fake_run(tmp_path / "run")
  monkeypatch.setattr(card, "_workdir", str)
  text = card_of(run, tmp_path)
  assert "from its very start" in text and "gemma" not in text.lower().replace(
    "paligemma", ""
  )
  assert '| `pp` | `"decode \\| resize(48)"` |' in text


def test_a_card_of_weights_says_where_they_are_from(tmp_path, weights):
  for src, said in (
    (
      "https://me:word@host/a.npz?key=1",
      "made of `https://***@host/a.npz?***`",
    ),
    (str(weights[0]), "made of weights that have no public name"),
    ("hf://o/r+" + str(tmp_path), "made of `hf://o/r`"),
  ):
    text = card_of(src, tmp_path)
    assert said in text and str(weights[0]) not in text
