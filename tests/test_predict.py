"""What the verb `predict` shows a model is what training showed it."""

import dataclasses
import io
import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import pg
from pg import convert, pp, train
from pg.ask import answer
from pg.codecs import tokenizer
from pg.data import pipeline, prefix_lm, stream
from pg.models import variants
from pg.pp import parse
from pg.weights import hf, load, npz, opened
from tests import test_verbs
from tests.support import tiny
from tests.weights import test_load
from tests.weights.test_npz import from_memory, specs_of

pytestmark = pytest.mark.usefixtures("one_device")
NANO = variants.VARIANTS["nano"]
BV, HF = (
  "decode(exif=True) | resize(48)",
  "decode(precise=True, exif=True) | resize(48, flavour='hf')",
)


def jpeg(height, width, orientation=1):
  """Returns a JPEG of noise that is smooth enough to survive."""
  exif = Image.Exif()
  exif[0x0112] = orientation
  small = np.random.default_rng(0).integers(256, size=(15, 20, 3))
  image = Image.fromarray(small.astype(np.uint8)).resize((width, height))
  sink = io.BytesIO()
  image.save(sink, "JPEG", quality=90, exif=exif)
  return sink.getvalue()


PHOTO = jpeg(60, 90, orientation=6)  # 90 high and 60 wide to a human


def by(string):
  """Returns PHOTO as a pipeline string makes it."""
  return parse.build(string)({"image": PHOTO}, pp.Turn())["image"]


def shown(model, monkeypatch, prompt="detect cat"):
  """Returns u8[R, R, 3], what a model gets of PHOTO, and what is said of it.

  The answer is a box: the right quarter of the upper half.
  """
  text = "<loc0000><loc0768><loc0512><loc1023> cat"
  rows = []

  def answer(rows_, how, _):
    rows.extend(rows_)
    tokens = np.array([[[*model.form.tok.encode(text), model.form.tok.eos]]])
    return tokens, np.zeros(tokens.shape, np.float32), how

  with monkeypatch.context() as m:
    m.setattr(model, "_ask", answer)
    (said,) = model.predict([PHOTO], prompt)
  ((image,),) = [row.images for row in rows]
  return image, [(x.label, x.box) for x in said.boxes]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """A model as big_vision, Hugging Face and we have it."""
  folder = tmp_path_factory.mktemp("files")
  flat = test_load.draw()
  npz.write(folder / "a.npz", specs_of(flat), from_memory(flat))
  options = dict(model=tokenizer.NANO)
  convert.convert(folder / "a.npz", folder / "run", "orbax", **options)
  convert.convert(folder / "a.npz", folder / "hf", "hf", **options)
  hf.write_processor(folder / "hf", NANO.img, HF)
  return folder


@pytest.fixture
def recorded(files, tmp_path):
  """Makes a run with the record that a config leaves."""

  def make(**changes):
    shutil.copytree(files / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/hf")
    c = tiny.nano(**changes)
    (tmp_path / "run/config.json").write_text(c.to_json())
    return str(tmp_path / "run")

  return make


def trained_on(string, tmp_path):
  """Returns PHOTO as a training row has it, by all of the data's code."""
  (tmp_path / "photo.jpg").write_bytes(PHOTO)
  row = {"image": "photo.jpg", "prefix": "caption en", "suffix": "a cat"}
  (tmp_path / "photo.jsonl").write_text(json.dumps(row))
  spec = dict(source="jsonl", path=str(tmp_path / "photo.jsonl"))
  (data,) = pipeline.datasets(spec, string)
  form = prefix_lm.Form(tokenizer.Tokenizer(tokenizer.NANO), 48, 1, 32)
  example = stream.read(data, 0, pp.Turn(), dict)
  return spec, prefix_lm.train_row(form, example)["image"][0]


@pytest.mark.parametrize(
  "prompt, said",
  [
    ("detect cat\n", "begin or end in spaces"),
    ("detect cat ", "begin or end in spaces"),
    (" detect cat", "begin or end in spaces"),
    ("<image>detect cat", "control pieces in the text: '<image>'"),
    ("<bos>detect cat", "control pieces in the text: '<bos>'"),
    ("what is at <loc12>", "<loc> or <seg> that are no tokens: '<loc12>'"),
    ("detect cat", None),
  ],
)
def test_what_check_finds_in_a_prompt_predict_warns_of(
  prompt, said, files, monkeypatch
):
  model = pg.load(str(files / "run"))
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    shown(model, monkeypatch, prompt)
  found = [str(w.message) for w in caught if "prompt " in str(w.message)]
  assert len(found) == (said is not None)
  assert said is None or said in found[0]


@pytest.mark.parametrize(
  "string",
  [
    "decode | resize(48, antialias=False)",
    "decode(precise=True) | resize(48, flavour='hf')",
    "decode(exif=True) | resize(48, method='lanczos3') | lower('suffix')",
    "decode | resize_small(64) | central_crop(48)",
  ],
)
def test_a_run_sees_an_image_as_in_training(
  string, recorded, tmp_path, monkeypatch
):
  spec, wanted = trained_on(string, tmp_path)
  model = pg.load(recorded(pp=string, data=spec, evals={}))
  np.testing.assert_array_equal(shown(model, monkeypatch)[0], wanted)
  assert (wanted != by("decode | resize(48)")).any()


def test_a_run_of_before_is_seen_as_its_config_says(recorded, monkeypatch):
  run = recorded()  # images are drawn in the model's size: its pp is "decode"
  found, boxes = shown(pg.load(run), monkeypatch)
  np.testing.assert_array_equal(found, by("decode | resize(48)"))
  assert boxes == [("cat", (0.0, 67.6, 30.0, 90.0))]


def test_files_without_a_record_have_the_flavour_of_who_released_them(
  files, tmp_path, monkeypatch
):
  shutil.copytree(files / "hf", tmp_path / "hf")
  (tmp_path / "hf/preprocessor_config.json").unlink()
  for name, string in ((files / "a.npz", BV), (tmp_path / "hf", HF)):
    model = pg.load(name, tokenizer=tokenizer.NANO)
    found, boxes = shown(model, monkeypatch)
    np.testing.assert_array_equal(found, by(string))
    # Upright: 90 pixels high and 60 wide.
    assert boxes == [("cat", (0.0, 45.0, 45.0, 60.0))]


@pytest.mark.parametrize("name", ["preprocessor_config", "processor_config"])
def test_a_folder_is_seen_as_its_processor_says(
  files, tmp_path, monkeypatch, name
):
  shutil.copytree(files / "hf", tmp_path / "hf")
  path = tmp_path / "hf/preprocessor_config.json"
  known = json.loads(path.read_text())
  assert known["resample"] == 3 and "pp" not in known
  np.testing.assert_array_equal(
    shown(pg.load(tmp_path / "hf"), monkeypatch)[0], by(HF)
  )
  path.unlink()
  known["resample"] = 2
  if name == "processor_config":
    known = dict(image_processor=known)
  path = tmp_path / f"hf/{name}.json"
  path.write_text(json.dumps(known))
  upright = Image.open(io.BytesIO(PHOTO)).transpose(Image.ROTATE_270)
  wanted = np.array(upright.resize((48, 48), Image.BILINEAR))
  np.testing.assert_array_equal(
    shown(pg.load(tmp_path / "hf"), monkeypatch)[0], wanted
  )
  path.write_text(path.read_text().replace('"resample": 2', '"resample": 0'))
  with pytest.raises(ValueError, match=f"{name}.json: resample is 0; wanted"):
    pg.load(tmp_path / "hf")


def test_another_way_to_see_images_is_named(files, monkeypatch, tmp_path):
  coarse = "decode | resize(48, antialias=False)"
  for name, string in (("bv", BV), ("hf", HF), (coarse, coarse)):
    for file in ("hf", "a.npz"):
      model = pg.load(files / file, tokenizer=tokenizer.NANO, pp=name)
      found, _ = shown(model, monkeypatch)
      np.testing.assert_array_equal(found, by(string))
  with pytest.raises(ValueError, match="wanted bv or hf, or ops"):
    pg.load(files / "hf", pp="bw")


def test_another_resolution_is_seen_in_the_same_way(recorded, monkeypatch):
  run = recorded(pp="decode | resize(48, antialias=False)", data={"a": {}})
  found, _ = shown(pg.load(run, res=96), monkeypatch)
  wanted = by("decode | resize(96, antialias=False)")
  np.testing.assert_array_equal(found, wanted)


def test_boxes_of_a_crop_are_in_pixels_of_what_was_seen(recorded, monkeypatch):
  way = "decode(exif=True) | central_crop(40) | resize(48)"
  model = pg.load(recorded(pp=way, data={"a": {}}))
  _, boxes = shown(model, monkeypatch)
  assert boxes == [("cat", (0.0, 30.0, 20.0, 40.0))]
  _, (image,) = model.rows.look(PHOTO)
  np.testing.assert_array_equal(image, by(way.rpartition(" | ")[0]))


def test_a_photo_is_upright_in_forkme_and_in_predict(
  files, tmp_path, monkeypatch
):
  trained_on(BV, tmp_path)
  c = test_verbs.forkme(tmp_path / "photo.jsonl", "", total=1)
  with c.unlocked():
    c.evals = {}
  out, batches = str(tmp_path / "out"), []

  def update(state, batch, **_):
    jax.debug.callback(batches.append, batch["image"])
    return state, {"train/loss": jnp.float32(0)}

  monkeypatch.setattr(train, "update", update)
  train.fit(c, out)
  model = pg.load(out)
  found, boxes = shown(model, monkeypatch)
  np.testing.assert_array_equal(found, by(BV))
  np.testing.assert_array_equal(found, np.asarray(batches[0])[0, 0])
  assert boxes == [("cat", (0.0, 45.0, 45.0, 60.0))]
  _, (image,) = model.rows.look(PHOTO)
  scene = answer.Answer(
    "", [], [], [answer.Box(*boxes[0], 1)], [None], 0, image
  )
  drawn = np.asarray(scene.draw())
  assert drawn.shape[0] > drawn.shape[1]
  y, x, _ = np.nonzero(
    drawn != np.asarray(dataclasses.replace(scene, boxes=[], masks=[]).draw())
  )
  scale = drawn.shape[0] / 90
  assert x.min() >= 44 * scale and y.max() <= 46 * scale


def test_what_is_converted_is_seen_as_before(recorded, tmp_path):
  ways = {
    "decode | resize(48, antialias=False)": 2,
    "decode(precise=True) | resize(48, flavour='hf')": 3,
    HF: 3,
  }
  for i, (way, resample) in enumerate(ways.items()):
    place = tmp_path / str(i)
    place.mkdir()
    shutil.move(recorded(pp=way, data={"a": {}}), place / "run")
    convert.convert(place / "run", place / "hf", "hf")
    convert.convert(place / "hf", place / "again", "orbax")
    convert.convert(place / "again", place / "a.npz", "npz")
    convert.convert(place / "a.npz", place / "at_96", "hf", res=96)
    for name in ("run", "hf", "again", "a.npz"):
      assert opened.images(load.open(place / name)) == way
    known = json.loads((place / "hf/preprocessor_config.json").read_text())
    assert known["resample"] == resample
    assert known.get("pp", HF) == way
    assert (place / "a.hf/preprocessor_config.json").exists()
    at_96 = load.open(place / "at_96")
    assert opened.images(at_96) == way.replace("(48", "(96")


def test_a_new_model_sees_as_its_image_tower_did(files, tmp_path):
  towers = f"img={files}/hf,llm={files}/hf"
  assert opened.images(load.open(towers)) == HF
  towers = f"img={files}/a.npz,llm={files}/hf"
  assert opened.images(load.open(towers)) == BV


def test_a_weight_that_is_no_number_is_no_answer(files, tmp_path):
  flat = test_load.draw()
  flat["img/head/bias"][3] = np.nan
  path = shutil.copytree(files / "hf", tmp_path / "hf")
  raw = json.loads((path / "config.json").read_text())
  hf.write(path, raw, specs_of(flat), from_memory(flat))
  (tmp_path / "x.jpg").write_bytes(PHOTO)
  words = ("--checkpoint", path, "--image", tmp_path / "x.jpg")
  done = test_verbs.verb("predict", *words, "--prompt", "caption", "--json")
  assert done.returncode == 1
  assert not done.stdout
  assert "img/head/bias: 1 of 96 values are inf or nan" in done.stderr


@pytest.mark.parametrize("wrong", [np.nan, -np.inf])
def test_a_probability_that_is_no_number_is_no_answer(
  files, monkeypatch, wrong
):
  model = pg.load(str(files / "run"))
  tokens = np.array([[[7, model.form.tok.eos, 0]]])
  for logp, fine in (((-1, -1, wrong), True), ((-1, wrong, 0), False)):
    said = tokens, np.array([[logp]], np.float32)
    monkeypatch.setattr(model, "_ask", lambda _, how, *__, x=said: (*x, how))
    if fine:
      assert model.predict(PHOTO, "caption")[0].logp == [-1, -1]
      continue
    with pytest.raises(ValueError, match="inf or nan: activations overflow"):
      model.predict(PHOTO, "caption")
