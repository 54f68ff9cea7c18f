"""Hugging Face folders: reads and writes weights, a tensor per layer.

The folder has a `config.json`, `*.safetensors` (in shards with an index where
they are large), and the files of the processor. The mapping of names and shapes
is `hf_names.TABLE`.
"""

import contextlib
import json
import os
import re

import jax
import numpy as np
import safetensors

from pg import tree
from pg.weights import downloads, hf_config, hf_names, tensors

SHARD = 5_000_000_000  # bytes of tensors in one file, at most

_HEAD = "language_model.lm_head.weight"
_EMBEDDING = "language_model.model.embed_tokens.weight"
# Computed, in some old files; the pooling head that SigLIP has for itself.
_UNUSED = r".*\.(position_ids|inv_freq)|vision_tower\.vision_model\.head\..*"
_TOWERS = dict(img=r"vision_tower\.", llm=r"language_model\.")
_DTYPES = {
  "F32": tensors.DTYPES["float32"],
  "F16": tensors.DTYPES["float16"],
  "BF16": tensors.DTYPES["bfloat16"],
}
_ROWS = 4096  # of an embedding that are worked on at once
_CODES = {v: k for k, v in _DTYPES.items()}


class Reader:
  """Reads a folder by our names; see `pg/weights/tensors.py`.

  Attributes:
    raw: dict, the `config.json`.
    padding: [rows, D], rows of the embedding after our vocabulary.
  """

  def __init__(self, folder, tower=None):
    """Opens the folder and compares its tensors with its config.

    Args:
      folder: str.
      tower: "img" or "llm" to read one alone, of a PaliGemma or of a SigLIP or
        Gemma folder; None is all of a PaliGemma.

    Raises:
      ValueError: no such folder or config; files that are missing or damaged;
        missing, unexpected or wrong tensors, which are listed.
    """
    self._folder = os.fspath(folder)
    raw = hf_config.read(self._folder, tower)
    hf_config.config_of(raw)
    found = _found(self._folder)
    _, _, embedding, _ = found.get(_EMBEDDING, (None,) * 4)
    self.raw = hf_config.as_stored(raw, embedding and embedding.shape[0])
    self.cfg = hf_config.config_of(self.raw)
    self._table = {
      name: row
      for name, row in hf_names.rows_of(self.cfg).items()
      if tensors.within(name, tower)
    }
    num_rows = hf_config.num_rows(self.raw)
    self._head = found.pop(_HEAD, None)
    _check_names(found, self._folder)
    if tower:
      found = {k: v for k, v in found.items() if re.match(_TOWERS[tower], k)}
    specs = {name: spec for name, (_, _, spec, _) in found.items()}
    _check(specs, self.cfg, num_rows, self._folder, tower)
    self._found = found
    shapes = tensors.shapes(self.cfg)
    self.specs = {
      name: jax.ShapeDtypeStruct(shape.shape, self._dtype(name, shape.shape))
      for name, shape in shapes.items()
      if name in self._table
    }

  def read(self, name, layer=None):
    hub, layout = self._table[name]
    hub = [theirs.replace("*", str(layer)) for theirs in hub]
    spec = self.specs[name]
    shape = spec.shape[layer is not None :]
    if name == hf_names.EMBEDDING:
      return layout.from_hf(self._embedding()[: shape[0]], shape)
    if len(hub) == 1:
      return layout.from_hf(_mapped(*self._found[hub[0]]), shape)
    # As they lie in the file: to transpose is the work of who wants it.
    stacked = _stacked([self._found[theirs] for theirs in hub], spec.dtype)
    one = layout.from_hf(stacked[0], shape[1:])
    strides = stacked.strides[0], *one.strides
    return np.lib.stride_tricks.as_strided(stacked, shape, strides)

  @property
  def padding(self):
    return _mapped(*self._found[_EMBEDDING])[self.cfg.llm.vocab_size :]

  def close(self):
    """Does nothing: each array maps its part of a file while it is there."""

  def _dtype(self, name, shape):
    """Returns the dtype of all of a tensor's layers, f32 where they differ."""
    dtypes = {
      self._found[hub.replace("*", str(layer))][2].dtype
      for hub in self._table[name][0]
      for layer in tensors.parts(name, shape)
    }
    return dtypes.pop() if len(dtypes) == 1 else tensors.DTYPES["float32"]

  def _embedding(self):
    array = _mapped(*self._found[_EMBEDDING])
    if self._head:
      head = _mapped(*self._head)
      same = head.shape == array.shape and all(
        np.array_equal(
          head[i : i + _ROWS],
          array[i : i + _ROWS],
          equal_nan=True,  # those are refused as such
        )
        for i in range(0, len(array), _ROWS)
      )
      if not same:
        raise ValueError(
          f"{self._folder}: {self._head[1]} is not the embedding; this model"
          " has no head of its own"
        )
    return array


def is_folder(path):
  """Returns whether there are a config.json and safetensors at `path`."""
  return os.path.isdir(path) and any(
    name.endswith((".safetensors", ".safetensors.index.json"))
    for name in os.listdir(path)
  )


def write(folder, raw, specs, read, padding=None, shard=None):
  """Writes the weights and their JSON files, a layer at a time.

  Args:
    folder: str, exists and is empty.
    raw: dict, the `config.json`.
    specs: {our name: shape and dtype} to write; all have one dtype.
    read: function (name, layer) -> array, of any dtype, as a reader's.
    padding: [rows, D] for the rows after our vocabulary; by default each is
      the mean row, which no token's logits can all be below: it never wins.
    shard: int, bytes of tensors in one file, at most; default `SHARD`.

  Raises:
    ValueError: tensors that do not fit the config, or values the dtype.
    OSError: it cannot be written.
  """
  cfg, shard = hf_config.config_of(raw), shard or SHARD
  tensors.check(specs, cfg, folder)
  (dtype,) = {spec.dtype for spec in specs.values()}
  entries = list(hf_names.plan(cfg, hf_config.num_rows(raw)))
  shapes = {k: s for _, _, hub in entries for k, s in hub.items()}
  files = _shards(shapes, dtype, shard)
  arrays = _arrays(cfg, entries, read, padding)
  for file, names in files.items():
    with open(os.path.join(folder, file), "wb") as f:
      f.write(_header({name: shapes[name] for name in names}, dtype))
      for _ in names:
        for array in next(arrays):
          tensors.write_array(f, array, dtype)
  if len(files) > 1:
    total = sum(_num_bytes(shape, dtype) for shape in shapes.values())
    where = {name: file for file, names in files.items() for name in names}
    index = dict(metadata=dict(total_size=total), weight_map=where)
    _dump(folder, "model.safetensors.index.json", index)
  _dump(folder, "config.json", raw | dict(torch_dtype=str(dtype)))
  ids = dict(bos_token_id=2, eos_token_id=1, pad_token_id=0)
  _dump(folder, "generation_config.json", dict(_from_model_config=True, **ids))


def write_processor(folder, img, pp):
  """Writes the `preprocessor_config.json`; see hf_config.py."""
  images = hf_config.preprocessor_config(img, pp)
  _dump(folder, "preprocessor_config.json", images)


def _arrays(cfg, entries, read, padding):
  """Yields a tuple of arrays, to be joined, per tensor of theirs in order."""
  table = hf_names.rows_of(cfg)
  for name, layer, hub in entries:
    layout, array = table[name][1], read(name, layer)
    if name == hf_names.EMBEDDING:
      (theirs,) = hub.values()
      rest = theirs[0] - len(array)
      if padding is None or len(padding) != rest:
        padding = np.broadcast_to(
          tensors.mean_row(array), (rest, array.shape[1])
        )
      yield array, padding
    elif len(hub) == 1:
      yield (layout.to_hf(array),)
    else:
      yield from ((layout.to_hf(one),) for one in array)


def _found(folder):
  """Returns {hub name: arguments of `_mapped`} of all tensors in a folder."""
  index = os.path.join(folder, "model.safetensors.index.json")
  if os.path.isfile(index):
    files = _indexed(index)
  else:
    files = sorted(n for n in os.listdir(folder) if n.endswith(".safetensors"))
  missing = [f for f in files if not os.path.isfile(os.path.join(folder, f))]
  if missing or not files:
    raise ValueError(
      f"{folder} lacks {', '.join(missing) or 'any *.safetensors'}; was the"
      " download complete?"
    )
  found, wrong = {}, []
  for file in (os.path.join(folder, name) for name in files):
    with _opened(file) as f:
      starts = _starts(file)
      for key in f.keys():  # noqa: SIM118, it is no dict
        name = hf_names.hub_name(key)
        if re.fullmatch(_UNUSED, name):
          continue
        part = f.get_slice(key)
        if part.get_dtype() not in _DTYPES:
          wrong.append(f"! {key}: dtype {part.get_dtype()}")
          continue
        spec = jax.ShapeDtypeStruct(
          tuple(part.get_shape()), _DTYPES[part.get_dtype()]
        )
        found[name] = file, key, spec, starts[key]
  if wrong:
    raise ValueError(
      f"{folder}: wanted tensors of F32, F16 or BF16, found\n"
      + "\n".join(tree.some(wrong))
    )
  return found


def _indexed(index):
  """Returns the names of the files that an index lists."""
  try:
    with open(index, encoding="utf-8") as f:
      files = sorted(set(json.load(f)["weight_map"].values()))
    if outside := [name for name in files if os.path.basename(name) != name]:
      raise ValueError(f"{outside[0]} is not in this folder")
  except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as e:
    raise ValueError(f"{index} is no index of files: {e}") from e
  return files


def _check_names(found, folder):
  """Raises ValueError where names are those of something around a model."""
  keys = [key for _, key, _, _ in found.values()]
  if adapted := [key for key in keys if ".lora_" in key]:
    raise ValueError(
      f"{folder} holds a LoRA beside the weights that it changes"
      f" ({adapted[0]}): merge it in (merge_and_unload() of peft) and save that"
    )
  if keys and not any(re.match("|".join(_TOWERS.values()), k) for k in found):
    raise ValueError(
      f"{folder}: the names of its {len(keys)} tensors, such as {keys[0]!r},"
      " are of another model, or of something around one: save what is inside"
    )


def _check(specs, cfg, num_rows, folder, tower):
  wanted = {
    name: jax.ShapeDtypeStruct(shape, np.float32)
    for ours, _, hub in hf_names.plan(cfg, num_rows)
    for name, shape in hub.items()
    if tensors.within(ours, tower)
  }
  if report := tree.diff(wanted, specs):
    raise ValueError(f"{folder} holds other tensors than its config:\n{report}")


def _starts(file):
  """Returns where in a safetensors file the bytes of each tensor start."""
  with open(file, "rb") as f:
    size = int.from_bytes(f.read(8), "little")
    header = json.loads(f.read(size))
  header.pop("__metadata__", None)
  return {key: 8 + size + x["data_offsets"][0] for key, x in header.items()}


def _mapped(file, key, spec, start):
  """Returns a tensor of a file, mapped to memory; `key` is its name there."""
  del key
  array = np.memmap(file, spec.dtype, mode="r", offset=start, shape=spec.shape)
  return array.view(np.ndarray)


def _stacked(found, dtype):
  """Returns several tensors as one; mapped, where one follows the other."""
  (file, _, spec, start), *_ = found
  size = _num_bytes(spec.shape, spec.dtype)
  here = [(file, spec, start + i * size) for i in range(len(found))]
  if here == [(x[0], x[2], x[3]) for x in found]:
    whole = jax.ShapeDtypeStruct((len(found), *spec.shape), spec.dtype)
    return _mapped(file, "", whole, start)
  return np.stack([_mapped(*x) for x in found], dtype=dtype)


@contextlib.contextmanager
def _opened(file):
  try:
    with safetensors.safe_open(file, "np") as f:
      yield f
  except safetensors.SafetensorError as error:
    if said := downloads.kind(file):
      raise ValueError(f"{file} is {said}") from error
    raise ValueError(
      f"{file} is no safetensors file, or cut short: {error}; copy it again"
    ) from error


def _shards(shapes, dtype, shard):
  """Returns {file: [names]}, none with more bytes than `shard` if it can."""
  groups, room = [], 0
  for name, shape in shapes.items():
    size = _num_bytes(shape, dtype)
    if size > room or not groups:
      groups.append([])
      room = shard
    groups[-1].append(name)
    room -= size
  if len(groups) == 1:
    return {"model.safetensors": groups[0]}
  return {
    f"model-{i:05}-of-{len(groups):05}.safetensors": names
    for i, names in enumerate(groups, 1)
  }


def _header(shapes, dtype):
  """Returns the start of a safetensors file: its length, then JSON."""
  header, end = {"__metadata__": {"format": "pt"}}, 0
  for name, shape in shapes.items():
    start, end = end, end + _num_bytes(shape, dtype)
    header[name] = dict(
      dtype=_CODES[dtype], shape=shape, data_offsets=[start, end]
    )
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  return len(text).to_bytes(8, "little") + text


def _num_bytes(shape, dtype):
  return int(np.prod(shape)) * dtype.itemsize


def _dump(folder, name, value):
  with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
    json.dump(value, f, indent=2)
    f.write("\n")
