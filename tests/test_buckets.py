"""A run in a bucket leaves what one in a folder leaves, whatever happens."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pg import tree
from pg.log import metrics
from pg.weights import checkpoint
from tests.support import google_storage, paths

CONFIG = "scripts/chaos/config.py:total=12"
QUESTION = ["--image", "docs/images/scene.png", "--prompt", "caption", "count"]
CLOCK = ("speed/", "time/")
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
  """Runs a verb; returns what it printed."""
  command = [sys.executable, "-m", f"pg.{verb}", *map(str, words)]
  done = subprocess.run(
    command, cwd=paths.ROOT, env=env, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


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
  start = time.monotonic()
  run(env, "train", "--config", CONFIG, "--workdir", workdir)
  assert time.monotonic() - start < 50  # nobody waited for the dead one


def contents(folder):
  """Returns what two runs must have in common, by the names of files."""
  folder, found = pathlib.Path(folder), {}
  for path in sorted(folder.rglob("*")):
    name = str(path.relative_to(folder))
    if path.name == "metrics.jsonl":
      rows = [metrics.read(path)]
      found[name] = [
        {k: v for k, v in row.items() if not k.startswith(CLOCK)}
        for row in rows[0]
      ]
    elif path.suffix in (".jsonl", ".json", ".model", ".npz"):
      found[name] = path.read_bytes()
  return found


@pytest.mark.slow
def test_a_run_in_a_bucket_is_killed_and_goes_on_as_one_in_a_folder(
  place, tmp_path
):
  there, env = place
  here, got = tmp_path / "here", tmp_path / "got"
  run(env, "train", "--config", CONFIG, "--workdir", here / "run")
  train_and_kill(env, f"{there}/run")
  for folder in (here, there):
    start = ["--checkpoint", f"{folder}/run"]
    said = run(env, "evaluate", *start)
    assert f"report: {folder}/run/report.html" in said
    run(env, "predict", *start, *QUESTION, "--out", f"{folder}/answers.jsonl")
    for form, name in (("npz", "a.npz"), ("orbax", "again")):
      words = [f"{folder}/run", f"{folder}/{name}", "--to", form, "--check"]
      run(env, "convert", *words)
    said = run(env, "convert", f"{folder}/again", f"{folder}/b.npz", "--to=npz")
  download(env, there, got)
  kept = lambda found: {
    k: v for k, v in found.items() if "checkpoints/" not in k
  }
  wanted, found = kept(contents(here)), kept(contents(got))
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


def download(env, there, folder):
  code = "import sys; from pg.data.storage import bucket; import fsspec\n"
  code += "fs = bucket.filesystem(sys.argv[1])\n"
  code += "fs.get(sys.argv[1] + '/', sys.argv[2] + '/', recursive=True)"
  command = [sys.executable, "-c", code, there, str(folder)]
  subprocess.run(command, cwd=paths.ROOT, env=env, check=True)
