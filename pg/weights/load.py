"""Opens weights of any format, local or remote, by one name.

pt_224.npz, mine_hf, runs/vqav2   an .npz, a Hugging Face folder, a run of
                                  ours or one checkpoint in it
hf://google/paligemma-3b-pt-224   the same elsewhere; see pg/weights/hub.py
runs/vqav2:best, runs/vqav2:ema   of a run that has them, its best checkpoint
                                  or the newest one's averaged parameters
weights.npz:img                   one tower of it, "img" or "llm"
img=SIGLIP,llm=GEMMA              a new PaliGemma of two towers; one alone
                                  is the same as NAME:img
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import re

import jax
import numpy as np

from pg import config
from pg.codecs import tokenizer as tokenizer_lib
from pg.data.storage import bucket, remote
from pg.models import paligemma, variants
from pg.pp import flavours
from pg.weights import (
  checkpoint,
  downloads,
  hf,
  hf_config,
  hub,
  npz,
  orbax,
  resize,
  towers,
)

BESIDE = "hf"  # the folder beside an .npz, or in a run, with the rest
PADDING = "padding.npy"
_TOWERS = ("img", "llm")
_POSITIONS = "img/pos_embedding"
_PART = re.compile(r"(img|llm)=")


@dataclasses.dataclass
class Weights:
  """Opened weights with their config, tokenizer and other files."""

  name: str
  reader: object  # see pg/weights/tensors.py
  cfg: paligemma.Config
  raw: dict | None = None  # as a config.json; None: what `cfg` says
  padding: np.ndarray | None = None  # rows of the embedding after ours
  files: str | None = None  # folder of tokenizer and processor files
  tokenizer: str | None = None  # SentencePiece file
  tower: str | None = None  # the only one there is; None is all
  run: str | None = None  # the run of ours, or a checkpoint in it
  rows: dict = dataclasses.field(default_factory=dict)  # text_len, num_images
  pp: str | None = None  # how it sees images, as recorded; None: not recorded
  flavour: str = "bv"  # of pg/pp/flavours.py, where it is not recorded
  codec: str | None = None  # of mask codes it was trained with, if recorded
  resampled: bool = False  # for another resolution than that of the files


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
  if _PART.match(name):
    return _open_towers(name, seed)
  path, tower = hub.split_subtree(name)
  if tower in checkpoint.CHOICES:
    return _open_run(name, name)
  if tower:
    config.lookup(dict.fromkeys(_TOWERS), tower, "tower")
    return _open_tower(path, tower)
  path = downloads.inside(_local(path), name)
  if os.path.isfile(path):
    reader = npz.Reader(path)
    if os.path.isdir(folder := beside(path)):
      return _with_beside(name, reader, folder)
    return Weights(name, reader, npz.config_of(reader.specs))
  if hf.is_folder(path):
    reader = hf.Reader(path)
    model = _file(path, "tokenizer.model")
    rest = dict(padding=reader.padding, files=path, tokenizer=model)
    rest |= dict(pp=hf_config.pp(path, reader.cfg.img.res), flavour="hf")
    return Weights(name, reader, reader.cfg, reader.raw, **rest)
  return _open_run(name, path)


def beside(path):
  """Returns the folder that holds what an .npz has no place for."""
  return f"{os.fspath(path).removesuffix('.npz')}.{BESIDE}"


def need_tokenizer(weights):
  """Returns the SentencePiece file that comes with weights.

  Raises:
    ValueError: there is none; the message says where to get it.
  """
  if weights.tokenizer is None:
    raise ValueError(
      f"{weights.name} comes without a tokenizer; name the file it was trained"
      f" with (--config.tokenizer, --tokenizer): {hub.tokenizer_hint()}"
    )
  return weights.tokenizer


def stored(weights):
  """Returns the dtype of most of the numbers of weights, and how many."""
  sizes = collections.Counter()
  for spec in weights.reader.specs.values():
    sizes[np.dtype(spec.dtype)] += int(np.prod(spec.shape))
  return max(sizes, key=sizes.get), sizes.total()


def images(weights):
  """Returns the pipeline string that makes images for a model."""
  return weights.pp or flavours.named(weights.flavour, weights.cfg.img.res)


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
  return need_tokenizer(weights)


def at_resolution(weights, res):
  """Returns the same weights with position embeddings for `res` pixels.

  Raises:
    ValueError: `res` is not a multiple of the patch size.
  """
  if weights.tower == "llm" or res == weights.cfg.img.res:
    return weights
  old, img = weights.cfg.img.res, dataclasses.replace(weights.cfg.img, res=res)
  return dataclasses.replace(
    weights,
    pp=weights.pp and flavours.at_resolution(weights.pp, old, res),
    reader=_Resampled(weights.reader, img.num_tokens),
    cfg=dataclasses.replace(weights.cfg, img=img),
    raw=weights.raw and hf_config.at_resolution(weights.raw, img),
    resampled=True,
  )


class _Resampled:
  """A reader whose position embeddings have another number of tokens."""

  def __init__(self, reader, num_tokens):
    self._reader, self._num_tokens = reader, num_tokens
    old = reader.specs[_POSITIONS]
    shape = (1, num_tokens, old.shape[-1])
    new = jax.ShapeDtypeStruct(shape, old.dtype)
    self.specs = {**reader.specs, _POSITIONS: new}
    self.close = reader.close

  def read(self, name, layer=None):
    array = self._reader.read(name, layer)
    if name != _POSITIONS:
      return array
    return resize.position_embedding(array, self._num_tokens)


def _local(path):
  """Returns a path that can be opened; runs of ours are not downloaded."""
  if bucket.is_bucket(path):
    try:
      checkpoint.workdir_of(path)
    except ValueError:  # it is none of ours
      return hub.resolve(path)
    return str(checkpoint.find(path))
  return hub.resolve(path)


def _of_run(workdir, name):
  """Returns the path here of what is in a run's folder, or would be."""
  path = os.path.join(workdir, name)
  there = bucket.is_bucket(workdir) and name in bucket.children(workdir)
  return remote.fetch(path) if there else path


def _file(folder, name):
  path = os.path.join(folder, name)
  return path if os.path.isfile(path) else None


def _with_beside(name, reader, folder, **more):
  """Returns Weights whose config and tokenizer lie in a folder."""
  raw, padding = hf_config.read(folder), _file(folder, PADDING)
  cfg = hf_config.config_of(raw)
  return Weights(
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


def _open_run(name, path):
  """Opens a run of ours, or a checkpoint in it."""
  reader = orbax.Reader(path)
  workdir = checkpoint.workdir_of(path)
  if os.path.isdir(folder := _of_run(workdir, BESIDE)):
    return _with_beside(name, reader, folder, run=path)
  file = _of_run(workdir, "config.json")
  model = _of_run(workdir, "tokenizer.model")
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
  rest = dict(rows={k: c[k] for k in ("num_images", "text_len")})
  rest |= dict(tokenizer=model, run=path, pp=flavours.of_run(c))
  rest |= dict(codec=flavours.codec_of(c))
  return Weights(name, reader, cfg, **rest)


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
  return Weights(f"{name}:{tower}", reader, reader.cfg, **rest)


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
  return Weights(name, joined, joined.cfg, tokenizer=model, **rest)
