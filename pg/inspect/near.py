"""Finds images that are one image, in another size or encoded anew.

An image becomes 17 x 16 grey values; 256 bits say where one is brighter than
its right neighbour by more than noise. Two images are the same if all 32 bits
of one of eight stripes are equal, and all grey values nearly are. An image
without such steps, as one of a single colour, is like no other.
"""

import numpy as np

from pg.pp import resize

_WIDTH, _HEIGHT = 17, 16
_STEP = 4  # grey levels between neighbours that encoding does not make
_APART = 4.0  # grey levels by which a copy differs, in the mean


class Index:
  """Images to compare others with, in some 2 KB of memory for each."""

  def __init__(self):
    self._thumbs, self._names, self._of = [], [], {}

  def add(self, thumb, name):
    """Adds an image.

    Args:
      thumb: what `thumb` returned.
      name: str, what `find` returns.
    """
    for key in _keys(thumb):
      self._of.setdefault(key, []).append(len(self._names))
    self._thumbs.append(thumb)
    self._names.append(name)

  def find(self, thumb):
    """Returns the name of the first image that is the same, or None."""
    like = sorted({i for key in _keys(thumb) for i in self._of.get(key, ())})
    for i in like:
      apart = np.abs(self._thumbs[i].astype(int) - thumb)
      if apart.mean() < _APART:
        return self._names[i]
    return None


def thumb(image):
  """Returns an image u8[height, width, 3] as grey values u8[16, 17]."""
  small = resize.stretch(image, (_HEIGHT, _WIDTH), "area", antialias=True)
  return small.mean(axis=-1).astype(np.uint8)


def _keys(thumb):
  """Returns stripe << 32 | bits of all stripes that have a step, ints."""
  bits = np.diff(thumb.astype(int), axis=1) < -_STEP
  stripes = np.packbits(bits.reshape(8, 32), axis=1).view(">u4")[:, 0]
  return [i << 32 | bits for i, bits in enumerate(stripes.tolist()) if bits]
