"""What `serve` makes of its flags."""

import argparse
import json

import pytest

from pg import serve
from pg.server import bounds, device, engine, listen
from tests.support import server

FLAGS = dict(
  checkpoint="runs/toy/",
  adapter=None,
  name=None,
  host="127.0.0.1",
  port=0,
  allow_host=None,
  token_file=None,
  urls=False,
  regex=True,
  slots=3,
  queue=5,
  num_images=None,
  max_prompt=None,
  max_answer=20,
  max_mib=2,
  max_pixels=1000,
  cache_mib=1,
  per_client=4,
  max_connections=9,
  body_seconds=1.0,
  request_seconds=2.0,
  grace_seconds=3.0,
  tokenizer=None,
  dtype=None,
  quantize=None,
  int8_keys=False,
  res=None,
  pp=None,
  mask_codec=None,
)


def test_flags_are_what_is_served(monkeypatch, one_device):
  model, _ = server.test_adapters.models()
  monkeypatch.setattr(serve.load_lib, "load", lambda *args, **how: model)
  monkeypatch.setattr(device.Device, "warm", lambda self: None)
  found = {}
  monkeypatch.setattr(listen, "run", lambda *x, **how: found.update(how, x=x))
  monkeypatch.setenv(serve.TOKEN, "correct horse")
  serve.main(argparse.Namespace(**FLAGS))
  state, sock = found.pop("x")
  sock.close()
  assert found == dict(grace=3.0, max_connections=9)
  assert state.names == {"toy": None} | {x: x for x in model.adapters}
  limits = bounds.Bounds(2 << 20, 1000, 1.0, 2.0, 4, False, True)
  assert state.bounds == limits
  assert state.engine.sizes == device.Sizes(3, 16, 32, 1, 5, 1 << 20)
  assert state._token == "correct horse"
  assert isinstance(state.engine, engine.Engine) and state.engine.is_alive
  state.close()


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
  monkeypatch.delenv(serve.TOKEN, raising=False)
  assert serve.token(None) is None
  path = tmp_path / "token"
  path.write_text("correct horse\n")
  assert serve.token(path) == "correct horse"
  monkeypatch.setenv(serve.TOKEN, "another horse")
  assert serve.token(None) == "another horse"
  for text in ("", "short"):
    path.write_text(text)
    with pytest.raises(ValueError, match="wanted 8 or more"):
      serve.token(path)


def test_names_of_models_are_different(one_device):
  model, _ = server.test_adapters.models()
  assert serve.names(model, "a")["dora"] == "dora"
  with pytest.raises(ValueError, match="--name another"):
    serve.names(model, "dora")


def test_a_server_of_this_machine_alone_answers_to_its_names_alone():
  assert serve.hosts("0.0.0.0", None) is None
  local = {"127.0.0.1", "localhost", "[::1]"}
  assert serve.hosts("127.0.0.1", None) == local
  assert serve.hosts("localhost", ["box"]) == local | {"box"}
  assert serve.hosts("0.0.0.0", ["box"]) == local | {"0.0.0.0", "box"}


def test_the_page_offers_what_a_run_was_trained_for(tmp_path):
  assert serve.tasks("weights.npz") == serve.TASKS
  config = tmp_path / "config.json"
  write = lambda **found: config.write_text(json.dumps(found))
  write(model_type="paligemma")  # of Hugging Face
  assert serve.tasks(tmp_path) == serve.TASKS
  drawn = ["caption", "yesno", "detect_one", "ocr"]
  write(data={x: dict(source="shapes", task=x) for x in drawn})
  want = dict(caption="caption en", answer="", detect="detect ", read="ocr")
  assert serve.tasks(tmp_path) == want
  write(pp="decode | fmt('answer de {question}', out='prefix')", data={})
  assert serve.tasks(tmp_path) == {"answer": "answer de "}
  write(pp="decode", data=dict(source="jsonl", path="a.jsonl"))
  assert serve.tasks(tmp_path) == serve.TASKS
