"""Parameters to start from, in any public form, wherever they lie.

A name is an `.npz`, a Hugging Face folder, `hf://owner/repository[@revision]`
or a URL of one; everything else is left to `checkpoint`.
"""

import dataclasses
import os

from pg.weights import hf, hub, npz, resize


def find(name):
  """Returns the local path of released weights, None if the name has none.

  What lies elsewhere is downloaded into a cache.

  Raises:
    ValueError, OSError: it cannot be had; see `hub.resolve`.
  """
  path = hub.resolve(name) if "://" in name else name
  return path if path.endswith(".npz") or hf.is_folder(path) else None


def load_params(path, cfg):
  """Reads parameters into a nested dict of numpy arrays, f32 or bf16.

  A position embedding of another resolution is resampled to that of `cfg`.

  Args:
    path: str, as `find` returns it.
    cfg: paligemma.Config that all other tensors must fit.

  Raises:
    ValueError: a file that cannot be read, or of another model.
  """
  module = hf if hf.is_folder(path) else npz
  reader = module.Reader(path)
  num_tokens = reader.specs["img/pos_embedding"].shape[1]
  reader.close()
  res = round(num_tokens**0.5) * cfg.img.patch
  theirs = dataclasses.replace(cfg, img=dataclasses.replace(cfg.img, res=res))
  params = module.load_params(path, theirs)
  table = params["img"]["pos_embedding"]
  params["img"]["pos_embedding"] = resize.position_embedding(
    table, cfg.img.num_tokens
  )
  return params


def tokenizer_of(path):
  """Returns the tokenizer file that comes with weights.

  Raises:
    ValueError: there is none; the message says where to get it.
  """
  folder = path if os.path.isdir(path) else path.removesuffix(".npz") + ".hf"
  file = os.path.join(folder, "tokenizer.model")
  if not os.path.isfile(file):
    raise ValueError(
      f"{path} comes without a tokenizer; set --config.tokenizer to the file"
      f" it was trained with: {hub.tokenizer_hint()}"
    )
  return file
