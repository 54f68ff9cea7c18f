"""What a user does: train, evaluate, predict, fine-tune on their own files."""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import pg
from pg import config, convert, evaluate, experiment, predict, train
from pg.codecs import masks
from pg.weights import checkpoint
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_device):
  """A short run of the small main job."""
  workdir = str(tmp_path_factory.mktemp("run"))
  train.fit(tiny.nano(total=2, batch_size=8), workdir)
  return workdir


@pytest.fixture
def photo(tmp_path):
  """An image of another size and shape than the model's."""
  path = tmp_path / "photo.png"
  pixels = np.random.default_rng(0).integers(256, size=(60, 90, 3))
  Image.fromarray(pixels.astype(np.uint8)).save(path)
  return str(path)


def verb(name, *args):
  """Runs a verb as a user does; returns its finished process."""
  command = [sys.executable, "-m", f"pg.{name}", *map(str, args)]
  return subprocess.run(
    command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=300
  )


@pytest.mark.parametrize("whose", ["given", "own"])
def test_evaluate_gives_the_scores_of_training(whose, run, tmp_path, capsys):
  args = dict(checkpoint=run, workdir=str(tmp_path), compare=[run])
  args |= dict(predictions=None, mask_codec=masks.NANO, pp=None)
  args |= dict(quantize=None)
  config = tiny.nano(batch_size=8) if whose == "given" else None
  evaluate.main(
    argparse.Namespace(config=config, out=None, submit=None, **args)
  )
  scores, again = (
    json.loads(pathlib.Path(folder, "scores.json").read_text())
    for folder in (run, tmp_path)
  )
  for name, metrics in again.items():
    for metric, found in metrics.items():
      want = scores[name][metric]["value"]
      assert found["value"] == pytest.approx(want, abs=1e-6)
  for file in ("report.html", "predictions.html"):
    assert (tmp_path / file).exists()
  assert (tmp_path / "predictions/caption-000000002.jsonl").exists()
  said, waiting = capsys.readouterr()
  assert f"loading {run}\ncompiling and running caption" in waiting
  assert (f"config: {run}/config.json\n" in waiting) == (whose == "own")
  assert re.search(r"caption +mean score .* \+0.000 .* 1 +12$", said, re.M)


def test_predictions_hold_all_that_was_asked_and_said(run):
  path = pathlib.Path(run, "predictions/caption-000000002.jsonl")
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row["index"] for row in rows] == list(range(12))
  assert rows[0]["prompt"] == "caption en"
  assert {"truth", "prediction", "logp", "score", "image"} <= set(rows[0])


def test_predict_prints_one_json_object(run, photo):
  args = ("--checkpoint", run, "--image", photo, "--prompt", "caption en")
  done = verb("predict", *args, "--json", "--max-len", "4")
  assert done.returncode == 0, done.stderr
  answer = json.loads(done.stdout)
  keys = {"image", "prompt", "text", "score", "tokens", "logp", "boxes"}
  assert set(answer) == keys and answer["image"] == [str(photo)]
  assert 1 <= len(answer["tokens"]) == len(answer["logp"]) <= 4
  assert all(x <= 0 for x in answer["logp"])


def test_predict_finds_boxes_in_pixels_and_draws_them(run, photo, monkeypatch):
  model = pg.load(run)
  text = "<loc0000><loc0256><loc0512><loc1023> red ring"
  tokens = [*model.form.tok.encode(text), model.form.tok.eos]
  padded = np.array([[tokens + [0, 0]]])
  said = padded, np.zeros(padded.shape, np.float32)
  monkeypatch.setattr(model, "_ask", lambda _, how, *__: (*said, how))
  (answer,) = model.predict(photo, "detect red ring")
  assert answer.tokens == tokens and len(answer.logp) == len(tokens)
  # 60 pixels high, 90 wide.
  assert answer.boxes == [("red ring", (0.0, 22.5, 30.0, 90.0), 1.0)]
  assert "22.5" in predict.table(answer.boxes)
  empty = dataclasses.replace(answer, boxes=[], masks=[])
  assert (np.asarray(answer.draw()) != np.asarray(empty.draw())).any()


def test_the_token_log_probabilities_are_those_of_the_model(run, photo):
  model = pg.load(run)
  (answer,) = model.predict(photo, "ocr", max_len=3)
  sure = np.exp(answer.logp)
  assert np.all((sure > 0) & (sure <= 1))
  # Greedy: no other token is likelier than one over the vocabulary's size.
  assert sure[0] >= 1 / model.cfg.llm.vocab_size


@pytest.mark.parametrize(
  "args, message",
  [
    (("--checkpoint", "nowhere"), "no file or folder .*nowhere"),
    (("--image", "nowhere.png"), "there is no image nowhere.png"),
    (("--image", __file__), "test_verbs.py: cannot decode an image"),
    (("--out", "/dev/null/a.png"), "'/dev/null"),
    (("--out", "a.text"), "a.text: the name of a picture ends in"),
    (
      ("--prompt", "where" + " where" * 1200),
      "the prompt has .* tokens, and 1024 fit",
    ),
  ],
)
def test_predict_explains_what_is_wrong(run, photo, args, message):
  waited = [f"loading {dict([args]).get('--checkpoint', run)}"]
  waited += ["compiling and answering"]
  waited = waited[: {"--checkpoint": 1, "--prompt": 2}.get(args[0], 0)]
  given = {"--checkpoint": run, "--image": photo, "--prompt": "caption en"}
  given |= dict([args])
  done = verb("predict", *[x for pair in given.items() for x in pair])
  assert done.returncode == 1
  *said, error = done.stderr.splitlines()
  assert re.fullmatch(f"error: .*{message}.*", error)
  assert said == waited
  assert not done.stdout


@pytest.fixture
def mine(tmp_path):
  """A user's own few examples."""
  lines = []
  for i in range(8):
    pixels = np.full((30, 40, 3), 20 * i, np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    row = {"image": f"{i}.jpg", "prefix": "caption en", "suffix": f"grey {i}"}
    lines.append(json.dumps(row))
  (tmp_path / "mine.jsonl").write_text("\n".join(lines))
  return tmp_path / "mine.jsonl"


def forkme(path, init, **changes):
  spec = f"train={path},val={path},init={init},model=nano,res=48"
  c = config.load(f"{tiny.ROOT}/transfers/forkme.py:{spec}")
  with c.unlocked():
    c.update(dict(batch_size=8, total=2) | changes)
    c.evals.val.update(every="100%", max_len=4)
  return c


@pytest.mark.parametrize("form, name", (("npz", "out.npz"), ("hf", "out")))
def test_a_run_goes_out_and_another_starts_from_it(
  run, mine, tmp_path, form, name
):
  out = str(tmp_path / name)
  convert.convert(run, out, form)
  ours = checkpoint.restore_params(run)
  for res in (48, 96):
    c = forkme(mine, out)
    c.unlock()
    c.res = res
    r = experiment.open(c)
    state = train.init_state(c, r)
    params = jax.device_get(state["params"])
    assert params["img"]["pos_embedding"].shape[1] == (res // 12) ** 2
    params["img"]["pos_embedding"] = ours["img"]["pos_embedding"]
    jax.tree.map(np.testing.assert_array_equal, params, ours)


def test_weights_without_a_tokenizer_say_where_there_is_one(
  run, mine, tmp_path
):
  out = str(tmp_path / "out.npz")
  convert.convert(run, out, "npz")
  shutil.rmtree(tmp_path / "out.hf")
  with pytest.raises(ValueError, match="comes without a tokenizer.*hf.co|http"):
    experiment.open(forkme(mine, out))


def test_a_broken_row_is_named_before_training(run, mine, tmp_path):
  mine.write_text(mine.read_text() + '\n{"image": "0.jpg", "prefix": 1')
  with pytest.raises(ValueError, match="mine.jsonl:9 is not JSON"):
    train.fit(forkme(mine, run), str(tmp_path / "out"))


def test_a_broken_image_is_named_before_training(run, mine, tmp_path):
  whole = (tmp_path / "3.jpg").read_bytes()
  (tmp_path / "3.jpg").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match="mine.jsonl:4: .*3.jpg"):
    train.fit(forkme(mine, run), str(tmp_path / "out"))


def test_compiled_programs_are_kept_unless_jax_is_told_where(
  monkeypatch, tmp_path
):
  name = "JAX_COMPILATION_CACHE_DIR"
  monkeypatch.setenv("PG_CACHE", str(tmp_path))
  pg._keep_programs()
  assert os.environ[name] and not list(tmp_path.iterdir())  # that of the tests
  monkeypatch.delenv(name)
  pg._keep_programs()
  assert os.environ[name] == str(tmp_path / "xla")
  assert (tmp_path / "xla").is_dir()
  monkeypatch.delenv(name)
  monkeypatch.setenv("PG_CACHE", "/dev/null")  # not to be written
  pg._keep_programs()
  assert name not in os.environ
