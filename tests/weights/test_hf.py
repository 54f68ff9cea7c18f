"""Hugging Face folders: names and transposes, lazily, without transformers."""

import dataclasses
import json
import mmap
import struct

import numpy as np
import pytest
import safetensors.numpy

from pg import tree
from pg.models import gemma, paligemma, variants
from pg.pp import flavours
from pg.weights import hf, hf_config, hf_names, npz
from tests.support import hf_weights, toy
from tests.weights.test_npz import (
  BF16,
  assert_same,
  from_memory,
  read_all,
  specs_of,
)

GEMMA_2 = dataclasses.replace(toy.LLM2, query_scale=5**-0.5)
MODELS = {
  "pg1": dataclasses.replace(toy.LLM, num_kv_heads=1),
  "pg1_all_kv_heads": dataclasses.replace(toy.LLM, num_kv_heads=4),
  "pg2": GEMMA_2,
  "pg2_all_kv_heads_no_final_softcap": dataclasses.replace(
    GEMMA_2, num_kv_heads=4, final_softcap=0.0
  ),
}
each_model = pytest.mark.parametrize("model", MODELS)


def weights(model, dtype=np.float32):
  """Returns flat random parameters and the config of a tiny model."""
  cfg = paligemma.Config(toy.IMG, MODELS[model])
  rng = np.random.default_rng(0)
  flat = tree.flatten(paligemma.shapes(cfg))
  draw = lambda x: rng.standard_normal(x.shape).astype(dtype)
  return {name: draw(x) for name, x in flat.items()}, cfg


def written(folder, model, dtype=np.float32, **options):
  """Writes a model; returns its flat parameters, config and folder."""
  flat, cfg = weights(model, dtype)
  folder.mkdir()
  raw = hf_config.raw_of(cfg)
  hf.write(folder, raw, specs_of(flat), from_memory(flat), **options)
  return flat, cfg, folder


def loaded(folder):
  """Returns all tensors of a folder by the names in its files."""
  found = {}
  for path in folder.glob("*.safetensors"):
    found |= safetensors.numpy.load_file(path)
  return found


def in_memory(name):
  """Returns transformers 5's name of a module's parameter."""
  name = name.replace("vision_tower.vision_model.", "vision_tower.")
  return "model." + name.replace("language_model.model.", "language_model.")


def rename(folder, function):
  """Renames the tensors of a folder's only file; None removes one."""
  path = folder / "model.safetensors"
  named = {function(k): x for k, x in loaded(folder).items()}
  named.pop(None, None)
  safetensors.numpy.save_file(named, path)


@each_model
def test_what_is_written_is_what_the_independent_mapping_says(tmp_path, model):
  flat, cfg, folder = written(tmp_path / "hf", model)
  named = {in_memory(k): x for k, x in loaded(folder).items()}
  embedding = "model.language_model.embed_tokens.weight"
  assert len(named[embedding]) == 64
  named[embedding] = named[embedding][: cfg.llm.vocab_size]
  assert_same(tree.flatten(hf_weights.params(named, cfg)), flat)


@each_model
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_npz_to_folder_to_npz_is_the_same_file(tmp_path, model, dtype):
  flat, _, folder = written(tmp_path / "hf", model, dtype)
  npz.write(tmp_path / "a.npz", specs_of(flat), from_memory(flat))
  reader = hf.Reader(folder)
  npz.write(tmp_path / "b.npz", reader.specs, reader.read)
  files = [(tmp_path / name).read_bytes() for name in ("a.npz", "b.npz")]
  assert files[0] == files[1]


@each_model
def test_folder_to_npz_to_folder_is_the_same_file(tmp_path, model):
  padding = np.random.default_rng(1).standard_normal((40, 16), np.float32)
  _, _, first = written(tmp_path / "a", model, padding=padding)
  reader = hf.Reader(first)
  np.testing.assert_array_equal(reader.padding, padding)
  npz.write(tmp_path / "a.npz", reader.specs, reader.read)
  second, middle = tmp_path / "b", npz.Reader(tmp_path / "a.npz")
  second.mkdir()
  hf.write(second, reader.raw, middle.specs, middle.read, reader.padding)
  names = sorted(p.name for p in first.iterdir())
  assert names == sorted(p.name for p in second.iterdir())
  for name in names:
    assert (first / name).read_bytes() == (second / name).read_bytes()


OTHER_NAMES = {
  "hub": lambda k: k,
  "5.x files": lambda k: k.replace(".vision_model.", "."),
  "5.x in memory": in_memory,
  "4.5x in memory": lambda k: (
    "model." + k.replace("language_model.model.", "language_model.")
  ),
}


@pytest.mark.parametrize("version", OTHER_NAMES)
def test_the_names_of_every_version_are_read(tmp_path, version):
  flat, cfg, folder = written(tmp_path / "hf", "pg2")
  rename(folder, OTHER_NAMES[version])
  assert_same(read_all(hf.Reader(folder), cfg), flat)


WRAPPED = {
  "peft": "base_model.model.{}",
  "torch.compile": "_orig_mod.{}",
  "ddp": "module.{}",
  "both": "module._orig_mod.{}",
  "ddp of a compiled peft": "module._orig_mod.base_model.model.{}",
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("version", ["hub", "5.x in memory"])
def test_names_behind_a_wrapper_are_read(tmp_path, wrapper, version):
  flat, cfg, folder = written(tmp_path / "hf", "pg2")
  rename(folder, lambda k: WRAPPED[wrapper].format(OTHER_NAMES[version](k)))
  assert_same(read_all(hf.Reader(folder), cfg), flat)


def test_a_module_that_is_compiled_alone_is_read(tmp_path):
  flat, cfg, folder = written(tmp_path / "hf", "pg1")
  rename(folder, lambda k: in_memory(k).replace("layers.", "_orig_mod.layers."))
  assert_same(read_all(hf.Reader(folder), cfg), flat)


def test_names_of_something_else_are_named_in_one_sentence(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg1")
  rename(folder, lambda k: f"policy.{k}")
  with pytest.raises(
    ValueError, match=r"\d+ tensors, such as 'policy"
  ) as error:
    hf.Reader(folder)
  assert "\n" not in str(error.value)


def test_a_lora_that_is_not_merged_is_named_in_one_sentence(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg1")
  key = "base_model.model.language_model.model.layers.0.mlp.up_proj"
  named = loaded(folder)
  named[f"{key}.lora_A.default.weight"] = np.zeros((2, 16), np.float32)
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  with pytest.raises(ValueError, match="a LoRA .*merge_and_unload") as error:
    hf.Reader(folder)
  assert "\n" not in str(error.value)


def with_rows(folder, rows, said):
  """Gives the embedding of a folder other rows, and its config a number."""
  named, file = loaded(folder), folder / "config.json"
  key = "language_model.model.embed_tokens.weight"
  named[key] = np.resize(named[key], (rows, named[key].shape[1]))
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  raw = json.loads(file.read_text())
  raw["text_config"]["vocab_size"] = said
  file.write_text(json.dumps(raw))
  return named[key]


@pytest.mark.parametrize("rows", [24, 25, 28, 64, 68])
@pytest.mark.parametrize("said", [24, 64, 68])
def test_an_embedding_may_have_any_rows_behind_the_tokens(tmp_path, rows, said):
  """None, `<image>` alone, and three that were added, also to the padding."""
  flat, cfg, folder = written(tmp_path / "hf", "pg1")
  table = with_rows(folder, rows, said)
  reader = hf.Reader(folder)
  assert reader.cfg == cfg
  assert_same(read_all(reader, cfg), flat)
  np.testing.assert_array_equal(reader.padding, table[24:])
  again = tmp_path / "again"
  again.mkdir()
  hf.write(again, reader.raw, reader.specs, reader.read, reader.padding)
  assert_same(loaded(again), loaded(folder))
  assert hf.Reader(again).raw["text_config"]["vocab_size"] == rows


def test_an_embedding_that_lacks_tokens_is_an_error(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg1")
  with_rows(folder, 23, 64)
  with pytest.raises(ValueError, match=r"wanted \(64, 16\), found \(23, 16\)"):
    hf.Reader(folder)


@pytest.mark.parametrize("version", ["hub", "5.x files", "5.x in memory"])
def test_a_pooling_head_of_the_tower_is_left_out(tmp_path, version):
  flat, cfg, folder = written(tmp_path / "hf", "pg2")
  named, file = loaded(folder), folder / "config.json"
  for key in ("probe", "attention.in_proj_weight", "mlp.fc1.bias"):
    named[f"vision_tower.vision_model.head.{key}"] = np.zeros(3, np.float32)
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  rename(folder, OTHER_NAMES[version])
  raw = json.loads(file.read_text())
  del raw["vision_config"]["vision_use_head"]  # transformers' default is True
  file.write_text(json.dumps(raw))
  reader = hf.Reader(folder)
  assert_same(read_all(reader, cfg), flat)
  assert reader.raw["vision_config"]["vision_use_head"] is False


@pytest.mark.parametrize("name", ["lm_head", "language_model.lm_head"])
def test_a_head_is_read_when_it_is_the_embedding(tmp_path, name):
  flat, cfg, folder = written(tmp_path / "hf", "pg1")
  named, path = loaded(folder), folder / "model.safetensors"
  head = named["language_model.model.embed_tokens.weight"].copy()
  safetensors.numpy.save_file(named | {f"{name}.weight": head}, path)
  assert_same(read_all(hf.Reader(folder), cfg), flat)
  head[5, 5] += 1
  safetensors.numpy.save_file(named | {f"{name}.weight": head}, path)
  with pytest.raises(ValueError, match="is not the embedding"):
    read_all(hf.Reader(folder), cfg)


def test_a_large_model_is_in_shards_with_an_index(tmp_path):
  flat, cfg, folder = written(tmp_path / "hf", "pg2", shard=9_000)
  files = sorted(p.name for p in folder.glob("*.safetensors"))
  assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
  sizes = [
    sum(x.nbytes for x in safetensors.numpy.load_file(folder / f).values())
    for f in files
  ]
  assert len(files) > 2
  assert max(sizes) <= 9_000
  index = json.loads((folder / "model.safetensors.index.json").read_text())
  assert index["metadata"]["total_size"] == sum(sizes)
  for name, file in index["weight_map"].items():
    assert name in safetensors.numpy.load_file(folder / file)
  assert_same(read_all(hf.Reader(folder), cfg), flat)
  (folder / files[1]).unlink()
  with pytest.raises(ValueError, match=f"lacks {files[1]}"):
    hf.Reader(folder)


def test_rows_of_no_token_are_the_mean_and_are_cut_again(tmp_path):
  flat, cfg, folder = written(tmp_path / "hf", "pg1")
  table = loaded(folder)["language_model.model.embed_tokens.weight"]
  mean = flat[hf_names.EMBEDDING].mean(axis=0)
  np.testing.assert_allclose(table[24:], np.tile(mean, (40, 1)), atol=1e-6)
  logits = table @ np.random.default_rng(3).standard_normal((16, 50))
  assert logits.argmax(axis=0).max() < 24
  got = read_all(hf.Reader(folder), cfg)[hf_names.EMBEDDING]
  assert got.shape == (24, 16)
  assert hf_config.padded(257_152) == 257_216


def test_a_vocabulary_without_padding_is_kept_whole(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg1")
  raw = hf_config.read(folder) | {"image_token_index": 256_000}
  assert hf_config.config_of(raw).llm.vocab_size == 64


@each_model
def test_a_config_survives_both_ways(model):
  cfg = weights(model)[1]
  assert hf_config.config_of(hf_config.raw_of(cfg)) == cfg


def test_released_configs_name_the_released_models():
  text = dict(
    model_type="gemma",
    hidden_size=2048,
    intermediate_size=16384,
    num_attention_heads=8,
    num_hidden_layers=18,
    num_key_value_heads=1,
    vocab_size=257216,
  )
  vision = dict(
    hidden_size=1152,
    intermediate_size=4304,
    num_attention_heads=16,
    num_hidden_layers=27,
    patch_size=14,
  )
  raw = dict(text_config=text, vision_config=vision, image_token_index=257152)
  assert hf_config.config_of(raw) == variants.VARIANTS["pg1_3b"]
  large = hf_config.raw_of(variants.VARIANTS["pg2_28b"])
  assert large["text_config"]["query_pre_attn_scalar"] == 144
  again = hf_config.config_of(large)
  llm = dataclasses.replace(again.llm, window=None)
  want = variants.VARIANTS["pg2_28b"].llm
  assert llm == dataclasses.replace(want, query_scale=144**-0.5)
  assert llm.query_scale == pytest.approx(want.query_scale, rel=1e-12)


def test_settings_that_the_model_has_not_are_errors():
  raw = hf_config.raw_of(weights("pg2")[1])
  raw["text_config"] |= dict(attention_bias=True, rms_norm_eps=1e-5)
  raw["vision_config"]["num_channels"] = 1
  with pytest.raises(ValueError) as error:
    hf_config.config_of(raw)
  for text in ("attention_bias=True", "rms_norm_eps=1e-05", "num_channels=1"):
    assert text in str(error.value)
  cfg = paligemma.Config(toy.IMG, gemma.Config(final_softcap=30.0))
  with pytest.raises(ValueError, match="Gemma 1 has no final_softcap=30.0"):
    hf_config.raw_of(cfg)


NOT_COMPUTED = {
  "Gemma 1's activation": ("pg1", "text_config", dict(hidden_act="relu")),
  "exact gelu": ("pg2", "text_config", dict(hidden_activation="gelu")),
  "exact gelu of images": ("pg2", "vision_config", dict(hidden_act="gelu")),
  "windows": ("pg2", "text_config", dict(layer_types=["full_attention"] * 2)),
  "windows of Gemma 1": ("pg1", "text_config", dict(sliding_window=4096)),
  "a bias": ("pg1", "text_config", dict(mlp_bias=True)),
  "a causal prefix": (
    "pg2",
    "text_config",
    dict(use_bidirectional_attention=False),
  ),
  "other angles": ("pg1", "text_config", dict(rope_parameters={"factor": 8})),
  "longer": ("pg1", "text_config", dict(rope_scaling={"type": "linear"})),
  "an encoder": ("pg1", "", dict(is_encoder_decoder=True)),
  "another layer": ("pg1", "", dict(vision_feature_layer=-2)),
  "quantised": ("pg1", "", dict(quantization_config={"bits": 4})),
  "no square": ("pg1", "vision_config", dict(image_size=[8, 4])),
  "a text without end": ("pg1", "text_config", dict(head_dim="a" * 10**5)),
  "what nobody knows yet": ("pg2", "vision_config", dict(num_experts=8)),
}


@pytest.mark.parametrize("name", NOT_COMPUTED)
def test_whatever_is_not_computed_is_an_error(name):
  model, group, said = NOT_COMPUTED[name]
  raw = hf_config.raw_of(weights(model)[1])
  hf_config.config_of(raw)
  (raw[group] if group else raw).update(said)
  (key,) = next(iter(said.values())) if "rope" in str(said) else said
  match = rf"that this model has not:.*{key}="
  with pytest.raises(ValueError, match=match) as error:
    hf_config.config_of(raw)
  assert len(str(error.value)) < 1000


def test_a_gemma_alone_that_looks_ahead_is_an_error():
  text = hf_config.raw_of(weights("pg1")[1])["text_config"]
  for ahead in (False, None):
    raw = dict(text_config=dict(text, use_bidirectional_attention=ahead))
    hf_config.config_of(raw)
  raw["text_config"]["use_bidirectional_attention"] = True
  with pytest.raises(ValueError, match="use_bidirectional_attention=True"):
    hf_config.config_of(raw)


@each_model
def test_settings_of_files_training_and_generation_are_accepted(model):
  """All that released files and transformers 4 and 5 write."""
  cfg = weights(model)[1]
  raw = hf_config.raw_of(cfg)
  plain = dict(
    _name_or_path="mine",
    architectures=["A"],
    attention_dropout=0.1,
    chunk_size_feed_forward=0,
    dtype="bfloat16",
    id2label={"0": "LABEL_0"},
    is_encoder_decoder=False,
    max_length=20,
    output_attentions=False,
    problem_type=None,
    repetition_penalty=1.0,
    return_dict=True,
    torch_dtype="float32",
    transformers_version="4.41.0.dev0",
    unsloth_version="2025.1",
    use_cache=True,
  )
  raw |= plain | dict(_vocab_size=24, tie_word_embeddings=True)
  raw["text_config"] |= plain | dict(
    attention_bias=False,
    hidden_act="gelu" if "1" in model else "gelu_pytorch_tanh",
    hidden_activation=None,
    initializer_range=0.02,
    max_position_embeddings=8192,
    rms_norm_eps=1e-06,
    rope_parameters=dict(rope_theta=10000.0, rope_type="default"),
    rope_scaling=None,
    rope_theta=10000.0,
    use_bidirectional_attention=True,
    bos_token_id=2,
  )
  raw["vision_config"] |= plain | dict(
    attention_dropout=0.0,
    hidden_act="gelu_pytorch_tanh",
    layer_norm_eps=1e-06,
    num_channels=3,
    vision_use_head=True,
    vocab_size=257152,
  )
  if cfg.llm.post_norms:
    order = ["sliding_attention", "full_attention", "sliding_attention"]
    raw["text_config"] |= dict(
      cache_implementation="hybrid",
      layer_types=order[: cfg.llm.depth],
      sliding_window_size=4096,
    )
  assert hf_config.config_of(raw) == cfg


def test_every_tensor_that_differs_is_listed(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg2")
  path, named = folder / "model.safetensors", loaded(folder)
  layer = "language_model.model.layers.1"
  del named[f"{layer}.mlp.up_proj.weight"]
  named[f"{layer}.mlp.extra"] = np.zeros(3, np.float32)
  named[f"{layer}.input_layernorm.weight"] = np.zeros(3, np.float32)
  safetensors.numpy.save_file(named, path)
  with pytest.raises(ValueError) as error:
    hf.Reader(folder)
  for line in (
    f"- missing {layer}.mlp.up_proj.weight (24, 16)",
    f"+ unexpected {layer}.mlp.extra (3,)",
    f"! {layer}.input_layernorm.weight: wanted (16,), found (3,)",
  ):
    assert line in str(error.value)


def test_another_dtype_is_an_error(tmp_path):
  _, _, folder = written(tmp_path / "hf", "pg1")
  named = loaded(folder)
  key = "multi_modal_projector.linear.bias"
  named[key] = named[key].astype(np.float64)
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  with pytest.raises(ValueError, match=f"! {key}: dtype F64"):
    hf.Reader(folder)


def test_layers_of_different_dtypes_are_read_without_a_loss(tmp_path):
  flat, cfg, folder = written(tmp_path / "hf", "pg1")
  named = loaded(folder)
  key = "language_model.model.layers.0.mlp.up_proj.weight"
  named[key] = named[key].astype(BF16)
  safetensors.numpy.save_file(named, folder / "model.safetensors")
  got = read_all(hf.Reader(folder), cfg)
  name = "llm/layers/mlp/gating_einsum"
  np.testing.assert_array_equal(got[name][1], flat[name][1])
  np.testing.assert_array_equal(got[name][0, 0], flat[name][0, 0])


def test_tensors_that_follow_each_other_are_read_without_a_copy(tmp_path):
  reader = hf.Reader(written(tmp_path / "hf", "pg1")[2])
  gate_and_up = reader.read("llm/layers/mlp/gating_einsum", 1)
  for owner in (gate_and_up, reader.read("llm/layers/mlp/linear", 1)):
    while hasattr(owner, "base"):
      owner = owner.base
    assert isinstance(owner, mmap.mmap)


@pytest.mark.parametrize("keep", [4, 100, 0.5, 0.9999])
def test_a_file_cut_short_is_an_error(tmp_path, keep):
  path = written(tmp_path / "hf", "pg1")[2] / "model.safetensors"
  data = path.read_bytes()
  path.write_bytes(data[: keep if keep >= 1 else int(len(data) * keep)])
  with pytest.raises(ValueError, match="model.safetensors is no .* cut short"):
    hf.Reader(path.parent)


def test_a_folder_of_something_else_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="no config.json"):
    hf.Reader(tmp_path)
  (tmp_path / "config.json").write_text('{"model_type": "llama"}')
  with pytest.raises(
    ValueError, match="wanted model_type paligemma, found 'llama'"
  ):
    hf.Reader(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match="is not JSON"):
    hf.Reader(tmp_path)


def test_a_folder_has_what_the_processor_wants(tmp_path):
  _, cfg, folder = written(tmp_path / "hf", "pg1")
  hf.write_processor(folder, cfg.img, flavours.named("hf", cfg.img.res))
  images = json.loads((folder / "preprocessor_config.json").read_text())
  assert images["size"] == {"height": 8, "width": 8}
  assert images["image_seq_length"] == cfg.img.num_tokens == 4
  assert (folder / "generation_config.json").exists()


def test_every_released_name_has_a_place(tmp_path):
  for variant in ("pg1_3b", "pg2_3b", "pg2_10b", "pg2_28b"):
    cfg = variants.VARIANTS[variant]
    assert set(hf_names.rows_of(cfg)) == set(
      tree.flatten(paligemma.shapes(cfg))
    )
    hub = [k for _, _, h in hf_names.plan(cfg, 257_216) for k in h]
    assert len(set(hub)) == len(hub)


@pytest.mark.parametrize(
  "key, value",
  [
    ("num_hidden_layers", 10**9),
    ("hidden_size", 10**12),
    ("vocab_size", 1e300),
    ("head_dim", float("inf")),
    ("intermediate_size", 1.5),
    ("num_attention_heads", "8"),
  ],
)
def test_a_size_that_no_model_has_is_an_error(key, value):
  raw = dict(model_type="paligemma", vision_config={})
  raw["text_config"] = {"model_type": "gemma", key: value}
  with pytest.raises(ValueError, match=f"not: text_config.{key}="):
    hf_config.config_of(raw)


@pytest.mark.parametrize(
  "group, change",
  [
    ("text_config", dict(num_attention_heads=8, num_key_value_heads=3)),
    ("vision_config", dict(hidden_size=16, num_attention_heads=32)),
    ("vision_config", dict(image_size=8, patch_size=16)),
  ],
)
def test_sizes_that_do_not_go_together_are_an_error(group, change):
  raw = dict(model_type="paligemma", text_config={}, vision_config={})
  with pytest.raises(ValueError, match=r"is (no|not a) multiple of"):
    hf_config.config_of(raw | {group: change})


@pytest.mark.parametrize(
  "text, message",
  [
    ("[" * 100_000, "is not JSON"),
    ('{"model_type": [1]}', r"wanted str as model_type, got '\[1\]'"),
    ('{"text_config": [1]}', "wanted dict as text_config"),
    ('{"text_config": {"model_type": {}}}', "wanted str as model_type"),
    ('{"image_token_index": "7"}', "wanted int as image_token_index, got '7'"),
    ('{"text_config": {"rope_scaling": [1]}}', "wanted dict as rope_scaling"),
  ],
)
def test_a_config_of_other_values_is_an_error(tmp_path, text, message):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=message):
    hf_config.read(tmp_path)


@pytest.mark.parametrize(
  "text, message",
  [
    ("[" * 100_000, "recursion"),
    ("[]", "is no index of files"),
    ('{"weight_map": 1}', "is no index of files"),
    ('{"weight_map": {"a": 1, "b": "c"}}', "is no index of files"),
    ('{"weight_map": {"a": "../a.safetensors"}}', "not in this folder"),
  ],
)
def test_an_index_names_files_beside_it(tmp_path, text, message):
  (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
  (tmp_path / "model.safetensors.index.json").write_text(text)
  with pytest.raises(ValueError, match=f"index.json.*{message}"):
    hf.Reader(tmp_path)


@pytest.mark.parametrize(
  "head",
  [
    struct.pack("<Q", 1 << 60) + b"{}",
    struct.pack("<Q", 99_000_000) + b"{}",
    struct.pack("<Q", 63)
    + b'{"x":{"dtype":"F32","shape":[1024,1024],"data_offsets":[0,4194304]}}',
  ],
)
def test_a_header_that_claims_more_than_the_file_is_an_error(tmp_path, head):
  (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
  (tmp_path / "model.safetensors").write_bytes(head)
  with pytest.raises(ValueError, match="no safetensors file, or cut short"):
    hf.Reader(tmp_path)
