"""Assembles a PaliGemma from an image tower and a decoder of other models.

SigLIP's pooling head and text tower are left out. The projector is zero, as in
the paper (PaliGemma, section 3.1): the new decoder starts without seeing. Rows
for `<loc>` and `<seg>` tokens are drawn after the decoder's own.
"""

import contextlib
import dataclasses
import os
import re

import jax
import numpy as np

from pg import tree
from pg.codecs import tokenizer
from pg.models import gemma, paligemma, siglip
from pg.weights import hf_names, npz, tensors

GEMMA_PIECES = 256_000  # of Gemma's tokenizer; some files have rows after them
_STD = 0.02  # of new rows; better than their mean (PaliGemma, section 4.6)
_HEAD = ("img/head/kernel", "img/head/bias")


class Joined:
  """Reads two towers as one PaliGemma."""

  def __init__(self, img, llm, num_pieces, seed):
    """Joins two readers.

    Args:
      img: reader of an image tower.
      llm: reader of a decoder.
      num_pieces: int or None, rows of the decoder's embedding that are tokens;
        None is Gemma's number where there are as many, else all.
      seed: int, of the new rows.

    Raises:
      ValueError: the decoder has fewer rows.
    """
    self._towers = dict(img=img, llm=llm)
    name = hf_names.EMBEDDING
    rows, width = llm.specs[name].shape
    # Gemma's first files have 256,128 rows, padding included.
    self._rows = num_pieces or (GEMMA_PIECES if rows == 256_128 else rows)
    if self._rows > rows:
      raise ValueError(
        f"the tokenizer has {self._rows} pieces and the decoder {rows} rows; is"
        " it this model's?"
      )
    self._new = np.random.default_rng(seed).normal(
      0, _STD, (len(tokenizer.ADDED), width)
    )
    vocab_size = self._rows + len(self._new)
    self.cfg = paligemma.Config(
      img.cfg.img, dataclasses.replace(llm.cfg.llm, vocab_size=vocab_size)
    )
    dtype = llm.specs[name].dtype
    shapes = tensors.shapes(self.cfg)
    self.specs = {**img.specs, **llm.specs} | {
      key: jax.ShapeDtypeStruct(shapes[key].shape, dtype)
      for key in (name, *_HEAD)
    }

  def read(self, name, layer=None):
    spec = self.specs[name]
    if name in _HEAD:
      return np.zeros(spec.shape, spec.dtype)
    array = self._towers[name[:3]].read(name, layer)
    if name == hf_names.EMBEDDING:
      new = self._new.astype(spec.dtype)
      return np.concatenate([array[: self._rows], new])
    return array

  def close(self):
    with contextlib.ExitStack() as stack:
      for tower in self._towers.values():
        stack.callback(tower.close)


class Npz:
  """Reads one tower of a PaliGemma, SigLIP or Gemma `.npz` by our names.

  Elsewhere the tower may be the whole file, and each layer a tensor of its own
  (`encoderblock_0`, `layer_0`).
  """

  def __init__(self, path, tower):
    """Opens the file.

    Args:
      path: str.
      tower: "img" or "llm".

    Raises:
      ValueError: a file that cannot be read or has no such tower, or tensors
        that are missing or have other shapes, which are listed.
    """
    self._reader = npz.Reader(path)
    self._stored = {}  # our name -> {layer, or None: stored name}
    for stored in self._reader.specs:
      name, layer = _ours(stored, tower)
      if name:
        self._stored.setdefault(name, {})[layer] = stored
    self.specs = {
      name: self._spec(path, name, layers)
      for name, layers in self._stored.items()
    }
    shapes = {name: spec.shape for name, spec in self.specs.items()}
    try:
      made = dict(img=npz.img_config, llm=npz.llm_config)[tower](shapes)
    except (KeyError, IndexError, ValueError) as error:
      raise ValueError(
        f"{path} has no tower {tower!r}: {error} is missing or has an unusual"
        f" shape; found {', '.join(tree.some(list(self._reader.specs)))}"
      ) from error
    parts = dict(img=siglip.Config(), llm=gemma.Config()) | {tower: made}
    self.cfg = paligemma.Config(**parts)
    tensors.check(self.specs, self.cfg, os.fspath(path), tower)

  def read(self, name, layer=None):
    layers = self._stored[name]
    if None in layers:
      return self._reader.read(layers[None], layer)
    if layer is None:
      return np.stack([self._reader.read(layers[i]) for i in sorted(layers)])
    return self._reader.read(layers[layer])

  def close(self):
    self._reader.close()

  def _spec(self, path, name, layers):
    """Returns shape and dtype of a tensor that may be stored in layers."""
    specs = {k: self._reader.specs[stored] for k, stored in layers.items()}
    if None in specs:
      return specs[None]
    first = specs.get(0)
    if list(sorted(specs)) != list(range(len(specs))) or any(
      (x.shape, x.dtype) != (first.shape, first.dtype) for x in specs.values()
    ):
      found = [f"{k} {x.shape} {x.dtype}" for k, x in specs.items()]
      raise ValueError(
        f"{path}: the layers of {name} are not alike or not all there: found"
        f" {', '.join(tree.some(found))}"
      )
    return jax.ShapeDtypeStruct((len(specs), *first.shape), first.dtype)


# What a tensor is called inside its tower; Gemma's own files say "layer_0" and
# have an array "w" in every module.
_INSIDE = dict(
  img=r"(?:img/)?(?P<start>Transformer/encoderblock|Transformer/encoder_norm"
  r"|embedding|pos_embedding)(?:_(?P<layer>\d+))?(?P<rest>(?:/.*)?)",
  llm=r"(?:llm/|transformer/)?(?P<start>layer|embedder|final_norm)"
  r"(?:s|_(?P<layer>\d+))?(?P<rest>/.*)",
)


def _ours(stored, tower):
  """Returns our name of a stored tensor and its layer; None if not wanted."""
  match = re.fullmatch(_INSIDE[tower], stored)
  if not match:
    return None, None
  start = match["start"] + "s" * (match["start"] == "layer")
  rest = re.sub(r"^(/mlp/\w+)/w$", r"\1", match["rest"])
  layer = match["layer"]
  return f"{tower}/{start}{rest}", layer and int(layer)
