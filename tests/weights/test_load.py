"""Weights are opened by a name, whatever their form, and whole or in part."""

import contextlib
import gc
import json
import pathlib
import re
import shutil
import tracemalloc
from types import SimpleNamespace

import fsspec
import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import pg
from pg import convert, experiment, sharding, train, tree
from pg.codecs import tokenizer
from pg.decode import loop
from pg.models import paligemma, siglip, variants
from pg.weights import (
  checkpoint,
  content,
  hf,
  hf_config,
  load,
  npz,
  orbax,
  parameters,
  resize,
  serving,
  tensors,
  towers,
)
from pg.weights import opened as opened_lib
from tests.support import tiny, toy
from tests.weights import test_hub
from tests.weights.test_npz import (
  BF16,
  assert_same,
  from_memory,
  save,
  specs_of,
  weights,
)

cache, server = test_hub.cache, test_hub.server
NANO = variants.VARIANTS["nano"]
HEAD = {"img/head/kernel", "img/head/bias"}
EMBEDDING = "llm/embedder/input_embedding"


def draw(cfg=NANO, dtype=np.float32):
  """Returns flat random parameters."""
  rng = np.random.default_rng(0)
  one = lambda x: (0.1 * rng.standard_normal(x.shape)).astype(dtype)
  return {name: one(x) for name, x in tensors.shapes(cfg).items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """The same model as an .npz, a folder and a run; its parameters."""
  tmp_path, flat = tmp_path_factory.mktemp("weights"), draw()
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  options = dict(model=tokenizer.NANO)
  convert.convert(tmp_path / "a.npz", tmp_path / "hf", "hf", **options)
  convert.convert(tmp_path / "hf", tmp_path / "b.npz", "npz")
  convert.convert(tmp_path / "hf", tmp_path / "run", "orbax")
  return tmp_path, flat


def read(name, **options):
  """Opens weights and reads all of them; returns both."""
  opened = load.open(name, **options)
  with contextlib.closing(opened.reader) as reader:
    return opened, {k: tensors.whole(reader, k) for k in reader.specs}


def of_tower(flat, tower):
  return {k: v for k, v in flat.items() if tensors.within(k, tower)}


@pytest.mark.parametrize("name", ["b.npz", "hf", "run"])
def test_every_form_is_opened_by_its_name(files, name):
  folder, flat = files
  opened, got = read(folder / name)
  assert_same(got, flat)
  assert opened.cfg.img == NANO.img
  path = pathlib.Path(opened_lib.need_tokenizer(opened))
  assert path.read_bytes() == pathlib.Path(tokenizer.NANO).read_bytes()


def test_weights_of_a_bucket_and_of_the_hub_are_opened(
  files, server, cache, monkeypatch, tmp_path
):
  folder, flat = files
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setattr(
    huggingface_hub.constants, "HF_HUB_CACHE", str(cache / "hub")
  )
  fs = fsspec.filesystem("memory")
  fs.pipe("/weights/a.npz", (folder / "a.npz").read_bytes())
  assert_same(read("memory://weights/a.npz")[1], flat)
  server.repos["o/r"] = {
    p.name: p.read_bytes() for p in (folder / "hf").iterdir()
  }
  assert_same(read("hf://o/r")[1], flat)
  assert_same(read("hf://o/r:img")[1], of_tower(flat, "img"))
  convert.convert("hf://o/r@main", tmp_path / "c.npz", "npz", check=True)
  assert_same(read(tmp_path / "c.npz")[1], flat)


def test_weights_without_a_tokenizer_say_where_to_get_it(files):
  opened, _ = read(files[0] / "a.npz")
  with pytest.raises(ValueError, match="without a tokenizer.*hf://google/pali"):
    opened_lib.need_tokenizer(opened)


@pytest.mark.parametrize("name", ["b.npz", "hf"])
@pytest.mark.parametrize("tower", ["img", "llm"])
def test_a_tower_of_a_paligemma_comes_without_the_projector(files, name, tower):
  folder, flat = files
  opened, got = read(f"{folder / name}:{tower}")
  assert_same(got, of_tower(flat, tower))
  assert not set(got) & HEAD
  assert opened.tower == tower
  assert_same(read(f"{tower}={folder / name}")[1], got)


def siglip_npz(path, flat, prefix="params/img/"):
  """Writes SigLIP as big_vision has it where layers are not stacked."""
  named = {}
  for name, x in of_tower(flat, "img").items():
    inside = name.removeprefix("img/")
    if tensors.is_stacked(name):
      for i, layer in enumerate(x):
        at = f"encoderblock_{i}"
        named[prefix + inside.replace("encoderblock", at)] = layer
    else:
      named[prefix + inside] = x
  named[f"{prefix}MAPHead_0/probe"] = np.zeros((1, 1, 96), np.float32)
  if prefix:
    named["params/txt/head/bias"] = named["params/t"] = np.zeros(1, np.float32)
  np.savez(path, **named)
  return path


def gemma_npz(path, flat, rows, prefix="transformer/"):
  """Writes Gemma with the names of its own release, embedding cut to `rows`."""
  named = {}
  for name, x in of_tower(flat, "llm").items():
    inside = name.removeprefix("llm/")
    if tensors.is_stacked(name):
      w = "/w" if "/mlp/" in name else ""
      for i, layer in enumerate(x):
        named[prefix + inside.replace("layers/", f"layer_{i}/") + w] = layer
    else:
      named[prefix + inside] = x[:rows] if name == EMBEDDING else x
  np.savez(path, **named)
  return path


def siglip_folder(folder, flat, whole):
  """Writes SigLIP, or its image tower alone, as Hugging Face has it."""
  vision = {
    k.removeprefix("vision_tower."): v
    for k, v in paligemma_tensors(folder, flat).items()
    if k.startswith("vision_tower.")
  }
  vision["vision_model.head.probe"] = np.zeros((1, 1, 96), np.float32)
  config = json.loads((folder / "config.json").read_text())["vision_config"]
  config = dict(config, model_type="siglip_vision_model")
  if whole:
    vision["text_model.head.bias"] = np.zeros(96, np.float32)
    vision["logit_scale"] = np.zeros(1, np.float32)
    config = dict(model_type="siglip", vision_config=config, text_config={})
  return rewrite(folder, config, vision)


def gemma_folder(folder, flat, rows):
  """Writes Gemma as Hugging Face has it."""
  text = {
    k.removeprefix("language_model."): v
    for k, v in paligemma_tensors(folder, flat).items()
    if k.startswith("language_model.")
  }
  text["model.embed_tokens.weight"] = text["model.embed_tokens.weight"][:rows]
  config = json.loads((folder / "config.json").read_text())["text_config"]
  return rewrite(folder, dict(config, vocab_size=rows), text)


def paligemma_tensors(folder, flat):
  source = folder.with_suffix(".npz")
  npz.write(source, specs_of(flat), from_memory(flat))
  convert.convert(source, folder, "hf", model=tokenizer.NANO)
  return safetensors.numpy.load_file(folder / "model.safetensors")


def rewrite(folder, config, named):
  named = {k: np.ascontiguousarray(v) for k, v in named.items()}
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps(config))
  return folder


IMAGE_TOWERS = {
  "layers apart": lambda p, flat: siglip_npz(p / "s.npz", flat),
  "alone": lambda p, flat: siglip_npz(p / "s.npz", flat, prefix=""),
  "hf": lambda p, flat: siglip_folder(p / "s", flat, True),
  "hf vision alone": lambda p, flat: siglip_folder(p / "s", flat, False),
}
DECODERS = {
  "own names": lambda p, flat, rows: gemma_npz(p / "g.npz", flat, rows),
  "alone": lambda p, flat, rows: gemma_npz(p / "g.npz", flat, rows, ""),
  "hf": lambda p, flat, rows: gemma_folder(p / "g", flat, rows),
}


@pytest.mark.parametrize("form", IMAGE_TOWERS)
def test_a_siglip_becomes_the_image_tower(tmp_path, form):
  flat = draw()
  path = IMAGE_TOWERS[form](tmp_path, flat)
  opened, got = read(f"img={path}")
  assert_same(got, of_tower(flat, "img"))
  assert opened.cfg.img == NANO.img
  name = "img/Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"
  with contextlib.closing(load.open(f"img={path}").reader) as reader:
    np.testing.assert_array_equal(reader.read(name, 1), flat[name][1])


@pytest.mark.parametrize("form", DECODERS)
@pytest.mark.parametrize("variant", ["nano", "nano2"])
def test_a_gemma_becomes_the_decoder(tmp_path, form, variant):
  cfg = variants.VARIANTS[variant]
  flat = draw(cfg)
  path = DECODERS[form](tmp_path, flat, 768)
  opened, got = read(f"llm={path}")
  want = of_tower(flat, "llm")
  assert_same(got, want | {EMBEDDING: want[EMBEDDING][:768]})
  found = opened.cfg.llm
  assert found.post_norms == cfg.llm.post_norms
  assert found.attn_softcap == cfg.llm.attn_softcap
  assert found.vocab_size == 768


@pytest.mark.parametrize("image", ["layers apart", "hf"])
@pytest.mark.parametrize("decoder", ["own names", "hf"])
def test_two_towers_make_a_new_paligemma(tmp_path, image, decoder):
  flat = draw()
  img = IMAGE_TOWERS[image](tmp_path, flat)
  llm = DECODERS[decoder](tmp_path, flat, 768)
  name = f"img={img},llm={llm}"
  opened, got = read(name)
  assert opened.cfg.llm.vocab_size == NANO.llm.vocab_size == 768 + 1152
  for key, value in flat.items():
    if key not in HEAD | {EMBEDDING}:
      np.testing.assert_array_equal(got[key], value, key)
  assert not any(got[key].any() for key in HEAD)
  rows = got[EMBEDDING]
  np.testing.assert_array_equal(rows[:768], flat[EMBEDDING][:768])
  new = rows[768:]
  assert abs(new.mean()) < 2e-4 and abs(new.std() - 0.02) < 2e-4
  np.testing.assert_array_equal(read(name)[1][EMBEDDING], rows)
  other = read(name, seed=1)[1][EMBEDDING]
  assert (other[:768] == rows[:768]).all() and (other[768:] != new).all()
  convert.convert(
    name, tmp_path / "new", "hf", model=tokenizer.NANO, check=True
  )
  assert_same(read(tmp_path / "new")[1], got)


def test_padding_behind_gemmas_pieces_is_no_token(monkeypatch):
  class Rows:
    cfg = toy.config()

    def __init__(self, rows):
      self.specs = {EMBEDDING: jax.ShapeDtypeStruct((rows, 2), np.float32)}

  for rows, pieces in ((256_128, 256_000), (256_000, 256_000), (700, 700)):
    joined = towers.Joined(Rows(rows), Rows(rows), None, 0)
    assert joined.cfg.llm.vocab_size == pieces + 1152
  with pytest.raises(ValueError, match="has 900 pieces and the decoder 700"):
    towers.Joined(Rows(700), Rows(700), 900, 0)


@pytest.mark.slow
def test_training_starts_from_one_tower_and_draws_the_rest(files):
  folder, flat = files
  c = tiny.nano()
  c.unlock()
  c.init, c.tokenizer = f"{folder / 'a.npz'}:img", tokenizer.NANO
  r = experiment.open(c)
  params = train.init_state(c, r)["params"]
  got = tree.flatten(jax.device_get(params))
  for name, value in of_tower(flat, "img").items():
    np.testing.assert_array_equal(got[name], value, name)
  drawn = tree.flatten(paligemma.init(r.cfg, jax.random.key(c.seed)))
  np.testing.assert_allclose(got[EMBEDDING], drawn[EMBEDDING], atol=1e-6)


@pytest.mark.slow
def test_training_keeps_f32_masters_of_bf16_files(tmp_path):
  flat = draw(dtype=BF16)
  for name in flat:
    flat[name] = np.full_like(flat[name], 0.05)
  save(tmp_path / "a.npz", flat)
  c = tiny.nano(total=2)
  c.unlock()
  c.init, c.tokenizer = str(tmp_path / "a.npz"), tokenizer.NANO
  c.lr, c.warmup = 1e-5, 0
  c.evals = {}
  train.fit(c, str(tmp_path / "run"))
  params = tree.flatten(checkpoint.restore_params(tmp_path / "run"))
  assert {x.dtype for x in params.values()} == {np.dtype(np.float32)}
  kernel = params["img/head/kernel"]
  moved = np.abs(kernel - np.float32(flat["img/head/kernel"]))
  # In bf16 the neighbour of 0.05 is 2.4e-4 away: none of it would have moved.
  assert (0 < moved).mean() > 0.9 and moved.max() < 1e-4


def test_positions_are_resampled_for_another_resolution(files, tmp_path):
  folder, flat = files
  table = flat["img/pos_embedding"]
  for name in ("b.npz", "hf", "run"):
    out = tmp_path / f"{name}_96"
    convert.convert(folder / name, out, "hf", res=96, check=True)
    opened, got = read(out)
    assert opened.cfg.img.res == 96
    want = resize.position_embedding(table, 64)
    assert_same(got, flat | {"img/pos_embedding": want})
    images = json.loads((out / "preprocessor_config.json").read_text())
    assert images["size"] == {"height": 96, "width": 96}
    config = json.loads((out / "config.json").read_text())
    assert config["vision_config"]["image_size"] == 96
    assert config["text_config"]["num_image_tokens"] == 64
  with pytest.raises(ValueError, match="not a multiple of the 12 pixels"):
    convert.convert(folder / "hf", tmp_path / "x", "npz", res=50)


@pytest.mark.parametrize("name", ["b.npz", "hf", "run"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_for_decoding_are_read_as_decoding_wants_them(
  files, name, dtype
):
  folder, flat = files
  opened = load.open(folder / name)
  cfg = variants.from_config(
    dict(variant="nano", res=48, dtype=dtype), opened.cfg.llm.vocab_size
  )
  got = serving.read(opened, cfg)
  nested = jax.tree.map(jnp.asarray, tree.unflatten(flat))
  want = loop.unroll(nested, dtype)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  jax.tree.map(np.testing.assert_array_equal, got["llm"], want["llm"])
  kernel = got["img"]["head"]["kernel"]
  assert kernel.dtype == dtype
  np.testing.assert_array_equal(kernel, flat["img/head/kernel"].astype(dtype))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_is_read_is_cast_once_into_memory_that_the_device_takes(axes):
  draw = np.random.default_rng(0).standard_normal((40, 50, 60), np.float32)
  stored = draw.astype(tensors.dtype("bfloat16")).transpose(axes)
  out = tensors.empty(stored.shape, np.dtype(np.float32))
  assert tensors.fill(out, stored)
  np.testing.assert_array_equal(out, stored.astype(np.float32))
  placed = jax.device_put(out, jax.devices("cpu")[0])
  assert placed.unsafe_buffer_pointer() == out.ctypes.data
  stored[-1, -1, -1] = np.inf
  assert not tensors.fill(out, stored)


def test_all_forms_of_a_model_give_one_answer(files):
  folder, _ = files
  image = pathlib.Path(folder, "x.png")
  pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
  Image.fromarray(pixels).save(image)
  answers = []
  for name in ("b.npz", "hf", "run"):
    model = pg.load(str(folder / name))
    (answer,) = model.predict(image, "caption en", max_len=4)
    answers.append((answer.text, answer.tokens, answer.logp))
  assert answers[0] == answers[1] == answers[2]
  assert len(answers[0][1]) > 0


# Over which devices, and how much of an mlp matrix [F, D] each then has.
MESHES = (
  ({"tensor": -1}, (8, 1)),
  ({"fsdp": 8}, (1, 8)),
  ({"fsdp": 2, "tensor": 2}, (2, 2)),
)


def test_a_model_in_float16_answers_as_in_float32(files):
  folder, _ = files
  image = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
  want, half = (
    pg.load(folder / "hf", dtype=dtype) for dtype in ("float32", "float16")
  )
  assert half.cfg.llm.float32_stream and not want.cfg.llm.float32_stream
  (have,), (want,) = (
    model.predict(image, "caption en", max_len=6) for model in (half, want)
  )
  assert have.tokens == want.tokens
  np.testing.assert_allclose(have.logp, want.logp, atol=0.02)


@pytest.mark.parametrize("mesh, split", MESHES)
def test_a_model_over_several_devices_answers_as_on_one(files, mesh, split):
  folder, _ = files
  draw = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), np.uint8)
  prompts = ["caption en", "what is it?", "detect cat"]
  one = pg.load(folder / "hf", dtype="float32")
  many = pg.load(folder / "hf", dtype="float32", mesh=mesh)
  layer = many.params["llm"]["layers"][0]
  cuts = {"gate": split, "down": split[::-1]}
  for name, cut in cuts.items():
    w = layer["mlp"][name]["w"]
    assert {x.data.size for x in w.addressable_shards} == {
      w.size // (cut[0] * cut[1])
    }
    want = tuple(n // d for n, d in zip(w.shape, cut, strict=True))
    assert w.sharding.shard_shape(w.shape) == want
  table = many.params["llm"]["embedder"]["input_embedding"]
  # Not by the vocabulary, which a token's lookup would gather.
  want = len(table) // split[1], table.shape[1] // split[0]
  assert table.sharding.shard_shape(table.shape) == want
  for images, asked in ((list(draw), prompts), (draw[0], prompts[1])):
    answers = [m.predict(images, asked, max_len=6) for m in (one, many)]
    for want, got in zip(*answers, strict=True):
      assert got.tokens == want.tokens
      np.testing.assert_allclose(got.logp, want.logp, atol=1e-5)


def test_a_mesh_that_cannot_be_is_an_error(files):
  for mesh, error in (
    ({"tensr": 2}, 'did you mean "tensor"'),
    ({"tensor": 16}, "wants 16 devices; there are 8"),
  ):
    with pytest.raises(ValueError, match=error):
      pg.load(files[0] / "hf", mesh=mesh)


@pytest.mark.parametrize(
  "name, message",
  [
    ("{}/hf:txt", 'unknown tower "txt"; did you mean|unknown tower'),
    ("img={}/a.npz,img={}/hf", "names the same tower twice"),
    ("img={}/run,llm={}/hf", "convert a run of ours first"),
    ("img={}/g.npz", "has no tower 'img'"),
    ("{}/g.npz", "no PaliGemma.*A tower alone is named as img="),
    ("{}/nowhere", "no file or folder"),
    ("{}/empty", "no checkpoint in"),
    ("{}/siglip", "found 'siglip'; a tower alone is named"),
    ("img={}/naflex", "NaFlex"),
    ("llm={}/siglip", "wanted model_type paligemma or gemma or gemma2, found"),
  ],
)
def test_a_name_of_nothing_is_explained(files, name, message):
  folder, flat = files
  gemma_npz(folder / "g.npz", flat, 768)
  (folder / "empty").mkdir(exist_ok=True)
  for kind in ("siglip", "siglip2"):
    made = folder / ("naflex" if kind == "siglip2" else kind)
    made.mkdir(exist_ok=True)
    (made / "config.json").write_text(json.dumps(dict(model_type=kind)))
    (made / "model.safetensors").write_bytes(b"")
  with pytest.raises(ValueError, match=message):
    load.open(name.replace("{}", str(folder)))


def test_layers_that_are_not_alike_are_listed(tmp_path):
  flat = draw()
  path = siglip_npz(tmp_path / "s.npz", flat)
  with np.load(path) as z:
    named = dict(z)
  name = "params/img/Transformer/encoderblock_1/LayerNorm_0/scale"
  del named[name]
  np.savez(path, **named)
  with pytest.raises(ValueError, match="LayerNorm_0/scale.*not all there"):
    load.open(f"img={path}")


def test_another_variant_is_refused_with_a_list(files):
  folder, _ = files
  cfg = variants.from_config(dict(variant="nano2", res=48))
  place = sharding.replicated(sharding.make_mesh({"fsdp": -1}))
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    paligemma.shapes(cfg),
  )
  for name in ("b.npz", "hf", "run"):
    with pytest.raises(ValueError, match="(?s)missing llm.*post_ffw_norm.*!"):
      parameters.for_training(load.open(folder / name), cfg, abstract, None)


def broken(folder, tmp_path, form, flat):
  """Writes a model as it is, without a look at its values."""
  path = tmp_path / ("b.npz" if form == "npz" else form)
  if form == "npz":
    npz.write(path, specs_of(flat), from_memory(flat))
  elif form == "hf":
    path.mkdir()
    raw = hf_config.raw_of(NANO)
    hf.write(path, raw, specs_of(flat), from_memory(flat))
  else:
    shutil.copytree(folder / "run", path, ignore=lambda *_: ["checkpoints"])
    orbax.write(path, specs_of(flat), from_memory(flat))
  return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
@pytest.mark.parametrize("form", ["npz", "hf", "run"])
@pytest.mark.parametrize(
  "name, place, value",
  [
    ("llm/layers/mlp/gating_einsum", (1, 0, 2, 3), np.nan),
    (EMBEDDING, (-1, -1), np.inf),
    ("img/head/bias", (0,), -np.inf),
  ],
)
def test_a_value_that_is_no_number_is_an_error_wherever_it_is_read(
  files, tmp_path, dtype, form, name, place, value
):
  folder, _ = files
  flat = draw(dtype=dtype)
  flat[name][place] = value
  path = broken(folder, tmp_path, form, flat)
  layer = ", layer 1" if "layers" in name else ""
  said = f"{name}{layer}: 1 of .* inf or nan.*bfloat16"
  named = f"^{re.escape(str(path))}: "
  with pytest.raises(ValueError, match=named + said):
    serving.read(load.open(path), NANO)
  with pytest.raises(ValueError, match=said):
    convert.convert(path, tmp_path / "c.npz", "npz", check=True)
  assert not (tmp_path / "c.npz").exists()
  place = sharding.replicated(sharding.make_mesh({"fsdp": -1}))
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    paligemma.shapes(NANO),
  )
  said = f"{name}: a value is" if form == "run" else said
  with pytest.raises(ValueError, match=named + said):
    parameters.for_training(load.open(path), NANO, abstract, None)


def test_the_largest_numbers_are_numbers():
  for dtype in tensors.DTYPES.values():
    most = jnp.finfo(dtype).max
    array = np.array([[most, -most, 0.0], [-0.0, 1, -1]], dtype)
    for x in (array, array.T, array[:, :0]):
      reader = SimpleNamespace(read=lambda *_, x=x: x)
      assert tensors.read_finite(reader, "w") is x


@pytest.mark.parametrize("to", ["npz", "hf", "orbax"])
@pytest.mark.parametrize("name", ["a.npz", "hf", "run"])
def test_a_conversion_holds_two_layers_at_most(tmp_path, name, to):
  """Twelve layers, an embedding as large as one: all is far above two."""
  _, cfg = weights()
  img = siglip.Config(
    width=32, depth=2, mlp_dim=64, num_heads=2, patch=4, res=8
  )
  llm = cfg.llm.__class__(
    width=128,
    depth=12,
    mlp_dim=1024,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    vocab_size=NANO.llm.vocab_size,
  )
  flat = draw(paligemma.Config(img, llm))
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  if name != "a.npz":
    form = {"hf": "hf", "run": "orbax"}[name]
    options = dict(model=tokenizer.NANO)
    convert.convert(tmp_path / "a.npz", tmp_path / name, form, **options)
  largest = 2 * 128 * 1024 * 4
  assert sum(x.nbytes for x in flat.values()) > 12 * largest
  del flat
  options = dict(model=tokenizer.NANO, check=True)
  # The first one imports modules, which take memory, too.
  convert.convert(tmp_path / name, tmp_path / "first", to, **options)
  gc.collect()
  tracemalloc.start()
  convert.convert(tmp_path / name, tmp_path / "out", to, **options)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # What else it holds is 3.0e6 on Python 3.11 and 3.2e6 on 3.14: room for that,
  # and for less than half a layer.
  assert peak < 2.5 * largest + 3e6


def test_a_checkpoint_of_small_chunks_is_read_by_layer(
  files, tmp_path, monkeypatch
):
  folder, flat = files
  monkeypatch.setattr(content, "CHUNK", 30_000)
  convert.convert(folder / "hf", tmp_path / "run", "orbax", check=True)
  opened, got = read(tmp_path / "run")
  assert_same(got, flat)
  name = "llm/layers/mlp/linear"
  store = opened.reader._store(name)
  assert store.chunk_layout.read_chunk.shape[0] == 1
  np.testing.assert_array_equal(opened.reader.read(name, 2), flat[name][2])
