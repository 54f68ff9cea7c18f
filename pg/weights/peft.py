"""PEFT's adapter folders: reads and writes them.

A folder has an `adapter_config.json` and an `adapter_model.safetensors`, with
two matrices for each module, `lora_A` [r, in] and `lora_B` [out, r], and for
DoRA its lengths `lora_magnitude_vector` [out].
"""

import json
import os
import re

import numpy as np
import safetensors.numpy

from pg import tree
from pg.models import lora, matrices
from pg.weights import hf_names, tensors

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(
  r"(.*)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)
_OURS = {"lora_A": "a", "lora_B": "b", "lora_magnitude_vector": "m"}
# Keys of a config that are read here, or that say nothing of what is computed;
# of others only what is empty or off is known.
_KNOWN = {
  *("lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "r"),
  *("rank_pattern", "target_modules", "exclude_modules", "lora_dropout"),
  *("layers_to_transform", "layers_pattern", "inference_mode", "auto_mapping"),
  *("base_model_name_or_path", "revision", "task_type", "peft_version"),
  *("megatron_core", "qalora_group_size", "eva_config", "runtime_config"),
}
# Other ways to begin, such as "pissa", change the weights, too.
_BEGUN = (True, False, "gaussian", "eva", "orthogonal")


def is_folder(path):
  """Returns whether a path is an adapter folder."""
  return os.path.isfile(os.path.join(path, CONFIG))


def read(path, cfg):
  """Reads an adapter folder.

  Args:
    path: str.
    cfg: paligemma.Config of the weights.

  Returns:
    float, the scale, and {weight: {"a", "b", with DoRA "m"}}, f32 arrays as in
    lora.py. Layers without an adapter have zeros; scales and ranks of their own
    are in b.

  Raises:
    ValueError: an option that is not computed here, a module that PaliGemma
      does not have, or a file that cannot be read.
  """
  with open(os.path.join(path, CONFIG), encoding="utf-8") as file:
    raw = json.load(file)
  only = dict(peft_type=("LORA",), bias=("none",), init_lora_weights=_BEGUN)
  for key, value in raw.items():
    if value not in only[key] if key in only else value and key not in _KNOWN:
      raise ValueError(
        f"{path}/{CONFIG}: {key} is {value!r}, which is not supported here."
        " Merge such an adapter with PEFT (merge_and_unload) and read the whole"
        " model"
      )
  file = os.path.join(path, FILE)
  try:
    stored = safetensors.numpy.load_file(file)
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(f"{file} cannot be read: {error}") from error
  modules, unknown = {}, []
  for key, array in stored.items():
    found = _KEY.fullmatch(key)
    if not found:
      unknown.append(key)
      continue
    name = hf_names.hub_name(f"{found[1]}.weight")
    modules.setdefault(name, {})[_OURS[found[2]]] = array.astype(np.float32)
  places = _places(cfg)
  unknown += [name for name in modules if name not in places]
  if unknown:
    raise ValueError(
      f"{file} has adapters that fit no weight of image tower, projector or"
      f" decoder here: {', '.join(tree.some(unknown))}"
    )
  return 1.0, _joined(modules, places, raw, cfg, path)


def _joined(modules, places, raw, cfg, path):
  """Returns the parts of our weights of the arrays of their modules."""
  found, shapes = {}, tensors.shapes(cfg)
  for module, arrays in modules.items():
    name, layer, i = places[module]
    if not {"a", "b"} <= set(arrays):
      raise ValueError(
        f"{path}: {module} has {sorted(arrays)}; wanted lora_A and lora_B"
      )
    found.setdefault(name, {})[layer, i] = arrays, _scale(raw, module, arrays)
  parts = {}
  for name, pieces in found.items():
    rank = max(len(arrays["a"]) for arrays, _ in pieces.values())
    wanted = lora.shapes(name, shapes[name].shape, rank)
    own = parts[name] = {k: np.zeros(wanted[k], np.float32) for k in "ab"}
    if any("m" in arrays for arrays, _ in pieces.values()):
      own["m"] = np.full(wanted["m"], np.nan, np.float32)
    for (layer, i), (arrays, scale) in pieces.items():
      at = tuple(x for x in (layer, i) if x is not None)
      arrays["b"] = arrays["b"] * scale
      for k, array in arrays.items():
        target = own[k][at]
        try:
          if k == "a":  # [r, in] to [in, r]
            target[..., : len(array)] = array.T.reshape(
              *target.shape[:-1], len(array)
            )
          elif k == "b":  # [out, r] to [r, out]
            target[: array.shape[1]] = array.T.reshape(-1, *target.shape[1:])
          else:
            target[...] = array.reshape(target.shape)
        except ValueError as error:
          raise ValueError(
            f"{path}: the adapter of {name} has {_THEIRS[k]}"
            f" {array.shape}, which is not of a weight of {target.shape}"
          ) from error
    if "m" in own and np.isnan(own["m"]).any():
      raise ValueError(
        f"{path}: only some layers of {name} have a lora_magnitude_vector;"
        " wanted all"
      )
  return parts


_THEIRS = {v: k for k, v in _OURS.items()}


def _scale(raw, module, arrays):
  """Returns the factor of a module's product; see PEFT's LoraConfig."""
  module, rank = module.removesuffix(".weight"), len(arrays["a"])
  alpha = raw.get("lora_alpha", 8)
  for key, value in (raw.get("alpha_pattern") or {}).items():
    if re.match(rf"(.*\.)?({key})$", module):
      alpha = value
      break
  return alpha / (rank**0.5 if raw.get("use_rslora") else rank)


def _places(cfg):
  """Returns {their weight: (ours, layer or None, place in a stack or None)}."""
  found = {}
  for name, (theirs, _) in hf_names.rows_of(cfg).items():
    if not matrices.letters(name):
      continue
    depth = tensors.shapes(cfg)[name].shape[0]
    for layer in range(depth) if tensors.is_stacked(name) else [None]:
      for i, hub in enumerate(theirs):
        place = name, layer, i if len(theirs) > 1 else None
        found[hub.replace("*", str(layer))] = place
  return found


def write(path, adapter, cfg):
  """Writes an adapter folder, for transformers 5.

  Args:
    path: str, made.
    adapter: adapters.Adapter.
    cfg: paligemma.Config of the weights.

  Raises:
    OSError: it cannot be written.
  """
  flat, modules = {}, []
  # Smaller ones are filled with zeros: the scale depends on the rank.
  rank = max(parts["a"].shape[-1] for parts in adapter.parts.values())
  for hub, (name, layer, i) in _places(cfg).items():
    if name not in adapter.parts:
      continue
    at = tuple(x for x in (layer, i) if x is not None)
    own = {k: x[at] for k, x in adapter.parts[name].items()}
    module = _module(hub)
    modules.append(module)
    fill = rank - own["a"].shape[-1]
    a = own["a"].reshape(-1, rank - fill).T
    b = own["b"].reshape(rank - fill, -1).T
    arrays = {
      "lora_A.weight": np.pad(a, ((0, fill), (0, 0))),
      "lora_B.weight": np.pad(b, ((0, 0), (0, fill))),
    }
    if "m" in own:
      arrays["lora_magnitude_vector"] = own["m"].reshape(-1)
    for key, array in arrays.items():
      key = f"base_model.model.{module}.{key}"
      flat[key] = np.ascontiguousarray(array)
  raw = dict(
    peft_type="LORA",
    task_type=None,
    base_model_name_or_path=adapter.base,
    inference_mode=True,
    r=rank,
    lora_alpha=adapter.scale * rank,
    lora_dropout=0.0,
    bias="none",
    use_rslora=False,
    use_dora=any("m" in x for x in adapter.parts.values()),
    target_modules=modules,
  )
  os.mkdir(path)
  with open(os.path.join(path, CONFIG), "w", encoding="utf-8") as file:
    json.dump(raw, file, indent=2)
  safetensors.numpy.save_file(flat, os.path.join(path, FILE), {"format": "pt"})


def _module(hub):
  """Returns where transformers 5 has a module of the hub's weight."""
  name = hub.removesuffix(".weight")
  name = name.replace("language_model.model.", "language_model.")
  return "model." + name.replace("vision_tower.vision_model.", "vision_tower.")
