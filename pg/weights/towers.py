"""A new PaliGemma from an image tower and a decoder of other models.

SigLIP's pooling head and text tower are left out. The projector is zero, as in
the paper (PaliGemma, section 3.1): the new decoder starts without seeing. Rows
for `<loc>` and `<seg>` tokens are drawn behind the decoder's own.
"""

import contextlib
import dataclasses

import jax
import numpy as np

from pg.codecs import tokenizer
from pg.models import paligemma
from pg.weights import hf, hf_names, npz, tensors

GEMMA_PIECES = 256_000  # of Gemma's tokenizer; some files have rows behind them
_STD = 0.02  # of new rows; better than their mean (PaliGemma, section 4.6)
_HEAD = ("img/head/kernel", "img/head/bias")


def reader(path, tower):
  """Opens one tower of a file or folder.

  Args:
    path: str, an .npz or a Hugging Face folder: a PaliGemma, or a SigLIP
      ("img") or Gemma ("llm") alone.
    tower: "img" or "llm".

  Returns:
    A reader (see `pg/weights/tensors.py`) with an attribute `cfg`, a
    paligemma.Config of which only that tower means something.

  Raises:
    ValueError: no such tower there, or a file that cannot be read.
  """
  make = hf.Reader if hf.is_folder(path) else npz.Tower
  return make(path, tower)


class Joined:
  """Reads two towers as one PaliGemma; see `pg/weights/tensors.py`.

  Attributes:
    cfg: paligemma.Config.
  """

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
    """Returns one layer of a tensor, or all of it, in the stored dtype.

    Raises:
      ValueError: a file is damaged.
    """
    spec = self.specs[name]
    if name in _HEAD:
      return np.zeros(spec.shape, spec.dtype)
    array = self._towers[name[:3]].read(name, layer)
    if name == hf_names.EMBEDDING:
      new = self._new.astype(spec.dtype)
      return np.concatenate([array[: self._rows], new])
    return array

  def close(self):
    """Closes both."""
    with contextlib.ExitStack() as stack:
      for tower in self._towers.values():
        stack.callback(tower.close)
