"""Opened weights: what they are, and at another resolution, or quantised."""

import collections
import contextlib
import dataclasses

import jax
import numpy as np

from pg.models import paligemma, quantize
from pg.pp import flavours
from pg.weights import hf_config, hub, packed, resize, tensors


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
  rows: dict = dataclasses.field(default_factory=dict)  # of prefix_lm.Form
  pp: str | None = None  # how it sees images, as recorded; None: not recorded
  flavour: str = "bv"  # of pg/pp/flavours.py, where it is not recorded
  codec: str | None = None  # of mask codes it was trained with, if recorded
  resampled: bool = False  # for another resolution than that of the files


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
  """Returns the dtype of most of the numbers of weights, and how many.

  Those that are quantised are not counted; the third is how many bytes these
  are in memory.
  """
  sizes, packed_size = collections.Counter(), 0
  of = tensors.quantized(weights.reader)
  for name, spec in weights.reader.specs.items():
    if name in of:
      packed_size += quantize.num_bytes(of[name])
    else:
      sizes[np.dtype(spec.dtype)] += int(np.prod(spec.shape))
  return max(sizes, key=sizes.get), sizes.total(), packed_size


def images(weights):
  """Returns the pipeline string that makes images for a model."""
  return weights.pp or flavours.named(weights.flavour, weights.cfg.img.res)


def quantized(weights, text):
  """Returns the same weights, quantised as they are read.

  Args:
    weights: Weights.
    text: str, the format: "int8", "int4:32"; see pg/models/quantize.py.

  Raises:
    ValueError: no such format, or groups that do not divide the inputs.
  """
  reader = packed.Quantizing(weights.reader, quantize.parse(text))
  return dataclasses.replace(weights, reader=reader, run=None)


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
    old = reader.specs[resize.POSITIONS]
    shape = (1, num_tokens, old.shape[-1])
    new = jax.ShapeDtypeStruct(shape, old.dtype)
    self.specs = {**reader.specs, resize.POSITIONS: new}
    self.close, self.quantized = reader.close, tensors.quantized(reader)

  def packed(self, name, layer=None):
    return self._reader.packed(name, layer)

  def read(self, name, layer=None):
    array = self._reader.read(name, layer)
    if name != resize.POSITIONS:
      return array
    return resize.position_embedding(array, self._num_tokens)


@contextlib.contextmanager
def naming(weights):
  """Says of values that are not finite whose they are."""
  try:
    yield
  except tensors.NotFinite as error:
    raise ValueError(f"{weights.name}: {error}") from error
