"""Downloads as they come: where the weights are in them, or what they lack."""

import contextlib
import glob
import json
import os
import zipfile

from pg.weights import checkpoint

_TORCH = (
  "PyTorch's pickle, which is never opened: it could run anything. If you trust"
  " it, convert it to safetensors where transformers is installed:"
  ' python -c "from transformers import PaliGemmaForConditionalGeneration as P;'
  " P.from_pretrained('NAME').save_pretrained('NEW')\""
)
_UNPACK = "unpack it, then name what was in it"
# First bytes -> what a file is, and what to do.
_BEGINS = {
  b"\x1f\x8b": f"an archive (gzip): {_UNPACK}",
  b"BZh": f"an archive (bzip2): {_UNPACK}",
  b"\xfd7zXZ": f"an archive (xz): {_UNPACK}",
  b"\x28\xb5\x2f\xfd": f"an archive (zstd): {_UNPACK}",
  b"\x80": _TORCH,
  b"GGUF": "llama.cpp's, mostly quantised: take the model's *.safetensors",
  b"\x89HDF": "Keras's: take the model's *.safetensors or .npz",
  b"version https://git-lfs": "a pointer of Git LFS, without the file itself:"
  " git lfs pull",
  b"<!DOCTYPE": "a web page, such as one that asks for a login: open it",
  b"<html": "a web page, such as one that asks for a login: open it",
}
_FOLDER = (".safetensors", ".safetensors.index.json")


def inside(path, name):
  """Returns where weights are at a path: itself, or the only .npz in a folder.

  Args:
    path: str, a file, a folder, or a bucket's, which is not looked at.
    name: str, what the user called it.

  Raises:
    ValueError: an intact download that has to be made into weights first; the
      message says of what kind it is and how that is done.
  """
  try:
    return _inside(path)
  except ValueError as error:
    folder = os.path.dirname(path) if os.path.isfile(path) else path
    theirs = name[5:] if name.startswith("hf://") else folder
    raise ValueError(str(error).replace("'NAME'", repr(theirs))) from None


def _inside(path):
  if os.path.isfile(path):
    with open(path, "rb") as f:
      if _is_safetensors(f.read(9)):
        raise ValueError(
          f"{path} is one file of a Hugging Face folder: name the folder, with"
          " its config.json"
        )
    if said := kind(path):
      raise ValueError(f"{path} is {said}")
    return path
  if not os.path.isdir(path):
    return path
  names = sorted(os.listdir(path))
  _check_adapter(path, names)
  if any(name.endswith(_FOLDER) for name in names):
    return path
  with contextlib.suppress(ValueError):
    checkpoint.workdir_of(path)
    return path
  arrays = [name for name in names if name.endswith(".npz")]
  if len(arrays) == 1:
    return _inside(os.path.join(path, arrays[0]))
  if arrays:
    raise ValueError(f"{path} holds {', '.join(arrays)}: name one of them")
  for name in names:
    file = os.path.join(path, name)
    if os.path.isfile(file) and (said := kind(file)):
      raise ValueError(f"{path} has no weights but {name}, which is {said}")
  for pattern in ("*/*", "*/*/*", "*/*/*/*"):
    for ending in (".safetensors", ".npz"):
      for file in sorted(glob.glob(os.path.join(path, pattern + ending))):
        raise ValueError(
          f"{path} has weights further inside: name {os.path.dirname(file)}"
        )
  if _json(path, "config.json").get("model_type"):
    raise ValueError(
      f"{path} has a config.json and no *.safetensors beside it. Were they left"
      f" out? If there are only pytorch_model*.bin, that is {_TORCH}"
    )
  return path


def kind(file):
  """Says what a file is that holds no weights as they are read here, or None.

  An .npz and a file that is damaged are None, too.
  """
  with open(file, "rb") as f:
    start = f.read(512)
  if _is_safetensors(start):  # its first bytes, a size, may be any
    return None
  for begin, said in _BEGINS.items():
    if start.startswith(begin):
      return said
  if start[257:262] == b"ustar":
    return f"an archive (tar): {_UNPACK}"
  if start[:2] == b"PK":
    return _zip_kind(file)
  return None


def _is_safetensors(start):
  return start[5:9] == b"\0\0\0{"


def _zip_kind(file):
  """Says what a zip is, if it is neither an .npz nor damaged."""
  try:
    with zipfile.ZipFile(file) as z:
      names = z.namelist()
  except zipfile.BadZipFile:
    return None
  if any(name.endswith("/data.pkl") for name in names):
    return _TORCH
  if any(name.endswith(".npy") for name in names):
    return None
  return f"an archive (zip): {_UNPACK}"


def _check_adapter(path, names):
  """Raises ValueError where a folder is a LoRA of peft, without its base."""
  if "adapter_config.json" not in names or "config.json" in names:
    return
  base = _json(path, "adapter_config.json").get("base_model_name_or_path")
  raise ValueError(
    f"{path} is a LoRA adapter of {base or 'a model that it does not name'}:"
    " name its base, or merge the two with peft (merge_and_unload(), then"
    " save_pretrained()) and name what that writes"
  )


def _json(folder, name):
  with contextlib.suppress(OSError, RecursionError, ValueError):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
      said = json.load(f)
    return said if isinstance(said, dict) else {}
  return {}
