"""A run in a bucket leaves what one in a folder leaves, whatever happens."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from pg import train, tree
from pg.codecs import masks
from pg.data.formats import jsonl
from pg.data.storage import files
from pg.log import history, metrics, mirror
from pg.log import run as log_run
from pg.weights import checkpoint, hub
from tests.support import google_storage, numbers_run, paths

store = google_storage.store
CONFIG = "scripts/chaos/config.py:total=12"
QUESTION = ["--image", "docs/images/scene.png", "--prompt", "caption", "count"]
CLOCK = ("speed/", "time/", "memory/")
EMULATOR = """
import sys
from gcp_storage_emulator.handlers import objects
download = objects.download
def with_generation(request, response, storage, *args, **kwargs):
  # What OCDBT has to know of a manifest that it writes again.
  download(request, response, storage, *args, **kwargs)
  if response.status < 400:
    place = request.params["bucket_name"], request.params["object_id"]
    about = storage.get_file_obj(*place)
    response["X-Goog-Generation"] = about["generation"]
objects.download = with_generation
from gcp_storage_emulator import server
running = server.create_server(
  "127.0.0.1", 0, in_memory=True, default_bucket="bucket"
)
running.start()
print(running._api._httpd.server_port, flush=True)
sys.stdin.read()
running.stop()
"""
MOTO = """
import sys, boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
port = server.get_host_and_port()[1]
url = f"http://127.0.0.1:{port}"
boto3.client("s3", endpoint_url=url).create_bucket(Bucket="bucket")
print(port, flush=True)
sys.stdin.read()
server.stop()
"""
AMAZON = dict(
  AWS_ACCESS_KEY_ID="a",
  AWS_SECRET_ACCESS_KEY="b",
  AWS_DEFAULT_REGION="us-east-1",
)


@pytest.fixture(params=["gs", "s3"])
def place(request, tmp_path):
  """Yields a folder in a bucket of an emulator, and the environment for it."""
  library = dict(gs="gcp_storage_emulator", s3="moto")[request.param]
  pytest.importorskip(library)
  pytest.importorskip(dict(gs="gcsfs", s3="s3fs")[request.param])
  env = os.environ | AMAZON | dict(PG_CACHE=str(tmp_path / "cache"))
  env["XLA_FLAGS"] = ""  # one device
  code = dict(gs=EMULATOR, s3=MOTO)[request.param]
  server = subprocess.Popen(
    [sys.executable, "-c", code],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    env=env,
  )
  try:
    url = f"http://127.0.0.1:{int(server.stdout.readline())}"
    env |= google_storage.variables(url) | dict(AWS_ENDPOINT_URL=url)
    yield f"{request.param}://bucket", env
  finally:
    server.stdin.close()
    server.wait(20)


def run(env, verb, *words):
  """Runs a verb; returns what it printed, with what it said beside that."""
  command = [sys.executable, "-m", f"pg.{verb}", *map(str, words)]
  done = subprocess.run(
    command, cwd=paths.ROOT, env=env, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return done.stdout + done.stderr


def train_and_kill(env, workdir):
  """Kills a run after its first checkpoint, and has it go on to the end."""
  command = [sys.executable, "-m", "pg.train", "--config", CONFIG]
  child = subprocess.Popen(
    [*command, "--workdir", workdir],
    cwd=paths.ROOT,
    env=env | dict(PYTHONUNBUFFERED="1"),
    stderr=subprocess.PIPE,
    text=True,
  )
  for line in child.stderr:
    if "step 10:" in line:  # step 8 is saved, or nearly
      break
  child.send_signal(signal.SIGKILL)
  child.wait()
  said = run(env, "train", "--config", CONFIG, "--workdir", workdir)
  assert "from step " in said and "watching for" not in said


def contents(folder):
  """Returns what two runs must have in common, by the names of files."""
  folder, found = pathlib.Path(folder), {}
  for path in sorted(folder.rglob("*")):
    name = str(path.relative_to(folder))
    if "checkpoints/" in name or path.name == history.FILE:
      continue  # starts differ
    if path.name == "metrics.jsonl":
      rows = [metrics.read(path)]
      found[name] = [
        {k: v for k, v in row.items() if not k.startswith(CLOCK)}
        for row in rows[0]
      ]
    elif path.suffix in (".jsonl", ".json", ".model", ".npz"):
      found[name] = path.read_bytes()
  return found


class Killed(Exception):
  pass


@pytest.mark.usefixtures("one_device")
def test_a_killed_run_leaves_what_belongs_to_its_checkpoint(
  store, tmp_path, monkeypatch
):
  numbers_run.register(monkeypatch)
  c, url = numbers_run.config(log_every=1), "gs://bucket/runs/run"
  train.fit(c, str(tmp_path / "run"))
  step = log_run.Log.step

  def killed(log, number, *args):
    step(log, number, *args)
    if number == 5:  # step 4 is saved
      raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(log_run.Log, "step", killed)
    patch.setattr(mirror, "_end", lambda mirror: None)
    patch.setattr(mirror, "PERIOD", 1e6)
    with pytest.raises(Killed), mirror.open(url) as workdir:
      train.fit(c, workdir)
  lines = store.objects["runs/run/metrics.jsonl"][0].splitlines()
  assert json.loads(lines[-1])["step"] >= 4
  with mirror.open(url, hold=True) as workdir:
    train.fit(c, workdir)
  for name, (data, _) in store.objects.items():
    path = tmp_path / "got" / name.removeprefix("runs/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  wanted, found = contents(tmp_path / "run"), contents(tmp_path / "got/run")
  assert found == wanted and "bad_examples.jsonl" in found
  got, here = weights(tmp_path / "got/run"), weights(tmp_path / "run")
  assert got == here


def test_data_weights_and_codec_are_read_from_a_bucket(store, tmp_path):
  image = paths.ROOT / "docs/images/scene.png"
  row = {"image": "images/1.png", "prefix": "caption", "suffix": "a circle"}
  store.put("data/train.jsonl", json.dumps(row).encode())
  store.put("data/images/1.png", image.read_bytes())
  rows = jsonl.Jsonl("gs://bucket/data/train.jsonl")
  assert rows[0]["suffix"] == "a circle"
  assert files.read("images/1.png", "gs://bucket/data") == image.read_bytes()
  store.put("codec.npz", pathlib.Path(masks.NANO).read_bytes())
  assert masks.load("gs://bucket/codec.npz") is not None
  one = np.ones((2, 3), np.float32)
  np.savez(tmp_path / "a.npz", **{"params/llm/final_norm/scale": one})
  store.put("a.npz", (tmp_path / "a.npz").read_bytes())
  got = pathlib.Path(hub.resolve("gs://bucket/a.npz"))
  assert got.read_bytes() == (tmp_path / "a.npz").read_bytes()


def ask_and_convert(env, folder):
  """Evaluates a run, and writes what is made of it beside it."""
  start = ["--checkpoint", f"{folder}/run"]
  said = run(env, "evaluate", *start)
  assert f"report: {folder}/run/report.html" in said
  run(env, "predict", *start, *QUESTION, "--out", f"{folder}/answers.jsonl")
  for form, name in (("npz", "a.npz"), ("orbax", "again")):
    words = [f"{folder}/run", f"{folder}/{name}", "--to", form, "--check"]
    run(env, "convert", *words)
  run(env, "convert", f"{folder}/again", f"{folder}/b.npz", "--to=npz")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
  """A folder with a run that nothing has disturbed, and what is made of it."""
  folder = tmp_path_factory.mktemp("here")
  env = os.environ | dict(XLA_FLAGS="")  # one device
  run(env, "train", "--config", CONFIG, "--workdir", folder / "run")
  ask_and_convert(env, folder)
  return folder


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_and_goes_on_as_one_in_a_folder(
  here, place, tmp_path
):
  there, env = place
  got = tmp_path / "got"
  train_and_kill(env, f"{there}/run")
  ask_and_convert(env, there)
  download(env, there, got)
  wanted, found = contents(here), contents(got)
  assert sorted(found) == sorted(wanted)
  for name in wanted:
    assert found[name] == wanted[name], name
  for name in ("run", "again"):
    assert weights(got / name) == weights(here / name)
  assert os.listdir(got / "run/checkpoints") != []
  assert not list((tmp_path / "cache/transit").glob("*/*"))


def weights(workdir):
  """Returns the last checkpoint's parameters as bytes by name."""
  params = checkpoint.restore_params(workdir)
  return {k: np.asarray(v).tobytes() for k, v in tree.flatten(params).items()}


DOWNLOAD = """
import os, sys
from pg.data.storage import bucket
there, here = sys.argv[1:]
for top in bucket.children(there):
  inside = bucket.files(f"{there}/{top}")
  for name in [f"{top}/{x}" for x in inside] or [top]:
    os.makedirs(os.path.dirname(f"{here}/{name}"), exist_ok=True)
    bucket.download(f"{there}/{name}", f"{here}/{name}")
"""


def download(env, there, folder):
  command = [sys.executable, "-c", DOWNLOAD, there, str(folder)]
  subprocess.run(command, cwd=paths.ROOT, env=env, check=True, timeout=200)


S3 = """
from pg.data.storage import bucket
from pg.log import bucket_lock
from tests.support import versions
versions.check("s3://bucket/a/x")
assert bucket.children("s3://bucket/a") == {"x": False}
assert bucket.children("s3://bucket/none") == {}
with bucket_lock.hold("s3://bucket/a"):
  try:
    with bucket_lock.hold("s3://bucket/a"):
      raise AssertionError
  except ValueError as error:
    assert "in use by another run" in str(error)
try:
  bucket.children("s3://other/a")
  raise AssertionError
except OSError as error:
  assert "there is no such bucket" in str(error), error
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_an_object_at_s3_is_written_if_it_is_as_it_was(place):
  _, env = place
  command = [sys.executable, "-c", S3]
  subprocess.run(command, cwd=paths.ROOT, env=env, check=True, timeout=200)
