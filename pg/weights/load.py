"""Opens weights of any format, local or remote, by one name.

nano                              the small model that comes with pg
pt_224.npz, mine_hf, runs/vqav2   an .npz, a Hugging Face folder, a run of
                                  ours or one checkpoint in it
pi0_base/params                   the PaliGemma in a policy of openpi's
hf://google/paligemma-3b-pt-224   the same elsewhere; see pg/weights/hub.py
                                  and kaggle.py
runs/vqav2:best, runs/vqav2:ema   of a run that has them, its best checkpoint
                                  or the newest one's averaged parameters
weights.npz:img                   one tower of it, "img" or "llm"
img=SIGLIP,llm=GEMMA              a new PaliGemma of two towers; one alone
                                  is the same as NAME:img
weights.npz+runs/lora             weights with an adapter added: of a run that
                                  trained one, or a PEFT folder; a run's alone
                                  is added to the weights it was trained on
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re

import numpy as np

from pg import config
from pg.codecs import tokenizer as tokenizer_lib
from pg.data.storage import bucket, remote
from pg.models import quantize, variants
from pg.pp import flavours
from pg.weights import (
  adapters,
  checkpoint,
  downloads,
  hf,
  hf_config,
  hub,
  npz,
  opened,
  openpi,
  orbax,
  packed,
  peft,
  towers,
)

BESIDE = "hf"  # the folder beside an .npz, or in a run, with the rest
PADDING = "padding.npy"
_TOKENIZERS = ("tokenizer.model", "paligemma_tokenizer.model")
_TOWERS = ("img", "llm")
_PART = re.compile(r"(img|llm)=")


def open(name, *, seed=0):  # noqa: A001, it is load.open
  """Opens weights; nothing is read but what they are.

  Args:
    name: str, see above.
    seed: int, of the rows that a new PaliGemma's embedding gets.

  Returns:
    Weights.

  Raises:
    ValueError, OSError: there are none, they cannot be had or read.
  """
  name = os.fspath(name)
  base, adapter = split_adapter(name)
  if adapter:
    return open_adapter(open(base, seed=seed), adapter)
  if _PART.match(name):
    return _open_towers(name, seed)
  path, tower = hub.split_subtree(name)
  if tower in checkpoint.CHOICES:
    return _open_run(name, name)
  if tower:
    config.lookup(dict.fromkeys(_TOWERS), tower, "tower")
    return _open_tower(path, tower)
  path = _local(path)
  is_packed = packed.is_file(path)
  path = path if is_packed else downloads.inside(path, name)
  if os.path.isfile(path):
    reader = packed.Reader(path) if is_packed else npz.Reader(path)
    if os.path.isdir(folder := beside(path)):
      return _with_beside(name, reader, folder)
    if openpi.is_theirs(reader.specs):
      reader = openpi.Renamed(reader, name)
    cfg = npz.config_of(reader.specs)
    return opened.Weights(name, reader, cfg, tokenizer=_tokenizer_of(path, cfg))
  if hf.is_folder(path):
    reader = hf.Reader(path)
    model = _file(path, "tokenizer.model")
    rest = dict(padding=reader.padding, files=path, tokenizer=model)
    rest |= dict(pp=hf_config.pp(path, reader.cfg.img.res), flavour="hf")
    return opened.Weights(name, reader, reader.cfg, reader.raw, **rest)
  if theirs := openpi.folder(path):
    reader = openpi.open_folder(theirs, name)
    return opened.Weights(name, reader, npz.config_of(reader.specs))
  return _open_run(name, path)


def split_adapter(name):
  """Splits WEIGHTS+ADAPTER; returns `(name, None)` of any other name.

  A "+" may also be part of a path or URL: one that splits has weights before it
  or an adapter after it, as far as that can be seen from here.
  """
  if os.path.exists(name):
    return name, None
  for plus in reversed(list(re.finditer(r"\+", name))):
    base, adapter = name[: plus.start()], name[plus.end() :]
    path, choice = hub.split_subtree(adapter)
    is_weights = _PART.match(base) or hub.is_repository(base)
    is_weights = is_weights or base == hub.NANO
    is_adapter = choice in checkpoint.CHOICES or hub.is_url(path)
    if (
      is_weights
      or is_adapter
      or any(map(os.path.exists, (hub.split_subtree(base)[0], path)))
    ):
      return base, adapter
  return name, None


def beside(path):
  """Returns the folder that holds what an .npz has no place for."""
  return f"{os.path.splitext(path)[0]}.{BESIDE}"


def tokenizer_of(name):
  """Returns the SentencePiece file that comes with named weights.

  Args:
    name: str, see above; "" for weights that are drawn: the tiny one.

  Raises:
    ValueError, OSError: they come without one, or cannot be opened.
  """
  if not name:
    return tokenizer_lib.NANO
  if hub.is_repository(name):
    # Without gigabytes of weights, where they have it as a file.
    with contextlib.suppress(ValueError):
      return hub.resolve(f"{name}/tokenizer.model")
  weights = open(name)
  weights.reader.close()
  return opened.need_tokenizer(weights)


def _local(path):
  """Returns a path that can be opened; runs of ours are not downloaded."""
  if bucket.is_bucket(path):
    try:
      checkpoint.workdir_of(path)
    except ValueError:  # it is none of ours
      return hub.resolve(path)
    return str(checkpoint.find(path))
  return hub.resolve(path)


def of_run(workdir, name):
  """Returns the path here of what is in a run's folder, or would be."""
  path = os.path.join(workdir, name)
  there = bucket.is_bucket(workdir) and name in bucket.children(workdir)
  return remote.fetch(path) if there else path


def _file(folder, name):
  path = os.path.join(folder, name)
  return path if os.path.isfile(path) else None


def _tokenizer_of(path, cfg):
  """Returns the SentencePiece file in the folder of an .npz, if it fits."""
  for name in _TOKENIZERS:
    model = _file(os.path.dirname(path), name)
    if model:
      tok = tokenizer_lib.Tokenizer(model)
      if tok.vocab_size == cfg.llm.vocab_size:
        return model
  return None


def _with_beside(name, reader, folder, **more):
  """Returns Weights whose config and tokenizer lie in a folder."""
  raw, padding = hf_config.read(folder), _file(folder, PADDING)
  cfg = hf_config.config_of(raw)
  return opened.Weights(
    name,
    reader,
    cfg,
    raw,
    np.load(padding, allow_pickle=False) if padding else None,
    folder,
    _file(folder, "tokenizer.model"),
    pp=hf_config.pp(folder, cfg.img.res),
    **more,
  )


def open_adapter(base, name):
  """Opens weights with an adapter.

  Args:
    base: Weights.
    name: str, a run that trained one of these weights, or a PEFT folder.

  Returns:
    Weights, whose reader has the `adapter`.

  Raises:
    ValueError, OSError: there is none, or it does not fit.
  """
  path, choice = hub.split_subtree(name)
  if choice in checkpoint.CHOICES:
    return _open_run(name, name, base)
  path = _local(path)
  if not peft.is_folder(path):
    return _open_run(name, path, base)
  adapter = adapters.Adapter(name, *peft.read(path, base.cfg))
  return _adapted(base, base, adapter)


def _adapted(base, own, adapter):
  """Returns `own` whose weights are those of `base` with an adapter."""
  adapters.check(adapter, base.reader.specs, base.name)
  reader = adapters.Summed(base.reader, base.name, adapter.checksums)
  base = dataclasses.replace(base, reader=reader)
  base = opened.at_resolution(base, own.cfg.img.res)
  if adapter.frozen_dtype in quantize.DTYPES:  # as they were in training
    base = opened.quantized(base, adapter.frozen_dtype)
  return dataclasses.replace(
    own,
    name=f"{base.name}+{adapter.name}",
    reader=adapters.Merged(base.reader, adapter),
    raw=base.raw,
    padding=base.padding,
    files=base.files,
    run=None,
  )


def _open_run(name, path, base=None):
  """Opens a run of ours, or a checkpoint in it.

  Args:
    name: str, for messages.
    path: str.
    base: Weights of which it is to be an adapter; None as the run says.
  """
  reader = orbax.Reader(path)
  workdir = checkpoint.workdir_of(path)
  if os.path.isdir(folder := of_run(workdir, BESIDE)):
    return _with_beside(name, reader, folder, run=path)
  file = of_run(workdir, "config.json")
  model = of_run(workdir, "tokenizer.model")
  try:
    c = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
  except OSError as error:
    raise ValueError(
      f"no config.json in {workdir}; is it a run's --workdir?"
    ) from error
  cfg = variants.from_config(
    {**c["model"], "res": c["res"], "dtype": "float32"},
    tokenizer_lib.Tokenizer(model).vocab_size,
  )
  rows = {k: c[k] for k in ("num_images", "text_len")}
  rest = dict(rows=rows | dict(prompt=c.get("prompt", "full")))
  rest |= dict(tokenizer=model, run=path, pp=flavours.of_run(c))
  rest |= dict(codec=flavours.codec_of(c))
  own = opened.Weights(name, reader, cfg, **rest)
  if not c.get("lora", {}).get("rank"):
    if base:
      raise ValueError(f"{name} is no adapter: its run trained all weights")
    return own
  adapter = adapters.of_run(name, reader, c, checkpoint.meta(path))
  reader.close()
  return _adapted(base or open(c["init"]), own, adapter)


def _open_tower(name, tower):
  path = downloads.inside(_local(name), name)
  make = hf.Reader if hf.is_folder(path) else towers.Npz
  if not (os.path.isfile(path) or hf.is_folder(path)):
    raise ValueError(
      f"{name}: one tower is read from an .npz or a Hugging Face folder;"
      " convert a run of ours first (python -m pg.convert)"
    )
  reader = make(path, tower)
  folder = path if os.path.isdir(path) else beside(path)
  model = _file(folder, "tokenizer.model")
  rest = dict(tokenizer=model, tower=tower)
  if tower == "img":
    rest["pp"] = hf_config.pp(folder, reader.cfg.img.res)
    rest["flavour"] = "hf" if folder == path else "bv"
  return opened.Weights(f"{name}:{tower}", reader, reader.cfg, **rest)


def _open_towers(name, seed):
  """Opens `img=NAME,llm=NAME`, or one of both."""
  parts = [x.partition("=") for x in re.split(r",(?=img=|llm=)", name)]
  found = {tower: _open_tower(path, tower) for tower, _, path in parts}
  if len(found) < len(parts):
    raise ValueError(f"{name} names the same tower twice")
  if len(found) == 1:
    return next(iter(found.values()))
  model = found["llm"].tokenizer
  num_pieces = None
  if model:
    tok = tokenizer_lib.Tokenizer(model)
    num_pieces = tok.vocab_size - len(tokenizer_lib.ADDED)
  readers = [found[tower].reader for tower in _TOWERS]
  joined = towers.Joined(*readers, num_pieces, seed)
  rest = dict(pp=found["img"].pp, flavour=found["img"].flavour)
  return opened.Weights(name, joined, joined.cfg, tokenizer=model, **rest)
